//! The store: an ordered, transactional key-value port, and files for large bodies.
//!
//! Everything durable in the embedded cloud is a layer over [`Store`]. An acknowledged commit is on disk (I1).
//! Start at [`port`]; [`blobs`] holds the bodies that are too large to live inline. Of the backends, [`RedbStore`]
//! keeps its promises on a disk and [`MemoryStore`] serves tests; both pass [`conformance`].

pub mod backend;
pub mod blobs;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod port;
mod space;

pub use backend::{MemoryStore, OpenError, Options, RedbStore};
pub use blobs::{BlobError, BlobId, BlobWriter, Blobs, FileBlobs};
pub use port::{
    Batch, CommitError, Damage, Direction, Entries, Precondition, ReadError, Snapshot, Store, Write,
    after_prefix,
};
pub use space::Reserve;

#[cfg(test)]
mod tests;
