//! A stream that is in use: the next numbers of its shards, what waits to be written, and who waits to read.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use tandem_store::{Direction, Snapshot, Store, after_prefix};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    append::Waiting,
    error::{StreamError, damaged},
    key::{OPEN, Settings, Stamp, first_of, head_row, records, settings_row, stream_row, tail_row},
    row::Row,
};

pub(super) struct Open {
    pub(super) name: String,
    settings: RwLock<Settings>,
    /// Of each shard, the number of the next record; all before it are on disk. Written by the one who appends.
    tails: Vec<watch::Sender<u64>>,
    /// What the one who appends knows.
    head: Mutex<Head>,
    /// Puts that wait for the commit under way.
    pub(super) waiting: Mutex<Waiting>,
    /// It was deleted, or the disk holds something else than this knows: whoever uses it opens the stream anew.
    pub(super) gone: CancellationToken,
}

#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Of each shard, the next number that nobody was ever given.
    pub(super) next: Vec<u64>,
    /// What the disk holds while nobody else puts; `None`: a stream of a version that kept none.
    pub(super) stamp: Option<Stamp>,
    /// When the last record came.
    pub(super) last: u64,
}

impl Open {
    /// Reads the last row of each shard.
    pub(super) fn load(store: &dyn Store, stream: &str) -> Result<Self, StreamError> {
        let snapshot = store.snapshot()?;
        let missing = || StreamError::NoSuchStream { stream: stream.to_owned() };
        if snapshot.get(&stream_row(stream))?.as_deref() != Some(OPEN) {
            return Err(missing());
        }
        let settings = snapshot.get(&settings_row(stream))?.ok_or_else(missing)?;
        let settings: Settings = serde_json::from_slice(&settings).map_err(damaged)?;
        let stamp = snapshot.get(&head_row(stream))?.map(Stamp);
        let mut head = Head { next: Vec::new(), stamp, last: 0 };
        for shard in 0..settings.shards {
            let removed = match snapshot.get(&tail_row(stream, shard))? {
                Some(row) => row.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
                None => Some(1),
            };
            let removed = removed.ok_or_else(|| damaged("a row of a shard's tail ends too early"))?;
            let last = last_row(&*snapshot, stream, shard, u64::MAX)?;
            head.next.push(last.as_ref().map_or(0, Row::end).max(removed));
            head.last = head.last.max(last.map_or(0, |row| row.arrived));
        }
        Ok(Self {
            name: stream.to_owned(),
            settings: RwLock::new(settings),
            tails: head.next.iter().map(|next| watch::Sender::new(*next)).collect(),
            head: Mutex::new(head),
            waiting: Mutex::default(),
            gone: CancellationToken::new(),
        })
    }

    pub(super) fn settings(&self) -> Settings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was committed.
    pub(super) fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(super) fn shards(&self) -> u32 {
        self.settings().shards
    }

    pub(super) fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next record of a shard: all before it are on disk.
    pub(super) fn tail(&self, shard: u32) -> u64 {
        *self.tails[shard as usize].borrow()
    }

    /// Follows [`tail`](Self::tail).
    pub(super) fn follow(&self, shard: u32) -> watch::Receiver<u64> {
        self.tails[shard as usize].subscribe()
    }

    /// Tells that the records before `next` are on disk.
    pub(super) fn committed(&self, shard: u32, next: u64) {
        self.tails[shard as usize].send_replace(next);
    }

    /// Records that came then, or before, are too old.
    pub(super) fn too_old(&self, now: u64) -> u64 {
        now.saturating_sub(u64::from(self.settings().retention) * 3_600_000)
    }
}

/// The last row of a shard whose first record has a number up to that.
pub(super) fn last_row(
    snapshot: &dyn Snapshot,
    stream: &str,
    shard: u32,
    number: u64,
) -> Result<Option<Row>, StreamError> {
    let from = records(stream, shard);
    let end = match number.checked_add(1) {
        Some(end) => super::key::record_row(stream, shard, end).to_vec(),
        None => after_prefix(&from),
    };
    match snapshot.range(&from, &end, Direction::Descending)?.next() {
        Some(entry) => {
            let (key, row) = entry?;
            Row::read(first_of(&key), row).map(Some)
        }
        None => Ok(None),
    }
}
