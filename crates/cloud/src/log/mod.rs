//! Logs: what functions and runs printed, kept per resource, bounded, followed live.
//!
//! A function's lines are written here. A run's lines stay in the file that its monitor writes; reading merges both.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{StackId, Urn};

/// One line that a handler or a container printed, or that the cloud says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub time: Timestamp,
    /// The function or task.
    pub resource: Urn,
    pub stream: Stream,
    /// The request id or run id; empty for lines outside of any (a worker's start).
    #[serde(default)]
    pub id: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Said by the cloud: a failure, a timeout, an outcome.
    System,
}

/// Takes lines. Never blocks and never fails the caller: what cannot be written is counted, and the count logged.
pub trait Sink: Send + Sync {
    fn write(&self, line: Line);
}

/// Which lines to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    pub stack: Option<StackId>,
    /// A resource's name in the stack; none: all.
    pub resource: Option<String>,
    /// A request id or run id; none: all.
    pub id: Option<String>,
    pub since: Option<Timestamp>,
    /// Only the last so many.
    pub tail: Option<usize>,
}
