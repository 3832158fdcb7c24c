//! A page of documentation on a terminal: the little of Markdown that the pages use, wrapped and painted.

use super::{
    style::{Paint, Style},
    text,
};

/// The most columns of running text: longer lines are hard to read, however wide the window is.
const MEASURE: usize = 88;

/// Headings, paragraphs, lists, indented code and tables, as lines of at most the style's width. Code is left as it is.
pub(crate) fn page(markdown: &str, style: Style) -> String {
    let width = style.width.min(MEASURE);
    let mut lines = Vec::new();
    for block in blocks(markdown) {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        match block {
            Block::Heading(text) => lines.extend(
                text::wrapped(&plain(text), width).iter().map(|line| style.paint(Paint::Strong, line)),
            ),
            Block::Code(code) => lines.extend(code.iter().map(|line| (*line).to_owned())),
            Block::Paragraph(text) => lines.extend(flowed(&text, "", width, style)),
            Block::Item(text) => lines.extend(flowed(&text, "  ", width, style)),
        }
    }
    lines.join("\n") + "\n"
}

enum Block<'a> {
    Heading(&'a str),
    Paragraph(String),
    /// With its mark.
    Item(String),
    Code(Vec<&'a str>),
}

fn blocks(markdown: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    // Whether the next line goes on with the last block.
    let mut open = false;
    for line in markdown.lines() {
        let item =
            line.starts_with("- ") || line.split_once(". ").is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        match blocks.last_mut() {
            _ if line.trim().is_empty() => {
                open = false;
                continue;
            }
            Some(Block::Code(code)) if line.starts_with("    ") => {
                // An empty line inside of code belongs to it.
                if !open {
                    code.push("");
                }
                code.push(line);
            }
            Some(Block::Paragraph(text) | Block::Item(text)) if open && !item && !line.starts_with('#') => {
                text.push(' ');
                text.push_str(line.trim());
            }
            _ if line.starts_with('#') => blocks.push(Block::Heading(line.trim_start_matches('#').trim())),
            _ if line.starts_with("    ") => blocks.push(Block::Code(vec![line])),
            _ if line.starts_with('|') => blocks.push(Block::Code(vec![line])),
            _ if item => blocks.push(Block::Item(line.to_owned())),
            _ => blocks.push(Block::Paragraph(line.to_owned())),
        }
        open = true;
    }
    blocks
}

/// Wrapped text with `**strong**` and `` `code` `` painted; later lines are indented.
fn flowed(text: &str, indent: &str, width: usize, style: Style) -> Vec<String> {
    // What is painted may go on in the next line.
    let mut open = (false, false);
    let lines = text::wrapped(&plain(text), width.saturating_sub(indent.len()).max(20));
    let marks = marks(text);
    let mut at = 0;
    let mut painted = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let mut out = String::new();
        let mut piece = String::new();
        for c in line.chars() {
            // Wrapping drops spaces at the ends of lines, and nothing else.
            while marks[at].0 != c && marks[at].0 == ' ' {
                at += 1;
            }
            let now = marks[at].1;
            if now != open {
                out.push_str(&paint(&piece, open, style));
                piece.clear();
                open = now;
            }
            piece.push(c);
            at += 1;
        }
        out.push_str(&paint(&piece, open, style));
        painted.push(if n == 0 { out } else { format!("{indent}{out}") });
    }
    painted
}

fn paint(piece: &str, (strong, code): (bool, bool), style: Style) -> String {
    match (strong, code) {
        (true, _) => style.paint(Paint::Strong, piece),
        (_, true) => style.paint(Paint::Code, piece),
        _ => piece.to_owned(),
    }
}

/// The characters that are shown, each with whether it is strong, and whether it is code.
fn marks(text: &str) -> Vec<(char, (bool, bool))> {
    let (mut strong, mut code) = (false, false);
    let mut marks = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // Backticks stay where there is no colour to replace them.
            '`' => {
                code = !code;
                marks.push((c, (strong, true)));
            }
            '*' if !code && chars.next_if_eq(&'*').is_some() => strong = !strong,
            c => marks.push((c, (strong, code))),
        }
    }
    marks
}

fn plain(text: &str) -> String {
    marks(text).into_iter().map(|(c, _)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# E0140: the payload of an invocation is not JSON

`tandem invoke` takes JSON as its second argument, `@FILE` for a file with JSON, or `-` for standard input. What it
got is none of these, or the file cannot be read.

- first, with more text than fits into one line of a narrow terminal
- second

    name: shop

    runtime: js

**What to do.** Put the JSON in single quotes, so that the shell leaves it alone: `tandem invoke NAME '{\"key\":
\"value\"}'`.
";

    #[test]
    fn a_page_is_wrapped_to_the_terminal() {
        insta::assert_snapshot!(page(PAGE, Style { color: false, width: 50 }), @r#"
        E0140: the payload of an invocation is not JSON

        `tandem invoke` takes JSON as its second argument,
        `@FILE` for a file with JSON, or `-` for standard
        input. What it got is none of these, or the file
        cannot be read.

        - first, with more text than fits into one line
          of a narrow terminal

        - second

            name: shop

            runtime: js

        What to do. Put the JSON in single quotes, so that
        the shell leaves it alone: `tandem invoke NAME
        '{"key": "value"}'`.
        "#);
    }

    #[test]
    fn what_is_strong_or_code_is_painted_on_every_line() {
        let colored = page("**one two** and `three four`\n", Style { color: true, width: 20 });
        assert_eq!(colored, "\x1b[1mone two\x1b[0m and \x1b[36m`three\x1b[0m\n\x1b[36mfour`\x1b[0m\n");
    }
}
