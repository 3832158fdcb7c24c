//! Services of the embedded cloud meet at the dispatcher and at events, never in each other's code.

use std::collections::BTreeSet;

use super::{Finding, Source};

const CLOUD: &str = "crates/cloud/src/";
/// Folders that are no services, but what services stand on or meet at.
const SHARED: &[&str] = &[
    "capacity",
    "channel",
    "credential",
    "dispatch",
    "gateway",
    "image",
    "log",
    "mount",
    "program",
    "target",
];

/// The folders that put the services together, or copy all of them: they may use all of them, and none may use these.
const WIRING: &[&str] = &["backup", "wiring"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let service = |source: &Source| {
        let (folder, _) = source.path.strip_prefix(CLOUD)?.split_once('/')?;
        Some(folder.to_owned())
    };
    let folders: BTreeSet<String> = sources.iter().filter_map(service).collect();
    let mut findings = Vec::new();
    // A test may put services together, as the wiring does.
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    for source in sources.iter().filter(|s| s.path.ends_with(".rs") && !is_test(&s.path)) {
        let Some(own) = service(source).filter(|own| !WIRING.contains(&own.as_str())) else { continue };
        for (offset, used) in crate_paths(&source.text) {
            if used != own && folders.contains(used) && !SHARED.contains(&used) {
                let place = format!("{}:{}", source.path, source.line_of(offset));
                findings.push(Finding::new(place, format!("the service `{own}` uses the service `{used}`")));
            }
        }
    }
    findings
}

/// The first segment of every path that starts at `crate::`, also inside of braces, with its place.
fn crate_paths(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, start) in text.match_indices("crate::") {
        let preceded = text[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        if preceded || is_comment(text, at) {
            continue;
        }
        let rest = &text[at + start.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.push((at, identifier(rest)));
            continue;
        };
        let mut depth = 0usize;
        let mut expected = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expected = true,
                c if expected && !c.is_whitespace() => {
                    found.push((at, identifier(&group[offset..])));
                    expected = false;
                }
                _ => {}
            }
        }
    }
    found
}

/// Documentation may name another service.
fn is_comment(text: &str, at: usize) -> bool {
    let line = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    text[line..at].contains("//")
}

fn identifier(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}
