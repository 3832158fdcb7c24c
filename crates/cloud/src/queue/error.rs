//! What can go wrong with a queue and its messages.

use tandem_model::Explain;
use tandem_store::{CommitError, ReadError};

/// Each is one of the errors of Amazon SQS; see [`QueueError::name`].
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("there is no queue `{queue}`")]
    NoSuchQueue { queue: String },
    #[error("`{name}` is not a name that a queue can have: {wrong}")]
    Name { name: String, wrong: &'static str },
    #[error("`{name}` is a name that is kept for queues which clients make")]
    ReservedName { name: String },
    #[error("there is a queue `{queue}` with another `{attribute}`")]
    Exists { queue: String, attribute: &'static str },
    #[error("the queue `{queue}` is not empty: it holds {messages} messages")]
    NotEmpty { queue: String, messages: u64 },
    #[error("there is no attribute `{name}`")]
    AttributeName { name: String },
    #[error("`{value}` is not a value of `{name}`: {wrong}")]
    AttributeValue { name: String, value: String, wrong: String },
    #[error("the parameter `{name}` is missing")]
    Missing { name: &'static str },
    #[error("the value of `{name}` is not valid: {wrong}")]
    Parameter { name: &'static str, wrong: String },
    #[error(
        "the message has characters that no message may have: allowed are #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD, #x10000 to #x10FFFF"
    )]
    Contents,
    #[error("the message has {size} bytes with its attributes; this queue takes {most}")]
    TooLong { size: usize, most: usize },
    #[error("the messages of the batch have {size} bytes together; a batch has at most {most}")]
    BatchTooLong { size: usize, most: usize },
    #[error("a batch has at least one entry")]
    EmptyBatch,
    #[error("a batch has at most 10 entries, not {count}")]
    TooManyEntries { count: usize },
    #[error("two entries of the batch have the id `{id}`")]
    IdsNotDistinct { id: String },
    #[error("`{id}` is not an id of an entry: 1 to 80 letters, digits, `-` and `_`")]
    EntryId { id: String },
    #[error("the receipt handle is not valid: {wrong}")]
    Receipt { wrong: &'static str },
    #[error("the receipt handle has expired")]
    ReceiptExpired,
    #[error("the message is not in flight: it became visible again, or was deleted")]
    NotInFlight,
    #[error("the queue has as many messages in flight as it may have: {most}")]
    OverLimit { most: usize },
    #[error("the queue was purged less than a minute ago")]
    PurgeInProgress,
    #[error("{what} is not supported")]
    Unsupported { what: String },
    #[error("there is no such task: {what}")]
    NoSuchTask { what: String },
    #[error("moving the messages of `{queue}` back ended after {moved}: {why}")]
    MoveEnded { queue: String, moved: u64, why: String },
    #[error("the queue changed while it was being looked at")]
    Contended,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(CommitError),
}

/// A row that is not as this code writes it.
pub(super) fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> QueueError {
    QueueError::Read(ReadError(why.into()))
}

impl From<CommitError> for QueueError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

impl QueueError {
    /// Its name on the wire, and the other one that the Query protocol has for it.
    ///
    /// Source: the service model of Amazon SQS, as botocore publishes it; the errors of the Query protocol as clients of
    /// that time know them.
    pub fn name(&self) -> (&'static str, &'static str) {
        match self {
            Self::NoSuchQueue { .. } => ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
            Self::Exists { .. } => ("QueueNameExists", "QueueAlreadyExists"),
            Self::AttributeName { .. } => ("InvalidAttributeName", "InvalidAttributeName"),
            Self::AttributeValue { .. } => ("InvalidAttributeValue", "InvalidAttributeValue"),
            Self::Missing { .. } => ("MissingParameter", "MissingParameter"),
            Self::Name { .. }
            | Self::ReservedName { .. }
            | Self::Parameter { .. }
            | Self::TooLong { .. }
            | Self::ReceiptExpired => ("InvalidParameterValue", "InvalidParameterValue"),
            Self::Contents => ("InvalidMessageContents", "InvalidMessageContents"),
            Self::BatchTooLong { .. } => {
                ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong")
            }
            Self::EmptyBatch => ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest"),
            Self::TooManyEntries { .. } => {
                ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest")
            }
            Self::IdsNotDistinct { .. } => {
                ("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
            }
            Self::EntryId { .. } => ("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId"),
            Self::Receipt { .. } => ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
            Self::NotInFlight => ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
            Self::OverLimit { .. } => ("OverLimit", "OverLimit"),
            Self::PurgeInProgress => ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress"),
            Self::Unsupported { .. } | Self::NotEmpty { .. } => {
                ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation")
            }
            // Clients do not wait for a move, so they never get the second one.
            Self::NoSuchTask { .. } | Self::MoveEnded { .. } => {
                ("ResourceNotFoundException", "ResourceNotFoundException")
            }
            Self::Contended | Self::Commit(CommitError::Full | CommitError::Closed) => {
                ("ServiceUnavailable", "ServiceUnavailable")
            }
            Self::Read(_) | Self::Commit(_) => ("InternalFailure", "InternalFailure"),
        }
    }

    /// Whether it is the cloud's fault and not the request's.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Commit(_) | Self::Contended)
    }
}

impl Explain for QueueError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchQueue { .. } => "E0770",
            Self::Name { .. } => "E0771",
            Self::ReservedName { .. } => "E0772",
            Self::Exists { .. } => "E0773",
            Self::NotEmpty { .. } => "E0774",
            Self::AttributeName { .. } | Self::AttributeValue { .. } => "E0775",
            Self::Missing { .. } | Self::Parameter { .. } | Self::Unsupported { .. } => "E0776",
            Self::Contents | Self::TooLong { .. } => "E0777",
            Self::EmptyBatch
            | Self::BatchTooLong { .. }
            | Self::TooManyEntries { .. }
            | Self::IdsNotDistinct { .. }
            | Self::EntryId { .. } => "E0778",
            Self::Receipt { .. } | Self::ReceiptExpired | Self::NotInFlight => "E0779",
            Self::OverLimit { .. } | Self::PurgeInProgress => "E0780",
            Self::NoSuchTask { .. } => "E0781",
            Self::Contended => "E0782",
            Self::MoveEnded { .. } => "E0783",
            Self::Read(e) => e.code(),
            Self::Commit(e) => e.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoSuchQueue { .. } => {
                "see the queues with `tandem stack show`; a client reaches those of its own stack"
            }
            Self::Name { .. } => {
                "a name has 1 to 80 letters, digits, `-` and `_`; that of a FIFO queue, and of no other, ends in `.fifo`"
            }
            Self::ReservedName { .. } => "give it a name that does not begin with `sqs.`",
            Self::Exists { .. } => "choose another name, or ask for the attributes that it has",
            Self::NotEmpty { .. } => {
                "receive and delete its messages, or set `forceDestroy: true`, or run with `--force`"
            }
            Self::AttributeName { .. } | Self::AttributeValue { .. } => {
                "see the attributes of queues in the guide, or in Amazon's documentation of SetQueueAttributes"
            }
            Self::Missing { .. } | Self::Parameter { .. } | Self::Unsupported { .. } => {
                "see what queues can do in the guide"
            }
            Self::Contents | Self::TooLong { .. } => {
                "encode the message in Base64, or put it into a bucket and send its key"
            }
            Self::EmptyBatch
            | Self::BatchTooLong { .. }
            | Self::TooManyEntries { .. }
            | Self::IdsNotDistinct { .. }
            | Self::EntryId { .. } => "send 1 to 10 entries with ids of their own, of at most 1 MiB together",
            Self::Receipt { .. } | Self::ReceiptExpired | Self::NotInFlight => {
                "use the receipt handle of the last receive, within the visibility timeout; receive the message again"
            }
            Self::OverLimit { .. } => "delete messages that are done, or give up those that are in flight",
            Self::PurgeInProgress => "wait a minute",
            Self::NoSuchTask { .. } => "see the tasks with ListMessageMoveTasks",
            Self::MoveEnded { .. } => {
                "declare the queue that is missing again, or move them elsewhere with StartMessageMoveTask; those that moved stay moved"
            }
            Self::Contended => "try again",
            Self::Read(e) => return e.help(),
            Self::Commit(e) => return e.help(),
        }
        .to_owned()
    }
}
