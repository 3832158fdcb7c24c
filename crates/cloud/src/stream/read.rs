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
pub(super) const SCANNED: usize = 16 << 20;

/// What to read.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) shard: u32,
    /// The first number.
    pub(super) from: u64,
    /// The number after the last.
    pub(super) until: u64,
    pub(super) most: usize,
    /// With keys. One record is read however long it is, unless the reader has some already.
    pub(super) bytes: usize,
    /// So many bytes the reader has already.
    pub(super) had: usize,
    /// Only the records of this lane, of so many.
    pub(super) lane: (u32, u32),
    /// And without those that were done when there was another number of lanes: see [`Lane`](super::lane::Lane).
    pub(super) done: Vec<Vec<u64>>,
}

impl Range {
    /// All of a shard.
    pub(super) fn from(shard: u32, from: u64, most: usize, bytes: usize) -> Self {
        Self { shard, from, until: u64::MAX, most, bytes, had: 0, lane: (0, 1), done: Vec::new() }
    }

    fn wants(&self, record: &Record) -> bool {
        let lane = |lanes: usize| super::shard::lane(&record.key, u32::try_from(lanes).unwrap_or(1)) as usize;
        let (its, lanes) = self.lane;
        (lanes == 1 || lane(lanes as usize) == its as usize)
            && !self.done.iter().any(|next| record.number < next[lane(next.len())])
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) records: Vec<Record>,
    /// Where to go on: all wanted records before it are in the page.
    pub(super) next: u64,
    /// There was nothing more in the range.
    pub(super) ended: bool,
    /// From the first number of the range up to here, and not with it, all records are gone: there were some if this is after it.
    pub(super) lost: u64,
}

impl Streams {
    pub(super) async fn read(&self, open: &Arc<Open>, range: Range) -> Result<Page, StreamError> {
        let (store, open, now) = (self.store.clone(), open.clone(), (self.clock)());
        blocking(move || read(&*store, &open, &range, now)).await
    }
}

fn read(store: &dyn Store, open: &Open, range: &Range, now: u64) -> Result<Page, StreamError> {
    let Range { shard, from, until, most, bytes, had, .. } = *range;
    // All before it are in the snapshot, or were removed.
    let tail = open.tail(shard);
    let snapshot = store.snapshot()?;
    let too_old = open.too_old(now);
    let before = last_row(&*snapshot, &open.name, shard, from)?.filter(|row| row.end() > from);
    let start = before.map_or(from, |row| row.first);
    let (mut page, mut size, mut scanned) =
        (Page { records: Vec::new(), next: from, ended: false, lost: from }, had, 0);
    let (start, end) = (record_row(&open.name, shard, start), after_prefix(&records(&open.name, shard)));
    let mut found = false;
    for entry in snapshot.range(&start, &end, Direction::Ascending)? {
        let (key, row) = entry?;
        if first_of(&key) >= until {
            page.next = page.next.max(until);
            page.ended = true;
            if !found {
                page.lost = page.next;
            }
            return Ok(page);
        }
        if scanned > SCANNED {
            return Ok(page);
        }
        let length = row.len();
        scanned += length;
        let row = Row::read(first_of(&key), row)?;
        if row.arrived <= too_old {
            page.next = page.next.max(row.end().min(until));
            page.lost = page.next;
            continue;
        }
        if !std::mem::replace(&mut found, true) {
            page.lost = page.lost.max(row.first.min(until));
            page.next = page.next.max(page.lost);
        }
        for record in row {
            let mut record = record?;
            if record.number < from {
                continue;
            }
            if record.number >= until {
                page.ended = true;
                return Ok(page);
            }
            let wanted = range.wants(&record);
            if wanted {
                size += record.key.len() + record.data.len();
                if page.records.len() == most || (size > bytes && (had > 0 || !page.records.is_empty())) {
                    return Ok(page);
                }
            }
            page.next = record.number + 1;
            if wanted {
                record.detach(length);
                page.records.push(record);
            }
        }
    }
    page.next = page.next.max(tail.min(until));
    page.ended = true;
    if !found {
        page.lost = page.next;
    }
    Ok(page)
}
