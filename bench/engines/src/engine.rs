//! What is compared: an ordered map that writes a group of batches and syncs once.

use std::path::Path;

use anyhow::Result;

use crate::engines::{fjall, lmdb, redb, sqlite};

/// One client's commit: a key that must be absent, and what is written.
pub struct Batch {
    pub absent: Vec<u8>,
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    pub deletes: Vec<Vec<u8>>,
}

pub trait Engine: Send + Sync {
    /// Judges each batch against what the ones before it wrote, writes those that may, and returns when all of it is on
    /// disk: what our committer does.
    fn commit(&self, group: &[Batch]) -> Result<()>;

    /// Reads the entries from `from` on, in order, until `each` says `false`.
    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()>;
}

pub const NAMES: &[&str] = &[
    "redb",
    "redb quick repair",
    "fjall",
    "sqlite",
    "lmdb",
    #[cfg(feature = "rocksdb")]
    "rocksdb",
];

pub fn open(name: &str, folder: &Path) -> Result<Box<dyn Engine>> {
    Ok(match name {
        "redb" => Box::new(redb::Redb::open(folder, false)?),
        "redb quick repair" => Box::new(redb::Redb::open(folder, true)?),
        "fjall" => Box::new(fjall::Fjall::open(folder)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(folder)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(folder)?),
        #[cfg(feature = "rocksdb")]
        "rocksdb" => Box::new(crate::engines::rocksdb::Rocks::open(folder)?),
        other => anyhow::bail!("there is no engine `{other}`"),
    })
}

/// The cache that each engine is given, as the cloud gives it.
pub const CACHE: usize = 32 << 20;
