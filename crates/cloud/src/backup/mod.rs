//! A cloud in one file: taken while it runs, restored into an empty folder.
//!
//! What belongs to it: every row of the store, the bodies that they name, the archives of programs and build contexts,
//! the root key, the address, and the engine's states and journals. So a restored cloud has the same identity, keys and
//! URLs, and `preview` finds what it left. Not in it: images and containers (a task's first run builds its image again
//! from its context), what functions and containers printed, and what only means something while a cloud runs.
//!
//! One moment: the engine's states are copied, and the snapshot of the store is taken, while no change of a resource can
//! become true ([`CloudTarget::commits`](crate::target::CloudTarget::commits)). The two records are then what a kill at
//! that moment would have left, so an `up` that was under way is taken up by the next one after a restore. Everything
//! else goes on: bodies that are deleted after the snapshot stay until they are copied ([`Hold`](crate::bucket::Hold)).
//!
//! Who owns it: [`take`] writes `<file>.partial` and gives it its name once it is on disk; a crash leaves the former
//! file, if there was one, and a partial one that the next backup overwrites. [`restore`] owns
//! `<home>/restoring`. What a crash of a restore leaves, and the next one finds:
//!
//! | killed | found | a cloud | `restore` again |
//! |---|---|---|---|
//! | while the file is read and checked | `restoring/` with a part | refuses to start | starts over |
//! | after everything is on disk, while it is moved to its place | `restoring/`, and some of it in place | refuses to start | removes both, starts over |
//! | after `restoring/` is removed | the whole | starts | refuses: the folder is not empty |
//!
//! So the removal of `restoring/` is what makes a restore true.

mod error;
mod format;
mod restore;
mod rows;
mod take;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use error::BackupError;
pub use restore::restore;
pub use take::{Live, Sources, take};

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes written or read so far.
    pub bytes: u64,
    /// How many there will be, as far as is known yet.
    pub of: Option<u64>,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The cloud's id, which the states of its stacks name.
    pub cloud: String,
    pub rows: u64,
    pub bodies: u64,
    pub archives: u64,
    pub stacks: u64,
    /// The size of the file, in bytes.
    pub bytes: u64,
    /// Bodies that were missing or cut short in the cloud itself, and so are not in its backup; at most [`NAMED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// How many those are.
    #[serde(default)]
    pub lost_bodies: u64,
}

/// How many lost bodies a summary names.
pub const NAMED: usize = 100;

/// What a backup says of itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    tandem: String,
    cloud: String,
    taken: jiff::Timestamp,
}

/// The format that this version writes, and the newest that it reads.
const FORMAT: u32 = 1;

const MANIFEST: &str = "manifest.json";
const END: &str = "end.json";
const ROOT_KEY: &str = "root-key.json";
const ADDRESS: &str = "address";
