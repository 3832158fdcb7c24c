//! What is known of a text before the program runs: how it begins and how it ends.

/// A text of which the beginning and the end may be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) prefix: String,
    pub(super) suffix: String,
    /// Prefix and suffix are all of it.
    pub(super) whole: bool,
}

impl Text {
    pub(super) fn of(text: &str) -> Self {
        Self { prefix: text.to_owned(), suffix: text.to_owned(), whole: true }
    }

    /// Both, one after the other.
    pub(super) fn then(self, next: Self) -> Self {
        let prefix = if self.whole { self.prefix + &next.prefix } else { self.prefix };
        let suffix = if next.whole { self.suffix + &next.suffix } else { next.suffix };
        Self { prefix, suffix, whole: self.whole && next.whole }
    }

    /// With its end, or its beginning, replaced once, as far as that can be seen. `None` if it cannot.
    pub(super) fn replaced(&self, from: &str, to: &str) -> Option<Self> {
        if self.whole {
            return Some(Self::of(&self.prefix.replacen(from, to, 1)));
        }
        // What is in the unknown middle might be replaced instead. Nobody writes that who means the end.
        if let Some(kept) = self.suffix.strip_suffix(from) {
            return Some(Self { suffix: format!("{kept}{to}"), ..self.clone() });
        }
        let kept = self.prefix.strip_prefix(from)?;
        Some(Self { prefix: format!("{to}{kept}"), ..self.clone() })
    }

    /// Whether a filter of keys wants it: surely, perhaps, or not.
    pub(super) fn meets(&self, prefix: &str, suffix: &str) -> Meets {
        if self.whole {
            let wanted = self.prefix.starts_with(prefix) && self.prefix.ends_with(suffix);
            return if wanted { Meets::Surely } else { Meets::Not };
        }
        let begins = self.prefix.starts_with(prefix);
        let ends = self.suffix.ends_with(suffix);
        let may_begin = begins || prefix.starts_with(&self.prefix);
        let may_end = ends || suffix.ends_with(&self.suffix);
        match (begins && ends, may_begin && may_end) {
            (true, _) => Meets::Surely,
            (false, true) => Meets::Perhaps,
            _ => Meets::Not,
        }
    }

    /// For people: `thumbs/….jpg`; `None` if nothing is known of it.
    pub(super) fn shown(&self) -> Option<String> {
        match (self.whole, self.prefix.is_empty() && self.suffix.is_empty()) {
            (true, _) => Some(self.prefix.clone()),
            (false, true) => None,
            (false, false) => Some(format!("{}…{}", self.prefix, self.suffix)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    Surely,
    Perhaps,
    Not,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(prefix: &str, suffix: &str) -> Text {
        Text { prefix: prefix.into(), suffix: suffix.into(), whole: false }
    }

    #[test]
    fn texts_are_put_together_by_what_is_known_of_their_ends() {
        assert_eq!(Text::of("a/").then(Text::default()).then(Text::of(".jpg")), part("a/", ".jpg"));
        assert_eq!(Text::of("a").then(Text::of("b")), Text::of("ab"));
        assert_eq!(part("v/", ".mp4").then(Text::of(".jpg")), part("v/", ".mp4.jpg"));
        assert_eq!(part("v/", ".mp4").replaced(".mp4", ".jpg"), Some(part("v/", ".jpg")));
        assert_eq!(part("v/", "").replaced("v/", "t/"), Some(part("t/", "")));
        assert_eq!(part("v/", "").replaced("x", "y"), None);
    }

    #[test]
    fn a_filter_wants_a_text_surely_perhaps_or_not() {
        for (text, prefix, suffix, meets) in [
            (Text::of("a.jpg"), "", ".jpg", Meets::Surely),
            (Text::of("a.jpg"), "b", "", Meets::Not),
            (part("", ".jpg"), "", ".mp4", Meets::Not),
            (part("", ".jpg"), "", "jpg", Meets::Surely),
            (part("", "g"), "", ".jpg", Meets::Perhaps),
            (part("thumbs/", ""), "videos/", "", Meets::Not),
            (part("videos/thumbs/", ""), "videos/", "", Meets::Surely),
            (part("v", ""), "videos/", "", Meets::Perhaps),
            (Text::default(), "", "", Meets::Surely),
            (Text::default(), "", ".jpg", Meets::Perhaps),
        ] {
            assert_eq!(text.meets(prefix, suffix), meets, "{text:?} {prefix} {suffix}");
        }
    }
}
