//! `.dockerignore`, by the rules of <https://docs.docker.com/build/concepts/context/#dockerignore-files>.
//!
//! Patterns are relative to the context, a pattern covers what is below a folder that it matches, and of several
//! that match the last one decides; `!` takes a path back in.

use globset::{GlobBuilder, GlobMatcher};

#[derive(Debug, Default)]
pub(super) struct Ignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    path: GlobMatcher,
    below: GlobMatcher,
    keep: bool,
}

/// A line that is not a pattern.
#[derive(Debug)]
pub(super) struct BadPattern {
    pub(super) line: usize,
    pub(super) reason: String,
}

impl Ignore {
    /// The rules of a file, after those of another text.
    pub(super) fn parse(before: &str, text: &str) -> Result<Self, BadPattern> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        let lines = text.lines().enumerate();
        for (index, line) in before.lines().map(|line| (0, line)).chain(lines) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (keep, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            let pattern = clean(pattern);
            if pattern.is_empty() {
                continue;
            }
            let glob = |pattern: &str| {
                let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
                glob.map(|glob| glob.compile_matcher())
                    .map_err(|error| BadPattern { line: index + 1, reason: error.kind().to_string() })
            };
            rules.push(Rule { path: glob(&pattern)?, below: glob(&format!("{pattern}/**"))?, keep });
        }
        Ok(Self(rules))
    }

    /// Whether the path, relative to the context with `/`, stays out.
    pub(super) fn excludes(&self, path: &str) -> bool {
        self.0
            .iter()
            .rev()
            .find(|rule| rule.path.is_match(path) || rule.below.is_match(path))
            .is_some_and(|rule| !rule.keep)
    }

    /// Whether something below an excluded folder may be taken back in, so that the folder must be entered.
    pub(super) fn has_exceptions(&self) -> bool {
        self.0.iter().any(|rule| rule.keep)
    }
}

/// Without `.`, doubled slashes, and what climbs above the context.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(text: &str, paths: &[&str]) -> Vec<bool> {
        let ignore = Ignore::parse("", text).unwrap();
        paths.iter().map(|path| ignore.excludes(path)).collect()
    }

    #[test]
    fn a_pattern_is_relative_to_the_context_and_covers_what_is_below() {
        assert_eq!(excluded("/tmp\n", &["tmp", "tmp/a", "a/tmp"]), [true, true, false]);
        assert_eq!(excluded("*.md", &["a.md", "b/a.md"]), [true, false]);
        assert_eq!(excluded("**/*.md", &["a.md", "b/a.md"]), [true, true]);
        assert_eq!(excluded("*/temp*", &["a/temp1", "temp1", "a/b/temp"]), [true, false, false]);
        assert_eq!(excluded("# note\n\n ./a/../b/ ", &["a", "b", "b/c"]), [false, true, true]);
    }

    #[test]
    fn the_last_match_decides() {
        assert_eq!(excluded("*.md\n!README.md", &["a.md", "README.md"]), [true, false]);
        assert_eq!(excluded("*\n!src\n", &["Dockerfile", "src", "src/a"]), [true, false, false]);
        assert_eq!(excluded("!README.md\n*.md", &["README.md"]), [true]);
    }

    #[test]
    fn a_bad_pattern_has_its_line() {
        assert_eq!(Ignore::parse("b", "a\n[z-a]\n").unwrap_err().line, 2);
    }
}
