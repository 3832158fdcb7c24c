//! Where reading begins: positions become numbers.

use std::sync::Arc;

use tandem_model::inputs::StartingPosition;
use tandem_store::{Direction, Store, after_prefix};

use super::{
    Streams, blocking,
    error::StreamError,
    key::{first_of, records},
    open::{Open, last_row},
    read::Range,
    row::Row,
};

impl Streams {
    /// The number of the first record of a shard that is there; the next one's if there is none.
    pub(super) async fn oldest(&self, open: &Arc<Open>, shard: u32) -> Result<u64, StreamError> {
        let mut from = 0;
        loop {
            let page = self.read(open, Range::from(shard, from, 1, 1)).await?;
            match page.records.first() {
                Some(first) => return Ok(first.number),
                None if page.ended => return Ok(page.next),
                None => from = page.next,
            }
        }
    }

    /// The number of the first record at a position of a shard.
    pub(super) async fn number_at(
        &self,
        open: &Arc<Open>,
        shard: u32,
        position: StartingPosition,
    ) -> Result<u64, StreamError> {
        match position {
            // What is too old is not read.
            StartingPosition::TrimHorizon => Ok(0),
            StartingPosition::Latest => Ok(open.tail(shard)),
            StartingPosition::At(time) => {
                let time = u64::try_from(time.as_millisecond()).unwrap_or(0);
                let (store, open) = (self.store.clone(), open.clone());
                blocking(move || since(&*store, &open, shard, time)).await
            }
        }
    }
}

/// The number of the first record that came then or later; the next one's if there is none. Looks at few rows.
fn since(store: &dyn Store, open: &Open, shard: u32, time: u64) -> Result<u64, StreamError> {
    let snapshot = store.snapshot()?;
    let (start, end) = (records(&open.name, shard), after_prefix(&records(&open.name, shard)));
    let first = snapshot.range(&start, &end, Direction::Ascending)?.next().transpose()?;
    let Some((key, _)) = first else { return Ok(open.tail(shard)) };
    // Before `low` all are older; from `high` on none is.
    let (mut low, mut high) = (first_of(&key), open.tail(shard));
    while low < high {
        let middle = low + (high - low) / 2;
        let row = last_row(&*snapshot, &open.name, shard, middle)?;
        match row {
            Some(Row { first, arrived, .. }) if arrived >= time => high = first.max(low),
            Some(row) => low = row.end().max(middle + 1).min(high),
            None => low = middle + 1,
        }
    }
    Ok(high)
}
