//! A table without row ids over a write-ahead log, `synchronous = FULL`: the log is synced at each commit.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use rusqlite::{Connection, params};

use crate::engine::{Batch, CACHE, Engine};

pub struct Sqlite {
    write: Mutex<Connection>,
    read: Mutex<Connection>,
}

fn connect(folder: &Path) -> Result<Connection> {
    let connection = Connection::open(folder.join("store.sqlite"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -(CACHE as i64 / 1024))?;
    connection.execute(
        "CREATE TABLE IF NOT EXISTS tandem (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        [],
    )?;
    Ok(connection)
}

impl Sqlite {
    pub fn open(folder: &Path) -> Result<Self> {
        Ok(Self { write: Mutex::new(connect(folder)?), read: Mutex::new(connect(folder)?) })
    }
}

impl Engine for Sqlite {
    fn commit(&self, group: &[Batch]) -> Result<()> {
        let mut connection = self.write.lock().unwrap_or_else(PoisonError::into_inner);
        let write = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut find = write.prepare_cached("SELECT 1 FROM tandem WHERE key = ?")?;
            let mut put = write.prepare_cached("INSERT OR REPLACE INTO tandem VALUES (?, ?)")?;
            let mut delete = write.prepare_cached("DELETE FROM tandem WHERE key = ?")?;
            for batch in group {
                if find.exists([&batch.absent])? {
                    continue;
                }
                for (key, value) in &batch.puts {
                    put.execute(params![key, value])?;
                }
                for key in &batch.deletes {
                    delete.execute([key])?;
                }
            }
        }
        Ok(write.commit()?)
    }

    fn range(&self, from: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<()> {
        let connection = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut find =
            connection.prepare_cached("SELECT key, value FROM tandem WHERE key >= ? ORDER BY key")?;
        let mut rows = find.query([from])?;
        while let Some(row) = rows.next()? {
            if !each(row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?) {
                break;
            }
        }
        Ok(())
    }
}
