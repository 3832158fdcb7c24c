//! Colours: few, with one meaning each, and none where they would be noise.

use tandem_model::plan::Op;

/// What a piece of text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Change,
    Bad,
    /// What leads the eye, and what may be skipped.
    Strong,
    Faint,
    /// What may be typed as it is.
    Code,
}

/// Whether to use colours, and how wide to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) color: bool,
    /// In columns.
    pub(crate) width: usize,
}

impl Style {
    /// Without colours, as wide as a classic terminal.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { color: false, width: 80 };

    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.color || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "32",
            Paint::Change => "33",
            Paint::Bad => "1;31",
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Code => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// How an operation is drawn.
pub(crate) fn of(op: Op) -> (Paint, &'static str) {
    match op {
        Op::Create => (Paint::Good, "+"),
        Op::Update => (Paint::Change, "~"),
        Op::Replace => (Paint::Change, "±"),
        Op::Delete => (Paint::Bad, "-"),
        Op::Same => (Paint::Faint, " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_painted_only_in_colour() {
        assert_eq!(Style::PLAIN.paint(Paint::Good, "made"), "made");
        let colored = Style { color: true, width: 80 };
        assert_eq!(colored.paint(Paint::Good, "made"), "\x1b[32mmade\x1b[0m");
    }
}
