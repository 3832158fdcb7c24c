//! The end of records that are too old.
//!
//! A read never answers one. What is too old is looked for once a minute, so that it does not fill the disk; whole rows go,
//! the oldest first, a bounded number in a commit. The number that comes after them is kept: numbers are not given twice.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tandem_failpoint::hit;
use tandem_model::Kind;
use tandem_store::{Batch, CommitError};

use super::{
    Streams, blocking,
    error::StreamError,
    key::{OPEN, first_of, records, settings_row, stream_row, tail_row},
    open::Open,
    row::Row,
};

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(60);
/// How many rows, and bytes of rows, go in one commit.
const ROWS: usize = 256;
const BYTES: usize = 64 << 20;

/// Looks for records that are too old until the streams are gone.
pub async fn run(streams: Weak<Streams>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(streams) = streams.upgrade() else { return };
        for recorded in streams.resources.list(None) {
            if recorded.urn.kind == Kind::Stream
                && let Err(error) = streams.expire(&recorded.id.0).await
            {
                tracing::warn!(stream = %recorded.id, %error, "cannot remove old records");
            }
        }
    }
}

impl Streams {
    /// Deletes the records of a stream that are too old. Answers how many.
    pub(super) async fn expire(&self, stream: &str) -> Result<u64, StreamError> {
        let open = self.open(stream).await?;
        let mut gone = 0;
        for shard in 0..open.shards() {
            while let Some(some) = self.remove(&open, shard, OPEN, open.too_old((self.clock)())).await? {
                hit("stream.retention.committed");
                gone += some;
            }
        }
        Ok(gone)
    }

    /// Removes the oldest rows of a shard that came by then, as many as go in one commit, while the stream is in that state.
    /// Answers how many records; `None`: there was nothing to do.
    pub(super) async fn remove(
        &self,
        open: &Arc<Open>,
        shard: u32,
        state: &'static [u8],
        until: u64,
    ) -> Result<Option<u64>, StreamError> {
        let (store, at) = (self.store.clone(), open.clone());
        let found = blocking(move || {
            let snapshot = store.snapshot()?;
            let settings = snapshot.get(&settings_row(&at.name))?;
            let (mut keys, mut count, mut bytes, mut tail) = (Vec::new(), 0, 0, 0);
            for entry in snapshot.prefix(&records(&at.name, shard))? {
                let (key, row) = entry?;
                bytes += row.len();
                let row = Row::read(first_of(&key), row)?;
                if row.arrived > until || keys.len() == ROWS || bytes > BYTES {
                    break;
                }
                count += u64::from(row.count);
                tail = row.end();
                keys.push(key);
            }
            Ok((keys, count, tail, settings))
        });
        let (keys, count, tail, settings) = found.await?;
        if keys.is_empty() {
            return Ok(None);
        }
        let mut batch = Batch::default();
        batch.expect(stream_row(&open.name), Some(state.into())).frees();
        // They say when it was created: the rows are not those of a newer stream of the same name.
        batch.expect(settings_row(&open.name), settings);
        for key in keys {
            batch.delete(key);
        }
        batch.put(tail_row(&open.name, shard), tail.to_be_bytes().to_vec());
        match self.store.commit(batch).await {
            Ok(()) => Ok(Some(count)),
            Err(CommitError::Conflict { .. }) => {
                let now = self.store.snapshot()?.get(&stream_row(&open.name))?;
                match now.as_deref() == Some(state) {
                    // It was set to something else meanwhile.
                    true => Ok(Some(0)),
                    false => Err(StreamError::NoSuchStream { stream: open.name.clone() }),
                }
            }
            Err(error) => Err(error.into()),
        }
    }
}
