//! A file is one idea. Above 800 lines without its tests it is several.

use super::{Finding, Source};

const MOST: usize = 800;

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let code =
        |s: &&Source| [".rs", ".js", ".mjs", ".ts"].iter().any(|e| s.path.ends_with(e)) && !s.is_test();
    let mut findings = Vec::new();
    for source in sources.iter().filter(code) {
        let lines = source.split_tests().0.lines().count();
        if lines > MOST {
            let what = format!("{lines} lines without tests; split it by reason to change, below {MOST}");
            findings.push(Finding::new(&source.path, what));
        }
    }
    findings
}
