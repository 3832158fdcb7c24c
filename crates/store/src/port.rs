//! The port: snapshots to read, batches to commit.
//!
//! Keys and values are bytes; keys are ordered bytewise. A backend passes the conformance suite of this crate.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use tandem_model::Explain;

/// An ordered, transactional key-value store.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// A consistent view of everything committed before this call. Cheap; holds back the reuse of disk space while it
    /// lives, so do not keep it across a wait for something outside.
    ///
    /// # Errors
    /// [`ReadError`] if the backend cannot read.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError>;

    /// Makes all writes of the batch true at once, if all its preconditions hold. When this returns `Ok`, they are on
    /// disk. Concurrent commits share one fsync; each batch is judged on its own, in the order of its arrival.
    ///
    /// # Errors
    /// [`CommitError::Conflict`] if a precondition does not hold; nothing was written.
    /// [`CommitError::Full`] below the reserve of free space; nothing was written.
    async fn commit(&self, batch: Batch) -> Result<(), CommitError>;

    /// Finishes the commits under way and closes. Later commits fail with [`CommitError::Closed`].
    async fn close(&self);
}

/// The entries of a range, in the order asked for.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<(Bytes, Bytes), ReadError>> + 'a>;

/// A consistent view of a store.
pub trait Snapshot: Send {
    /// # Errors
    /// [`ReadError`] if the backend cannot read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// The entries with `from <= key < to`. Lazy: reads as the iterator is advanced.
    ///
    /// # Errors
    /// [`ReadError`] if the backend cannot read.
    fn range(&self, from: &[u8], to: &[u8], direction: Direction) -> Result<Entries<'_>, ReadError>;

    /// The entries whose key starts with `prefix`, ascending.
    ///
    /// # Errors
    /// [`ReadError`] if the backend cannot read.
    fn prefix(&self, prefix: &[u8]) -> Result<Entries<'_>, ReadError> {
        self.range(prefix, &after_prefix(prefix), Direction::Ascending)
    }
}

/// The first key after all keys that start with `prefix`.
pub fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    // Only for a prefix of nothing but 0xff: no key of ours starts so.
    vec![u8::MAX; prefix.len() + 1]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Writes that become true together, under preconditions. Applied in order; a later write of a key wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub preconditions: Vec<Precondition>,
    pub writes: Vec<Write>,
    /// Whether it may use the reserve of free space though it puts something: see [`Batch::frees`].
    pub frees: bool,
}

impl Batch {
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.writes.push(Write::Put { key: key.into(), value: value.into() });
        self
    }

    pub fn delete(&mut self, key: impl Into<Bytes>) -> &mut Self {
        self.writes.push(Write::Delete { key: key.into() });
        self
    }

    /// Lets it use the reserve of free space, because it makes room or is a step towards that. A batch that only deletes
    /// may do so anyhow.
    pub fn frees(&mut self) -> &mut Self {
        self.frees = true;
        self
    }

    /// Whether it is refused while less than the reserve is free.
    pub fn needs_room(&self) -> bool {
        !self.frees && self.writes.iter().any(|write| matches!(write, Write::Put { .. }))
    }

    /// Requires that `key` holds exactly `value`; `None` requires that it is absent.
    pub fn expect(&mut self, key: impl Into<Bytes>, value: Option<Bytes>) -> &mut Self {
        self.preconditions.push(Precondition { key: key.into(), value });
        self
    }
}

/// What a key must hold when the batch commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
}

/// A read that the backend could not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot read from the store")]
pub struct ReadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// A commit that did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("the store changed underneath: a precondition on `{}` does not hold", key.escape_ascii())]
    Conflict { key: Bytes },
    #[error("the disk is nearly full: writes are refused until space is free again")]
    Full,
    #[error("the store is closed")]
    Closed,
    #[error("cannot write to the store")]
    Backend(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the disk, or another program, has made of a store's file: the source of a [`ReadError`], or of
/// [`CommitError::Backend`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store `{}` is damaged: {what}", path.display())]
pub struct Damage {
    pub path: PathBuf,
    pub what: String,
}

const RESTORE: &str = "restore a backup (`tandem restore`) into an empty TANDEM_HOME, and check the disk";

impl Explain for ReadError {
    fn code(&self) -> &'static str {
        if self.0.is::<Damage>() { "E0910" } else { "E0906" }
    }

    fn help(&self) -> String {
        match self.0.is::<Damage>() {
            true => RESTORE,
            false => "see the log of the cloud (`serve.log` in TANDEM_HOME) and check the disk",
        }
        .to_owned()
    }
}

impl Explain for CommitError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full => "E0904",
            Self::Conflict { .. } => "E0907",
            Self::Closed => "E0908",
            Self::Backend(source) if source.is::<Damage>() => "E0910",
            Self::Backend(_) => "E0905",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Full => "free some space on the disk of TANDEM_HOME; nothing needs to be restarted",
            Self::Conflict { .. } => "try again",
            Self::Closed => "the cloud is stopping: start it again with `tandem serve`",
            Self::Backend(source) if source.is::<Damage>() => RESTORE,
            Self::Backend(_) => "see the log of the cloud (`serve.log` in TANDEM_HOME) and check the disk",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_that_does_not_start_with_it() {
        assert_eq!(after_prefix(b"ab"), b"ac");
        assert_eq!(after_prefix(b"a\xff"), b"b");
    }
}
