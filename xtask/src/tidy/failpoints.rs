//! Every failpoint's name stands in one place, and a test names it.

use std::collections::BTreeMap;

use super::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut tests = String::new();
    for source in sources.iter().filter(|s| s.path.ends_with(".rs") && !s.path.starts_with("xtask/")) {
        let (product, test) = source.split_tests();
        tests += test;
        if source.path.starts_with("crates/failpoint/") {
            continue;
        }
        for (offset, name) in hits(product) {
            places.entry(name).or_default().push(format!("{}:{}", source.path, source.line_of(offset)));
        }
    }
    let mut findings = Vec::new();
    for (name, places) in places {
        let place = &places[0];
        if places.len() > 1 {
            findings.push(Finding::new(
                place,
                format!("the failpoint `{name}` stands also at {}", places[1..].join(", ")),
            ));
        }
        if name.split('.').count() != 3 || name.split('.').any(str::is_empty) {
            findings.push(Finding::new(place, format!("`{name}` is not <area>.<what>.<moment>")));
        }
        if !['"', '@', ':'].iter().any(|end| tests.contains(&format!("\"{name}{end}"))) {
            findings.push(Finding::new(place, format!("no test names the failpoint `{name}`")));
        }
    }
    findings
}

/// Calls `hit("name")` and `try_hit("name")`, of the failpoint crate by its usual names.
fn hits(text: &str) -> Vec<(usize, &str)> {
    let calls = text.match_indices("hit(\"").filter_map(|(at, call)| {
        let rest = &text[at + call.len()..];
        Some((at, &rest[..rest.find('"')?]))
    });
    calls.collect()
}
