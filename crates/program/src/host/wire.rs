//! What the two processes say to each other: one JSON value a line, over a socket pair.
//!
//! The parent speaks first, once ([`Start`]). From then on the child calls and the parent answers, in any order, until
//! the child says how it ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_js::{Archive, ProgramError, Setup};
use tandem_model::Report;

/// The first line, parent to child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) setup: Setup,
    pub(super) archive: Archive,
}

/// Every line of the child.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Said {
    Call {
        id: u64,
        method: String,
        args: Value,
    },
    /// The program was run to its end, and these are its exports.
    Done {
        done: Value,
    },
    Failed {
        failed: ProgramError,
    },
}

/// Every later line of the parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Answer {
    Error { id: u64, error: Report },
    Ok { id: u64, ok: Value },
}

/// The line for a value, with its end.
pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("messages are JSON with string keys");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_have_the_shapes_that_are_promised() {
        let said = |value: Value| serde_json::from_value::<Said>(value).unwrap();
        assert!(matches!(
            said(json!({ "id": 1, "method": "resource.register", "args": {} })),
            Said::Call { id: 1, .. }
        ));
        assert!(matches!(said(json!({ "done": { "a": 1 } })), Said::Done { .. }));
        assert!(matches!(said(json!({ "done": null })), Said::Done { .. }));
        let answer = Answer::Ok { id: 7, ok: Value::Null };
        assert_eq!(line(&answer), b"{\"id\":7,\"ok\":null}\n");
        let back: Answer = serde_json::from_slice(&line(&answer)).unwrap();
        assert!(matches!(back, Answer::Ok { id: 7, .. }));
    }
}
