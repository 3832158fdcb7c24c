//! Reading the records of a shard from a number on.

use std::sync::Arc;

use tandem_store::{Direction, Store, after_prefix};

use super::{
    Streams, blocking,
    error::StreamError,
    key::{first_of, record_row, records},
    open::{Open, last_row},
    row::{Record, Row},
};

/// So many bytes of rows are looked at for one page.
const SCANNED: usize = 16 << 20;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) shard: u32,
    /// The first number.
    pub(super) from: u64,
    /// The number after the last.
    pub(super) until: u64,
    pub(super) most: usize,
    /// With keys. One record is read however long it is.
    pub(super) bytes: usize,
    /// Only the records of this lane, of so many.
    pub(super) lane: (u32, u32),
}

impl Range {
    /// All of a shard.
    pub(super) fn from(shard: u32, from: u64, most: usize, bytes: usize) -> Self {
        Self { shard, from, until: u64::MAX, most, bytes, lane: (0, 1) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) records: Vec<Record>,
    /// Where to go on: all wanted records before it are in the page.
    pub(super) next: u64,
    /// There was nothing more in the range.
    pub(super) ended: bool,
    /// The first number that there was in the shard, if it is after the one that was asked for.
    pub(super) lost_until: Option<u64>,
}

impl Streams {
    pub(super) async fn read(&self, open: &Arc<Open>, range: Range) -> Result<Page, StreamError> {
        let (store, open, now) = (self.store.clone(), open.clone(), (self.clock)());
        blocking(move || read(&*store, &open, &range, now)).await
    }
}

fn read(store: &dyn Store, open: &Open, range: &Range, now: u64) -> Result<Page, StreamError> {
    let Range { shard, from, until, most, bytes, lane: (lane, lanes) } = *range;
    // All before it are in the snapshot, or were removed.
    let tail = open.tail(shard);
    let snapshot = store.snapshot()?;
    let too_old = open.too_old(now);
    let before = last_row(&*snapshot, &open.name, shard, from)?.filter(|row| row.end() > from);
    let start = before.map_or(from, |row| row.first);
    let (mut page, mut size, mut scanned) =
        (Page { records: Vec::new(), next: from, ended: false, lost_until: None }, 0, 0);
    let (start, end) = (record_row(&open.name, shard, start), after_prefix(&records(&open.name, shard)));
    let mut found = false;
    for entry in snapshot.range(&start, &end, Direction::Ascending)? {
        let (key, row) = entry?;
        if first_of(&key) >= until {
            page.next = page.next.max(until);
            page.ended = true;
            return Ok(page);
        }
        if scanned > SCANNED {
            return Ok(page);
        }
        scanned += row.len();
        let row = Row::read(first_of(&key), row)?;
        if row.arrived <= too_old {
            page.next = page.next.max(row.end().min(until));
            continue;
        }
        if !std::mem::replace(&mut found, true) && row.first > from {
            page.lost_until = Some(row.first.min(until));
        }
        for record in row {
            let record = record?;
            if record.number < from {
                continue;
            }
            if record.number >= until {
                page.ended = true;
                return Ok(page);
            }
            let wanted = lanes == 1 || super::shard::lane(&record.key, lanes) == lane;
            if wanted {
                size += record.key.len() + record.data.len();
                if page.records.len() == most || (size > bytes && !page.records.is_empty()) {
                    return Ok(page);
                }
            }
            page.next = record.number + 1;
            if wanted {
                page.records.push(record);
            }
        }
    }
    page.next = page.next.max(tail.min(until));
    page.ended = true;
    Ok(page)
}
