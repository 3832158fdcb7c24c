//! How a run ends.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use tandem_container::Exit;
use tandem_model::Report;

use super::Ending;

/// What an ended container left as its result.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::task) enum Answer {
    Nothing,
    /// JSON.
    Result(Arc<str>),
    /// Something else, and why it cannot be used.
    Unusable(String),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// By itself. 128 + n after signal n.
    Exited { code: i32 },
    /// The kernel ended it for its memory limit.
    OutOfMemory { code: i32 },
    /// By itself and with code 0, but what it left as its result is none.
    BadResult { reason: String },
    /// It was ended for its timeout.
    TimedOut,
    /// Somebody stopped it, perhaps before it started.
    Stopped,
    /// Its monitor is gone and left no exit code: the monitor was killed, or the machine restarted; or it ended while the
    /// disk was full (`full_disk`), so that the monitor could not write the code.
    #[serde(rename_all = "camelCase")]
    Lost {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        full_disk: bool,
    },
    /// Its container could not be started.
    Failed { error: Box<Report> },
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// What a process that stands for the run exits with: the container's code; 124 after a timeout, 143 when stopped,
    /// 125 if there is no code or no result, as `timeout`, shells and `docker run` have it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited { code } | Self::OutOfMemory { code } => *code,
            Self::TimedOut => 124,
            Self::Stopped => 143,
            Self::BadResult { .. } | Self::Lost { .. } | Self::Failed { .. } => 125,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::OutOfMemory { code } => write!(f, "ran out of memory and exited with code {code}"),
            Self::BadResult { reason } => write!(f, "left a result that cannot be used: {reason}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Stopped => f.write_str("was stopped"),
            Self::Lost { full_disk: false } => {
                f.write_str("was lost: its monitor is gone and left no exit code")
            }
            Self::Lost { full_disk: true } => f.write_str(
                "was lost: the disk was full when it ended, so that its monitor could not write its exit code",
            ),
            Self::Failed { error } => {
                write!(f, "failed to start: {error}")?;
                error.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
        }
    }
}

/// The code that a container exits with after it was told to end says nothing of its own.
pub(super) fn outcome(exit: Exit, answer: Answer, ending: Option<Ending>) -> Outcome {
    match (exit, ending, answer) {
        (Exit::Lost { full }, ..) => Outcome::Lost { full_disk: full },
        (_, Some(Ending::Stop), _) => Outcome::Stopped,
        (_, Some(Ending::Timeout), _) => Outcome::TimedOut,
        (Exit::Code { code: 0 }, None, Answer::Unusable(reason)) => Outcome::BadResult { reason },
        (Exit::Code { code }, None, _) => Outcome::Exited { code },
        (Exit::OutOfMemory { code }, None, _) => Outcome::OutOfMemory { code },
    }
}
