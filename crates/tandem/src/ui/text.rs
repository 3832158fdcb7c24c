//! Text in columns: how wide it is, how it is cut, wrapped and made harmless.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns the text takes. Counts no colours: paint afterwards.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text with spaces behind it, up to so many columns.
pub(crate) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// The text in at most so many columns; an ellipsis stands for what is cut off its end.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 1;
    for c in text.chars() {
        taken += c.width().unwrap_or(0);
        if taken > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

/// The text without what a terminal would obey: escape sequences and control characters. A tab becomes a space.
pub(crate) fn harmless(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\t' => clean.push(' '),
            // An escape sequence goes on to its final letter (ECMA-48, section 5.4).
            '\x1b' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next_if(|c| !('\x40'..='\x7e').contains(c)).is_some() {}
                    chars.next();
                }
            }
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

/// Breaks text at spaces into lines of at most so many columns. Its own line ends stay; a longer word stays whole, so
/// that a path or command can be copied.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_inclusive(' ') {
            if !line.is_empty() && width(&line) + width(word.trim_end()) > columns {
                lines.push(line.trim_end().to_owned());
                line.clear();
            }
            line.push_str(word);
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// A length of time as people read it: `0.4s`, `12.0s`, `3m05s`.
pub(crate) fn elapsed(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1}s", time.as_secs_f64()),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

/// A count with its noun: `1 object`, `2 objects`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_text_fits_its_columns_whatever_the_script() {
        assert_eq!(cut("short", 5), "short");
        assert_eq!(cut("longer", 5), "long…");
        assert_eq!(cut("日本語の名前", 6), "日本…");
        assert_eq!(cut("x", 0), "");
    }

    #[test]
    fn nothing_in_a_line_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("\x1b[31mred\x1b[0m\tand\r\x07 bell"), "red and bell");
        assert_eq!(harmless("\x1b[2J\x1b]0;title\x07x"), "]0;titlex");
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("see /a/very/long/path now", 8), ["see", "/a/very/long/path", "now"]);
        assert_eq!(wrapped("a\nb", 8), ["a", "b"]);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(elapsed(Duration::from_millis(420)), "0.4s");
        assert_eq!(elapsed(Duration::from_secs(185)), "3m05s");
    }
}
