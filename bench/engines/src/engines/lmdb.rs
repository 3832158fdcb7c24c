//! LMDB: a copy-on-write B-tree in a mapped file, synced at each commit.

use std::path::Path;

use anyhow::Result;
use heed::{Database, Env, EnvOpenOptions, types::Bytes};

use crate::engine::{Batch, Engine};

pub struct Lmdb {
    env: Env,
    rows: Database<Bytes, Bytes>,
}

impl Lmdb {
    pub fn open(folder: &Path) -> Result<Self> {
        // SAFETY: this process alone opens the file, once, and nobody else writes to it.
        let env = unsafe { EnvOpenOptions::new().map_size(32 << 30).open(folder)? };
        let mut write = env.write_txn()?;
        let rows = env.create_database(&mut write, None)?;
        write.commit()?;
        Ok(Self { env, rows })
    }
}

impl Engine for Lmdb {
    fn commit(&self, group: &[Batch]) -> Result<()> {
        let mut write = self.env.write_txn()?;
        for batch in group {
            if self.rows.get(&write, &batch.absent)?.is_some() {
                continue;
            }
            for (key, value) in &batch.puts {
                self.rows.put(&mut write, key, value)?;
            }
            for key in &batch.deletes {
                self.rows.delete(&mut write, key)?;
            }
        }
        Ok(write.commit()?)
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let read = self.env.read_txn()?;
        let bounds = (std::ops::Bound::Included(from), std::ops::Bound::<&[u8]>::Unbounded);
        for entry in self.rows.range(&read, &bounds)? {
            let (key, value) = entry?;
            if !each(key, value) {
                break;
            }
        }
        Ok(())
    }
}
