//! What is left to do belongs in an issue, not in a comment; and a conflict of a merge is solved before it is committed.

use super::{Finding, Source};

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    // Put together here, so that this file does not find itself.
    let markers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("<<<<", "<<< "),
        concat!(">>>>", ">>> "),
    ];
    let mut findings = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            if let Some(marker) = markers.iter().find(|marker| line.contains(**marker)) {
                findings
                    .push(Finding::new(format!("{}:{}", source.path, number + 1), format!("says {marker}")));
            }
        }
    }
    findings
}
