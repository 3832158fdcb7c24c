//! RocksDB: a log-structured merge tree, its log synced at each commit.

use std::path::Path;

use anyhow::Result;
use rocksdb::{Cache, DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::engine::{Batch, CACHE, Engine};

pub struct Rocks(DB);

impl Rocks {
    pub fn open(folder: &Path) -> Result<Self> {
        let mut options = Options::default();
        options.create_if_missing(true);
        let mut blocks = rocksdb::BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(CACHE));
        options.set_block_based_table_factory(&blocks);
        Ok(Self(DB::open(&options, folder.join("rocksdb"))?))
    }
}

impl Engine for Rocks {
    fn commit(&self, group: &[Batch]) -> Result<()> {
        let mut write = WriteBatch::default();
        for batch in group {
            if self.0.get_pinned(&batch.absent)?.is_some() {
                continue;
            }
            for (key, value) in &batch.puts {
                write.put(key, value);
            }
            for key in &batch.deletes {
                write.delete(key);
            }
        }
        let mut synced = WriteOptions::default();
        synced.set_sync(true);
        Ok(self.0.write_opt(&write, &synced)?)
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for entry in self.0.iterator(IteratorMode::From(from, Direction::Forward)) {
            let (key, value) = entry?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
