//! `tidy`: the rules of the tree that the compiler does not know. Each is a function from sources to findings.

mod arrows;
mod decisions;
mod error_pages;
mod failpoints;
mod length;
mod markers;
mod services;
#[cfg(test)]
mod tests;

use std::{fmt, path::Path};

use anyhow::{Result, bail};

use crate::tree;

pub(crate) const HELP: &str = "\
usage: cargo xtask tidy

Checks what the compiler does not:
  arrows       crates depend on each other only as the table in ARCHITECTURE.md allows
  services     services in crates/cloud/src never import each other
  length       no file is longer than 800 lines without its tests
  error pages  every error code has its page in docs/errors, and every page its code
  failpoints   every failpoint's name stands in one place, and a test names it
  decisions    docs/decisions/NNNN-*.md have numbers of their own and a title
  markers      nothing is left to do later in a comment, and no conflict of a merge
";

/// One text file of the project.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/") || self.path.starts_with("e2e/")
    }

    /// The text without its `#[cfg(test)] mod` at the end, and that module.
    fn split_tests(&self) -> (&str, &str) {
        if self.is_test() {
            return ("", &self.text);
        }
        let inline = self.text.find("\n#[cfg(test)]\nmod ").filter(|at| {
            // `mod tests;` is a declaration; the tests are in a file of their own.
            self.text[at + 1..].lines().nth(1).is_some_and(|line| line.ends_with('{'))
        });
        self.text.split_at(inline.unwrap_or(self.text.len()))
    }

    fn line_of(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }
}

/// A rule that does not hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub place: String,
    pub what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

pub(crate) fn main(_arguments: &[String]) -> Result<()> {
    let root = tree::root()?;
    let sources = read_sources(&root)?;
    let mut findings = arrows::check(&root)?;
    for check in [
        services::check,
        length::check,
        error_pages::check,
        failpoints::check,
        decisions::check,
        markers::check,
    ] {
        findings.extend(check(&sources));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy found {} things", findings.len());
    }
    println!("tidy: {} files, nothing to mend", sources.len());
    Ok(())
}

fn read_sources(root: &Path) -> Result<Vec<Source>> {
    let extensions = ["rs", "js", "mjs", "ts", "md", "toml", "yaml", "py", "sh"];
    let mut sources = Vec::new();
    for path in tree::files(root)? {
        let extension = Path::new(&path).extension().and_then(|e| e.to_str()).unwrap_or_default();
        if extensions.contains(&extension) {
            let text = tree::read(&root.join(&path))?;
            sources.push(Source { path, text });
        }
    }
    Ok(sources)
}
