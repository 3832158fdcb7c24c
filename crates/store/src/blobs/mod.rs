//! Blobs: bodies too large to live in the store, written once and never changed.
//!
//! A blob means nothing until a commit of the store refers to it. So the order is: create, write, finish (which makes
//! the body and its name durable), *then* commit the record that names it. A crash in between leaves a blob that nothing
//! refers to, and the [`sweep`](Blobs::sweep) after the next start removes it. Deleting goes the other way round: first
//! commit that nothing refers to it, then delete.

mod file;

use std::{fmt, io, ops::Range, str::FromStr};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tandem_model::Explain;

pub use file::FileBlobs;

/// Names one blob: the start of the cloud that wrote it, and a number.
///
/// The start is in the name so that a sweep can tell what this start may still be writing from what it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobId {
    start: u128,
    number: u64,
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:x}", self.start, self.number)
    }
}

/// A text that is no [`BlobId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of a blob")]
pub struct BlobIdError(String);

impl FromStr for BlobId {
    type Err = BlobIdError;

    fn from_str(text: &str) -> Result<Self, BlobIdError> {
        let parsed = text.split_once('-').and_then(|(start, number)| {
            Some(Self {
                start: u128::from_str_radix(start, 16).ok()?,
                number: u64::from_str_radix(number, 16).ok()?,
            })
        });
        // Only the one spelling, so that an id and a file name are the same thing.
        parsed.filter(|id| id.to_string() == text).ok_or_else(|| BlobIdError(text.to_owned()))
    }
}

impl TryFrom<String> for BlobId {
    type Error = BlobIdError;

    fn try_from(text: String) -> Result<Self, BlobIdError> {
        text.parse()
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.to_string()
    }
}

/// What went wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("the disk is nearly full: writes are refused until space is free again")]
    Full,
    #[error("blob `{id}` is not there")]
    Missing { id: BlobId },
    #[error("blob `{id}` is damaged: it ends after {found} bytes, before byte {needed}")]
    Short { id: BlobId, found: u64, needed: u64 },
    #[error("cannot {action} a blob")]
    Io { action: &'static str, source: io::Error },
}

impl Explain for BlobError {
    fn code(&self) -> &'static str {
        match self {
            Self::Full => "E0904",
            Self::Missing { .. } => "E0909",
            Self::Short { .. } => "E0911",
            Self::Io { .. } => "E0905",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Full => "free some space on the disk of TANDEM_HOME; nothing needs to be restarted",
            Self::Missing { .. } | Self::Short { .. } => {
                "restore a backup (`tandem restore`), or put the object again"
            }
            Self::Io { .. } => "see the log of the cloud (`serve.log` in TANDEM_HOME) and check the disk",
        }
        .to_owned()
    }
}

/// The bytes of a blob, in order, in pieces of at most a few hundred KiB.
pub type BlobStream = BoxStream<'static, io::Result<Bytes>>;

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    pub blobs: u64,
    pub bytes: u64,
}

/// A place for bodies.
#[async_trait]
pub trait Blobs: fmt::Debug + Send + Sync {
    /// Begins a blob under a name that was never used.
    ///
    /// # Errors
    /// [`BlobError::Full`] below the reserve of free space.
    async fn create(&self) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// Opens the bytes in `range`, which must lie within the blob. A blob that is deleted while it is read is read to
    /// its end; one that something else cuts short meanwhile ends with an error.
    ///
    /// # Errors
    /// [`BlobError::Missing`] if there is none of that name; [`BlobError::Short`] if it ends before the range does.
    async fn open(&self, id: BlobId, range: Range<u64>) -> Result<BlobStream, BlobError>;

    /// Deletes a blob; one that is not there is deleted already. Nothing in the store may refer to it any more.
    ///
    /// # Errors
    /// [`BlobError::Io`]; a later sweep removes it.
    async fn delete(&self, id: BlobId) -> Result<(), BlobError>;

    /// All blobs, finished or not, in no order.
    ///
    /// # Errors
    /// [`BlobError::Io`] if they cannot be listed.
    async fn list(&self) -> Result<Vec<BlobId>, BlobError>;

    /// Removes the blobs of earlier starts of the cloud that `referenced` denies. Those of this start stay: their
    /// records may be about to be committed.
    ///
    /// # Errors
    /// [`BlobError::Io`] if they cannot be listed; one that cannot be removed is logged and left for the next sweep.
    async fn sweep(&self, referenced: &(dyn Fn(BlobId) -> bool + Send + Sync)) -> Result<Swept, BlobError>;
}

/// Writes one blob. Dropped unfinished, it removes what it wrote.
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends. Takes the bytes at once and writes them behind: an error may come with a later call.
    ///
    /// # Errors
    /// [`BlobError::Full`] when the disk is full. After an error the blob can only be dropped.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes the body and its name durable and answers the name. Until a commit refers to it, a restart may remove it.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    async fn finish(self: Box<Self>) -> Result<BlobId, BlobError>;
}

#[cfg(test)]
mod tests;
