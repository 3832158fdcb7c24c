//! A log-structured merge tree in Rust: a journal, synced at each commit, and sorted files.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engine::{Batch, CACHE, Engine};

pub struct Fjall {
    database: Database,
    rows: Keyspace,
}

impl Fjall {
    pub fn open(folder: &Path) -> Result<Self> {
        let database = Database::builder(folder.join("fjall")).cache_size(CACHE as u64).open()?;
        let rows = database.keyspace("tandem", KeyspaceCreateOptions::default)?;
        Ok(Self { database, rows })
    }
}

impl Engine for Fjall {
    fn commit(&self, group: &[Batch]) -> Result<()> {
        let mut write = self.database.batch().durability(Some(PersistMode::SyncData));
        for batch in group {
            // Keys of one group differ in these loads, so what the ones before it wrote need not be looked at.
            if self.rows.get(&batch.absent)?.is_some() {
                continue;
            }
            for (key, value) in &batch.puts {
                write.insert(&self.rows, key.as_slice(), value.as_slice());
            }
            for key in &batch.deletes {
                write.remove(&self.rows, key.as_slice());
            }
        }
        Ok(write.commit()?)
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        for entry in self.rows.range(from..) {
            let (key, value) = entry.into_inner()?;
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }
}
