//! How an invocation can fail.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_model::{ByteSize, Explain, Urn};

/// An error as the Lambda Runtime API has it: of a handler, or of a program that does not start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionError {
    pub error_type: String,
    pub error_message: String,
    /// The frames of the user's code, innermost first.
    pub stack_trace: Vec<String>,
}

/// The type of the error of a handler that was interrupted because its time was over.
pub(super) const TIMED_OUT: &str = "Sandbox.Timedout";
/// The type of the error of a handler for which the program's heap was too small.
pub(super) const OUT_OF_MEMORY: &str = "Runtime.OutOfMemory";

impl FunctionError {
    pub(super) fn new(error_type: &str, error_message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.to_owned(),
            error_message: error_message.into(),
            stack_trace: Vec::new(),
        }
    }

    /// As a person reads it: the message, then a line a frame.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.to_string().lines().map(str::to_owned).collect();
        lines.extend(self.stack_trace.iter().map(|frame| format!("    {}", frame.trim())));
        lines
    }
}

impl std::fmt::Display for FunctionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.error_type.as_str(), self.error_message.as_str()) {
            ("", message) => f.write_str(message),
            (kind, "") => f.write_str(kind),
            (kind, message) => write!(f, "{kind}: {message}"),
        }
    }
}

/// Why an invocation has no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvokeError {
    #[error("there is no function `{name}`")]
    NoSuchFunction { name: String },
    #[error("the handler of {} failed: {error}{}", function.short(), place(error))]
    HandlerFailed { function: Urn, error: Box<FunctionError>, log_tail: Vec<String> },
    #[error("{} timed out after {}", function.short(), seconds(*after))]
    TimedOut { function: Urn, after: Duration, log_tail: Vec<String> },
    #[error("{} ran out of memory: limit {limit}", function.short())]
    OutOfMemory { function: Urn, limit: ByteSize, log_tail: Vec<String> },
    #[error("the worker of {} was lost: {how}", function.short())]
    WorkerLost { function: Urn, how: Box<str>, log_tail: Vec<String> },
    #[error("{} cannot start: {error}{}", function.short(), place(error))]
    InitFailed { function: Urn, error: Box<FunctionError>, log_tail: Vec<String> },
    #[error("too many requests wait for {}", function.short())]
    TooManyRequests { function: Urn },
    #[error("the payload of {bytes} bytes is larger than the 6 MiB that a function takes")]
    PayloadTooLarge { bytes: usize },
    #[error("no worker can be started: {reason}")]
    NoWorkers { reason: String },
    #[error("the cloud is closing")]
    Closing,
}

impl InvokeError {
    /// The last lines that the handler printed.
    pub fn log_tail(&self) -> &[String] {
        match self {
            Self::HandlerFailed { log_tail, .. }
            | Self::TimedOut { log_tail, .. }
            | Self::OutOfMemory { log_tail, .. }
            | Self::WorkerLost { log_tail, .. }
            | Self::InitFailed { log_tail, .. } => log_tail,
            Self::NoSuchFunction { .. }
            | Self::TooManyRequests { .. }
            | Self::PayloadTooLarge { .. }
            | Self::NoWorkers { .. }
            | Self::Closing => &[],
        }
    }

    /// As the Lambda Invoke API shows a function's failure: the handler's own error, or one about the worker.
    pub fn as_function_error(&self) -> FunctionError {
        match self {
            Self::HandlerFailed { error, .. } | Self::InitFailed { error, .. } => (**error).clone(),
            Self::TimedOut { .. } => FunctionError::new(TIMED_OUT, self.to_string()),
            Self::OutOfMemory { .. } => FunctionError::new(OUT_OF_MEMORY, self.to_string()),
            _ => FunctionError::new("Runtime.ExitError", self.to_string()),
        }
    }
}

/// Says the location beside the message, where a person looks first.
fn place(error: &FunctionError) -> String {
    let Some(frame) = error.stack_trace.first() else { return String::new() };
    let frame = frame.trim().trim_start_matches("at ");
    let place = frame.rsplit_once('(').map_or(frame, |(_, place)| place.trim_end_matches(')'));
    format!(" ({place})")
}

/// `3 s`, `0.5 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_millis() as f64 / 1000.0)
}

impl Explain for InvokeError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchFunction { .. } => "E0601",
            Self::HandlerFailed { .. } => "E0602",
            Self::TimedOut { .. } => "E0603",
            Self::OutOfMemory { .. } => "E0604",
            Self::WorkerLost { .. } => "E0605",
            Self::InitFailed { .. } => "E0606",
            Self::TooManyRequests { .. } => "E0607",
            Self::PayloadTooLarge { .. } => "E0608",
            Self::NoWorkers { .. } => "E0609",
            Self::Closing => "E0610",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoSuchFunction { .. } => "list what is deployed with `tandem ps`".to_owned(),
            Self::HandlerFailed { function, .. } | Self::WorkerLost { function, .. } => {
                format!("read what it printed with `tandem logs {}`", function.name)
            }
            Self::TimedOut { .. } => {
                "raise the function's `timeout`, or let it start a task for long work".to_owned()
            }
            Self::OutOfMemory { .. } => "raise the function's `memory`".to_owned(),
            Self::InitFailed { .. } => "mend the program and run `tandem up`".to_owned(),
            Self::TooManyRequests { .. } => "retry later, or raise the function's `concurrency`".to_owned(),
            Self::PayloadTooLarge { .. } => "put the data into a bucket and send its key".to_owned(),
            Self::NoWorkers { .. } => {
                "run the cloud as root; it goes on trying by itself, and its log says why it fails".to_owned()
            }
            Self::Closing => "retry when the cloud runs again".to_owned(),
        }
    }
}
