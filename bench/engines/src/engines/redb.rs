//! As `crates/store` uses it.

use std::path::Path;

use anyhow::Result;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::engine::{Batch, CACHE, Engine};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tandem");

pub struct Redb {
    database: Database,
    quick_repair: bool,
}

impl Redb {
    pub fn open(folder: &Path, quick_repair: bool) -> Result<Self> {
        let database = redb::Builder::new().set_cache_size(CACHE).create(folder.join("store.redb"))?;
        let write = database.begin_write()?;
        write.open_table(TABLE)?;
        write.commit()?;
        Ok(Self { database, quick_repair })
    }
}

impl Engine for Redb {
    fn commit(&self, group: &[Batch]) -> Result<()> {
        let mut write = self.database.begin_write()?;
        write.set_quick_repair(self.quick_repair);
        {
            let mut table = write.open_table(TABLE)?;
            for batch in group {
                if table.get(batch.absent.as_slice())?.is_some() {
                    continue;
                }
                for (key, value) in &batch.puts {
                    table.insert(key.as_slice(), value.as_slice())?;
                }
                for key in &batch.deletes {
                    table.remove(key.as_slice())?;
                }
            }
        }
        Ok(write.commit()?)
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let table = self.database.begin_read()?.open_table(TABLE)?;
        for entry in table.range(from..)? {
            let (key, value) = entry?;
            if !each(key.value(), value.value()) {
                break;
            }
        }
        Ok(())
    }
}
