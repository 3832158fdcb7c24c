//! The store: an ordered, transactional key-value port, and files for large bodies.
//!
//! Everything durable in the embedded cloud is a layer over [`Store`]. An acknowledged commit is on disk.
//! Start at [`port`]; [`blobs`] holds the bodies that are too large to live inline.

pub mod port;

pub use port::{Batch, CommitError, Direction, Entries, Precondition, ReadError, Snapshot, Store, Write};
