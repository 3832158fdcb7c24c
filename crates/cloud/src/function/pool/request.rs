//! One request: what was asked, and how it ended.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::core::{FunctionId, Loss, WorkerId};
use crate::{
    dispatch::Begin,
    function::{
        error::{FunctionError, seconds},
        version::Version,
    },
};

/// A request for a function.
#[derive(Debug)]
pub(in crate::function) struct Ask {
    pub(in crate::function) request: String,
    pub(in crate::function) payload: Bytes,
    pub(in crate::function) traceparent: Option<String>,
    /// Told when a worker gets it.
    pub(in crate::function) begin: Option<Begin>,
}

/// How it ended.
#[derive(Debug)]
pub(in crate::function) struct Ended {
    pub(in crate::function) how: How,
    /// The version that served it, or would have.
    pub(in crate::function) version: Option<Arc<Version>>,
    pub(in crate::function) log_tail: Vec<String>,
    /// From the hand-over to the answer; zero if it was not handed over.
    pub(in crate::function) duration: Duration,
    pub(in crate::function) cold: bool,
}

#[derive(Debug)]
pub(in crate::function) enum How {
    Answered(Result<Bytes, FunctionError>),
    /// With the frames in which it was interrupted, if it was.
    TimedOut(Vec<String>),
    OutOfMemory(Vec<String>),
    Lost(Loss),
    /// No process could be started.
    NotStarted(String),
    InitFailed(FunctionError),
    Dropped,
}

/// A request whose end is not known.
pub(super) struct Open {
    pub(super) ask: Ask,
    pub(super) function: FunctionId,
    pub(super) reply: oneshot::Sender<Ended>,
    pub(super) handed: Option<Handed>,
    pub(super) answer: Option<Result<Bytes, FunctionError>>,
    /// How many calls of each method its handler has made.
    pub(super) calls: HashMap<String, u32>,
}

pub(super) struct Handed {
    pub(super) worker: WorkerId,
    pub(super) at: Instant,
    pub(super) cold: bool,
    pub(super) version: Arc<Version>,
}

impl Open {
    pub(super) fn new(ask: Ask, function: FunctionId, reply: oneshot::Sender<Ended>) -> Self {
        Self { ask, function, reply, handed: None, answer: None, calls: HashMap::new() }
    }
}

impl How {
    /// What the log says about it, beside the worker's own lines.
    pub(super) fn said(&self, version: &Version) -> Vec<String> {
        let with = |line: String, frames: &[String]| {
            let error = FunctionError {
                error_message: line,
                stack_trace: frames.to_vec(),
                ..FunctionError::default()
            };
            error.lines()
        };
        match self {
            Self::Answered(Ok(_)) | Self::Dropped => Vec::new(),
            Self::Answered(Err(error)) | Self::InitFailed(error) => error.lines(),
            Self::TimedOut(frames) => with(format!("timed out after {}", seconds(version.timeout())), frames),
            Self::OutOfMemory(frames) => {
                with(format!("out of memory: limit {}", version.inputs.memory), frames)
            }
            Self::Lost(loss) => vec![describe(*loss)],
            Self::NotStarted(reason) => vec![format!("no worker could be started: {reason}")],
        }
    }
}

/// How a process ended, for people.
pub(in crate::function) fn describe(loss: Loss) -> String {
    match loss {
        Loss::OutOfMemory => "out of memory".to_owned(),
        Loss::Exited(status) => format!("its process exited with status {status}"),
        Loss::Signalled(signal) => format!("its process was ended by signal {signal}"),
        Loss::NotStarted => "its process was not started".to_owned(),
    }
}
