//! Decisions are found by number: each has one of its own, and a title.

use std::collections::BTreeMap;

use super::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for source in sources {
        let Some(name) = source.path.strip_prefix("docs/decisions/") else { continue };
        let numbered =
            name.get(..5).filter(|n| n.ends_with('-') && n[..4].bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = numbered else {
            findings.push(Finding::new(&source.path, "is not named NNNN-title.md"));
            continue;
        };
        if !source.text.starts_with("# ") {
            findings.push(Finding::new(&source.path, "does not begin with a title"));
        }
        if let Some(other) = numbers.insert(&number[..4], &source.path) {
            findings.push(Finding::new(&source.path, format!("has the number of {other}")));
        }
    }
    findings
}
