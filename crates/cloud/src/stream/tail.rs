//! Reading a whole stream as programs do: all shards together, by the time at which records came.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use futures::future::select_all;
use serde::{Deserialize, Serialize};
use tandem_model::inputs::StartingPosition;
use tandem_store::{CommitError, Direction, Snapshot, Store, after_prefix};

use super::{
    Streams, blocking,
    error::StreamError,
    key::{first_of, record_row, records},
    open::{Open, last_row},
    read::SCANNED,
    row::{Record, Row},
};

/// The most of a page, together; one record however long it is.
const PAGE: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;
/// The longest wait for records.
const WAIT: Duration = Duration::from_secs(20);

/// How far a reader has come: the next number of each shard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(BTreeMap<u32, u64>);

/// Some records of a stream.
#[derive(Debug)]
pub struct Tail {
    /// Each with its shard. Those of one shard are in their order; all are by the time at which they came.
    pub records: Vec<(u32, Record)>,
    pub cursor: Cursor,
    /// There was nothing more.
    pub ended: bool,
}

impl Streams {
    /// A cursor at a position.
    ///
    /// # Errors
    /// [`StreamError::NoSuchStream`], or those of the store.
    pub async fn cursor(&self, stream: &str, position: StartingPosition) -> Result<Cursor, StreamError> {
        let open = self.open(stream).await?;
        let mut numbers = BTreeMap::new();
        for shard in 0..open.shards() {
            numbers.insert(shard, self.number_at(&open, shard, position).await?);
        }
        Ok(Cursor(numbers))
    }

    /// Reads on from a cursor. With `wait`, waits up to 20 seconds if there is nothing.
    ///
    /// # Errors
    /// [`StreamError::NoSuchStream`], or those of the store; [`CommitError::Closed`] if it would wait while the cloud stops.
    pub async fn read_on(&self, stream: &str, cursor: &Cursor, wait: bool) -> Result<Tail, StreamError> {
        let open = self.open(stream).await?;
        let from = |shard: u32| cursor.0.get(&shard).copied().unwrap_or(0);
        let shards: Vec<u32> = (0..open.shards()).collect();
        if wait && shards.iter().all(|shard| open.tail(*shard) <= from(*shard)) {
            let mut tails: Vec<_> = shards.iter().map(|shard| open.follow(*shard)).collect();
            let grown = tails.iter_mut().zip(&shards).map(|(tail, shard)| {
                let from = from(*shard);
                Box::pin(async move { tail.wait_for(|next| *next > from).await.map(|_| ()) })
            });
            tokio::select! {
                _ = select_all(grown) => {}
                () = tokio::time::sleep(WAIT) => {}
                () = open.gone.cancelled() => {}
                () = self.closing.cancelled() => {
                    // An empty page would be asked for again at once.
                    return Err(CommitError::Closed.into());
                }
            }
        }
        let (store, cursor, now) = (self.store.clone(), cursor.clone(), self.now());
        blocking(move || Merge::new(&*store, &open, cursor, now)?.page()).await
    }
}

/// Reads row by row, the one that came first of all shards before the others: in memory is what is answered, and one row, however
/// many shards there are.
struct Merge<'a> {
    snapshot: Box<dyn Snapshot>,
    open: &'a Open,
    /// Of each shard; all records before it are in the snapshot, or were removed.
    tails: Vec<u64>,
    cursor: Cursor,
    too_old: u64,
    /// So many bytes of rows that are too old were passed over.
    passed: usize,
}

impl<'a> Merge<'a> {
    fn new(store: &dyn Store, open: &'a Open, cursor: Cursor, now: u64) -> Result<Self, StreamError> {
        let tails = (0..open.shards()).map(|shard| open.tail(shard)).collect();
        let (snapshot, too_old) = (store.snapshot()?, open.too_old(now));
        Ok(Self { snapshot, open, tails, cursor, too_old, passed: 0 })
    }

    fn page(mut self) -> Result<Tail, StreamError> {
        let mut records = Vec::new();
        let ended = self.fill(&mut records)?;
        Ok(Tail { records, cursor: self.cursor, ended })
    }

    /// Answers whether there is nothing more.
    fn fill(&mut self, records: &mut Vec<(u32, Record)>) -> Result<bool, StreamError> {
        // By the time at which its first row came, and what comes first of that.
        let mut heads = BinaryHeap::new();
        for shard in 0..self.open.shards() {
            if let Some((row, _)) = self.row(shard)? {
                heads.push(Reverse((row.arrived, shard)));
            }
        }
        let mut size = 0;
        while self.passed <= SCANNED
            && let Some(Reverse((_, shard))) = heads.pop()
        {
            let Some((row, length)) = self.row(shard)? else { continue };
            for record in row {
                let mut record = record?;
                let next = self.cursor.0.entry(shard).or_default();
                if record.number < *next {
                    continue;
                }
                size += record.key.len() + record.data.len();
                if records.len() == PAGE || (size > PAGE_BYTES && !records.is_empty()) {
                    return Ok(false);
                }
                *next = record.number + 1;
                record.detach(length);
                records.push((shard, record));
            }
            if let Some((row, _)) = self.row(shard)? {
                heads.push(Reverse((row.arrived, shard)));
            }
        }
        if self.passed > SCANNED {
            return Ok(false);
        }
        for (shard, tail) in (0..).zip(&self.tails) {
            let next = self.cursor.0.entry(shard).or_default();
            *next = (*next).max(*tail);
        }
        Ok(true)
    }

    /// The row of a shard from which the next record comes, and how long it is.
    fn row(&mut self, shard: u32) -> Result<Option<(Row, usize)>, StreamError> {
        let name = &self.open.name;
        let next = self.cursor.0.entry(shard).or_default();
        let before = last_row(&*self.snapshot, name, shard, *next)?.filter(|row| row.end() > *next);
        let start = record_row(name, shard, before.map_or(*next, |row| row.first));
        let end = after_prefix(&records(name, shard));
        for entry in self.snapshot.range(&start, &end, Direction::Ascending)? {
            let (key, bytes) = entry?;
            let length = bytes.len();
            let row = Row::read(first_of(&key), bytes)?;
            if row.arrived > self.too_old {
                return Ok(Some((row, length)));
            }
            *next = row.end().max(*next);
            self.passed += length;
            if self.passed > SCANNED {
                break;
            }
        }
        Ok(None)
    }
}
