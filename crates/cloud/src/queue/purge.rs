//! Deleting all messages of a queue: a purge, and the end of the queue itself.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use tandem_failpoint::hit;
use tandem_store::{Batch, CommitError};

use super::{
    Queues,
    error::QueueError,
    key::{CLOSING, Key, OPEN, TABLES, key_of, queue_row, table},
    open::Open,
    through,
};

/// How many messages go in one commit.
const AT_ONCE: usize = 1000;
/// How long after a purge there is no other, in milliseconds. Source: Amazon SQS, PurgeQueue.
const PAUSE: u64 = 60_000;

impl Queues {
    /// Deletes all messages, those in flight too. When it answers, they are gone.
    ///
    /// # Errors
    /// [`QueueError::PurgeInProgress`] within a minute of the last one, [`QueueError::NoSuchQueue`], or those of the store:
    /// then some may be gone.
    pub async fn purge(self: &Arc<Self>, queue: &str) -> Result<(), QueueError> {
        let open = self.open(queue).await?;
        let last = open.purged.load(Ordering::Relaxed);
        if last > 0 && open.now() < last + PAUSE {
            return Err(QueueError::PurgeInProgress);
        }
        open.purged.store(open.now(), Ordering::Relaxed);
        let queues = self.clone();
        through(async move {
            let _gate = open.gate.clone().write_owned().await;
            queues.empty(&open, OPEN, &["message", "lease"]).await
        })
        .await
    }

    /// Closes a queue and deletes what is in it: nobody receives or sends any more.
    ///
    /// # Errors
    /// [`QueueError::NotEmpty`] unless `force`; those of the store. Then it is open, with what is left.
    pub(super) async fn close(self: &Arc<Self>, queue: &str, force: bool) -> Result<(), QueueError> {
        if self.store.snapshot()?.get(&queue_row(queue))?.as_deref() == Some(CLOSING) {
            // An earlier deletion of this start was cut off.
            self.set_state(queue, OPEN).await?;
        }
        let open = self.open(queue).await?;
        let queues = self.clone();
        through(async move {
            let _gate = open.gate.clone().write_owned().await;
            let messages = open.core().messages();
            if messages > 0 && !force {
                return Err(QueueError::NotEmpty { queue: open.name.clone(), messages });
            }
            queues.set_state(&open.name, CLOSING).await?;
            hit("queue.closing.committed");
            let emptied = queues.empty(&open, CLOSING, &TABLES).await;
            queues.forget(&open.name);
            // Who waits finds that it is gone.
            open.arrival.notify_waiters();
            emptied
        })
        .await
    }

    pub(super) async fn set_state(&self, queue: &str, state: &'static [u8]) -> Result<(), QueueError> {
        if self.store.snapshot()?.get(&queue_row(queue))?.as_deref() == Some(state) {
            return Ok(());
        }
        let mut batch = Batch::default();
        // Closing is the first step of a deletion, which makes room.
        batch.put(queue_row(queue), state).frees();
        Ok(self.store.commit(batch).await?)
    }

    /// Deletes the rows of tables, and memory of the messages, in commits of bounded size. The gate is held for writing.
    async fn empty(&self, open: &Open, state: &'static [u8], tables: &[&str]) -> Result<(), QueueError> {
        for name in tables {
            loop {
                let table = table(name, &open.name);
                let rows = self.some_rows(&table)?;
                if rows.is_empty() {
                    break;
                }
                let mut batch = Batch::default();
                batch.expect(queue_row(&open.name), Some(Bytes::from_static(state)));
                for row in &rows {
                    batch.delete(row.clone());
                }
                match self.store.commit(batch).await {
                    Err(CommitError::Conflict { .. }) => {
                        return Err(QueueError::NoSuchQueue { queue: open.name.clone() });
                    }
                    other => other?,
                }
                hit("queue.emptying.committed");
                if *name == "message" {
                    let keys: Vec<Key> = rows.iter().map(|row| key_of(row, &table)).collect();
                    let mut core = open.core();
                    keys.iter().for_each(|key| core.purged(key));
                }
            }
        }
        Ok(())
    }

    fn some_rows(&self, table: &Bytes) -> Result<Vec<Bytes>, QueueError> {
        let snapshot = self.store.snapshot()?;
        let rows = snapshot.prefix(table)?.take(AT_ONCE).map(|entry| entry.map(|(row, _)| row));
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
