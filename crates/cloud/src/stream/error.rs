//! What can go wrong with a stream and its records.

use std::sync::Arc;

use tandem_model::Explain;
use tandem_store::{CommitError, ReadError};

/// Each is one of the errors of Amazon Kinesis Data Streams; see [`StreamError::name`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamError {
    #[error("there is no stream `{stream}`")]
    NoSuchStream { stream: String },
    #[error("the stream `{stream}` has no shard `{shard}`")]
    NoSuchShard { stream: String, shard: String },
    #[error("`{name}` is not a name that a stream can have: {wrong}")]
    Name { name: String, wrong: &'static str },
    #[error("the stream `{stream}` is not empty: it holds {records} records")]
    NotEmpty { stream: String, records: u64 },
    #[error(
        "{stream} has {before} shards; with {after} it is another stream, which cannot have the name `{name}`, too"
    )]
    Pinned { stream: String, name: String, before: u32, after: u32 },
    #[error("record {at}: the key has {length} characters; it has 1 to 256")]
    Key { at: usize, length: usize },
    #[error("record {at}: the hash key is a whole number from 0 to 2^128 - 1, not `{given}`")]
    HashKey { at: usize, given: String },
    #[error("record {at} has {size} bytes with its key; a record has at most {most}")]
    TooLarge { at: usize, size: usize, most: usize },
    #[error("a put has at least one record")]
    EmptyBatch,
    #[error("a put has at most {most} records, not {count}")]
    TooMany { count: usize, most: usize },
    #[error("the records of the put have {size} bytes with their keys; a put has at most {most}")]
    BatchTooLarge { size: usize, most: usize },
    #[error("the iterator is not valid: {wrong}")]
    Iterator { wrong: &'static str },
    #[error("the iterator has expired: it is more than five minutes old")]
    IteratorExpired,
    #[error("`{given}` is not a sequence number of a record of that shard")]
    Sequence { given: String },
    #[error("the parameter `{name}` is not valid: {wrong}")]
    Parameter { name: &'static str, wrong: String },
    #[error("{what}")]
    Unsupported { what: String },
    #[error(transparent)]
    Read(Arc<ReadError>),
    #[error(transparent)]
    Commit(Arc<CommitError>),
}

/// A row that is not as this code writes it.
pub(super) fn damaged(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StreamError {
    ReadError(why.into()).into()
}

impl From<ReadError> for StreamError {
    fn from(error: ReadError) -> Self {
        Self::Read(Arc::new(error))
    }
}

impl From<CommitError> for StreamError {
    fn from(error: CommitError) -> Self {
        Self::Commit(Arc::new(error))
    }
}

impl StreamError {
    /// Its name on the wire.
    ///
    /// Source: the service model of Amazon Kinesis Data Streams, as botocore publishes it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoSuchStream { .. } | Self::NoSuchShard { .. } => "ResourceNotFoundException",
            Self::IteratorExpired => "ExpiredIteratorException",
            Self::Unsupported { .. } => "UnknownOperationException",
            Self::NotEmpty { .. } | Self::Pinned { .. } => "ResourceInUseException",
            Self::Commit(_) if self.is_closed() => "ServiceUnavailable",
            Self::Read(_) | Self::Commit(_) => "InternalFailureException",
            _ => "InvalidArgumentException",
        }
    }

    /// Whether the cloud is stopping: nothing was done, and the same request is answered after its next start.
    ///
    /// Source: Amazon Kinesis Data Streams, Common Errors: `ServiceUnavailable`, status 503, which clients retry.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Commit(error) if matches!(**error, CommitError::Closed))
    }

    /// Whether it is the cloud's fault and not the request's.
    pub fn is_fault(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Commit(_))
    }
}

impl Explain for StreamError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchStream { .. } | Self::NoSuchShard { .. } => "E0840",
            Self::Name { .. } => "E0841",
            Self::NotEmpty { .. } => "E0842",
            Self::Key { .. } | Self::HashKey { .. } | Self::TooLarge { .. } => "E0843",
            Self::EmptyBatch | Self::TooMany { .. } | Self::BatchTooLarge { .. } => "E0844",
            Self::Iterator { .. } | Self::IteratorExpired => "E0845",
            Self::Sequence { .. } => "E0846",
            Self::Parameter { .. } | Self::Unsupported { .. } => "E0847",
            Self::Pinned { .. } => "E0849",
            Self::Read(e) => e.code(),
            Self::Commit(e) => e.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoSuchStream { .. } | Self::NoSuchShard { .. } => {
                "see the streams with `tandem stack show`; a client reaches those of its own stack"
            }
            Self::Name { .. } => "a name has 1 to 128 letters, digits, `-`, `_` and `.`",
            Self::NotEmpty { .. } => {
                "wait until its retention is over, or set `forceDestroy: true`, or run with `--force`"
            }
            Self::Pinned { .. } => {
                "give `streamName` another value with the other number of shards, or leave both as they are"
            }
            Self::Key { .. } | Self::HashKey { .. } => "give each record a key: records of one key keep their order",
            Self::TooLarge { .. } => "put what is large into a bucket, and its key into the stream",
            Self::EmptyBatch | Self::TooMany { .. } | Self::BatchTooLarge { .. } => {
                "put 1 to 500 records of at most 10 MiB together at a time"
            }
            Self::Iterator { .. } | Self::IteratorExpired => {
                "get another one with GetShardIterator, from the sequence number of the last record that you have"
            }
            Self::Sequence { .. } => "use one that a put or a read of that shard answered",
            Self::Parameter { .. } | Self::Unsupported { .. } => "see what streams can do in the guide",
            Self::Read(e) => return e.help(),
            Self::Commit(e) => return e.help(),
        }
        .to_owned()
    }
}
