//! Where in a file something is, and how that is shown.

use std::fmt;

/// A position in a source file. Line and column count from 1; a column is a character, not a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Relative to the project's folder, with `/`.
    pub file: String,
    pub line: usize,
    pub column: usize,
}

impl Place {
    /// The place of a byte offset. An offset beyond the end is the end.
    pub fn at(file: &str, source: &str, offset: usize) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Characters of a line that are shown on each side of the caret; bundled files have lines of megabytes.
const MARGIN: usize = 72;

/// The line of the source with a caret under the place:
///
/// ```text
///   3 | let x = = 4;
///     |         ^
/// ```
pub(crate) fn frame(source: &str, place: &Place) -> String {
    source
        .lines()
        .nth(place.line - 1)
        .map_or_else(String::new, |line| frame_of(line, place.line, place.column))
}

/// As [`frame`], of a line by itself.
pub(crate) fn frame_of(line: &str, number: usize, column: usize) -> String {
    let caret = column.saturating_sub(1);
    let skipped = caret.saturating_sub(MARGIN);
    let shown: String = line.chars().skip(skipped).take(2 * MARGIN).collect();
    // A tab under a tab keeps the caret in its column, however wide the terminal draws it.
    let pad: String =
        shown.chars().take(caret - skipped).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let number = number.to_string();
    let gutter = " ".repeat(number.len());
    format!("  {number} | {}\n  {gutter} | {pad}^", shown.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_puts_the_caret_under_the_character() {
        let source = "const a = 1;\n\tlet ü = = 4;\n";
        let place = Place::at("index.js", source, source.rfind("= 4").unwrap());
        assert_eq!(place.to_string(), "index.js:2:10");
        assert_eq!(frame(source, &place), "  2 | \tlet ü = = 4;\n    | \t        ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_caret() {
        let source = format!("{}!{}", "a".repeat(5000), "b".repeat(5000));
        let place = Place::at("x.js", &source, 5000);
        let frame = frame(&source, &place);
        assert!(frame.len() < 400, "{}", frame.len());
        let (line, caret) = frame.split_once('\n').unwrap();
        assert_eq!(line.find('!'), caret.find('^'));
    }

    #[test]
    fn an_offset_beyond_the_end_is_the_end() {
        assert_eq!(Place::at("x.js", "ab\n", 99).to_string(), "x.js:2:1");
        assert_eq!(frame("ab\n", &Place::at("x.js", "ab\n", 99)), "");
    }
}
