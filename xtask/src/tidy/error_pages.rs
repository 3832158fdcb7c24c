//! Every error code has a page, and every page a code.

use std::collections::BTreeMap;

use super::{Finding, Source};

const PAGES: &str = "docs/errors/";

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut used: BTreeMap<&str, String> = BTreeMap::new();
    let in_product = |s: &&Source| s.path.starts_with("crates/") || s.path.starts_with("sdk/");
    for source in sources.iter().filter(in_product) {
        let (product, _) = source.split_tests();
        for (offset, code) in codes(product) {
            used.entry(code).or_insert_with(|| format!("{}:{}", source.path, source.line_of(offset)));
        }
    }
    let mut findings = Vec::new();
    let mut pages = Vec::new();
    for source in sources {
        let Some(name) = source.path.strip_prefix(PAGES).and_then(|p| p.strip_suffix(".md")) else {
            continue;
        };
        if !is_code(name) {
            continue;
        }
        pages.push(name);
        if !source.text.starts_with(&format!("# {name}: ")) {
            findings.push(Finding::new(&source.path, format!("does not begin with `# {name}: …`")));
        }
        if !used.contains_key(name) {
            findings.push(Finding::new(&source.path, "no error has this code"));
        }
    }
    for (code, place) in used {
        if !pages.contains(&code) {
            findings.push(Finding::new(place, format!("{code} has no page {PAGES}{code}.md")));
        }
    }
    findings
}

fn is_code(text: &str) -> bool {
    text.len() == 5 && text.starts_with('E') && text[1..].bytes().all(|b| b.is_ascii_digit())
}

/// String literals that are a code and nothing else.
fn codes(text: &str) -> Vec<(usize, &str)> {
    let quoted = text.match_indices(['"', '\'']).filter_map(|(at, quote)| {
        let code = text.get(at + 1..at + 6)?;
        (is_code(code) && text[at + 6..].starts_with(quote)).then_some((at, code))
    });
    quoted.collect()
}
