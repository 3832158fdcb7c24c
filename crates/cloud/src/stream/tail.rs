//! Reading a whole stream as programs do: all shards together, by the time at which records came.

use std::{collections::BTreeMap, time::Duration};

use futures::future::{join_all, select_all};
use serde::{Deserialize, Serialize};
use tandem_model::inputs::StartingPosition;

use super::{Streams, error::StreamError, read::Range, row::Record};

/// The most of a page.
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
    /// [`StreamError::NoSuchStream`], or those of the store.
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
                () = self.closing.cancelled() => {}
            }
        }
        let few = PAGE_BYTES / shards.len();
        let pages = shards.iter().map(|shard| self.read(&open, Range::from(*shard, from(*shard), PAGE, few)));
        let pages = join_all(pages).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let mut ended = pages.iter().all(|page| page.ended);
        // What comes after the last of a page that is cut off may be before the last of another.
        let known =
            pages.iter().filter(|page| !page.ended).map(|page| page.records.last().map_or(0, |r| r.arrived));
        let known = known.min().unwrap_or(u64::MAX);
        let mut next: BTreeMap<u32, u64> =
            shards.iter().copied().zip(pages.iter().map(|page| page.next)).collect();
        let mut records: Vec<(u32, Record)> = Vec::new();
        for (shard, page) in shards.iter().zip(pages) {
            records.extend(page.records.into_iter().map(|record| (*shard, record)));
        }
        records.sort_by_key(|(shard, record)| (record.arrived, *shard, record.number));
        let some = records.partition_point(|(_, record)| record.arrived <= known).min(PAGE);
        for (shard, left) in records.drain(some..) {
            ended = false;
            let next = next.entry(shard).or_default();
            *next = left.number.min(*next);
        }
        Ok(Tail { records, cursor: Cursor(next), ended })
    }
}
