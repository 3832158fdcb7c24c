//! The next batch of a lane: what is read for it, waited for, passed over, and found to be gone.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    batch_size,
    run::{AFTER_ERROR, Over, State, Worker},
};
use crate::stream::{
    error::StreamError,
    read::{Page, Range},
    row::Record,
};

/// A batch has so many bytes of records at most, and one record anyhow. Less than the 6 MB of AWS Lambda, because it is text.
const BATCH_BYTES: usize = 4 << 20;
/// So many records of other lanes are passed over before that is noted: a restart passes over them again.
const PASSED: u64 = 10_000;
/// Or so long after the last note: much less than any retention.
const NOTED: Duration = Duration::from_secs(60);

/// Records of the next batch, and where to read on for it.
#[derive(Default)]
struct Gathered {
    records: Vec<Record>,
    bytes: usize,
    next: u64,
}

impl Worker {
    /// The records of the next batch, at least one; waits for them.
    pub(super) async fn gather(&self, state: &mut State) -> Result<Vec<Record>, Over> {
        let size = batch_size(&self.subscription);
        let window = self.subscription.batch_window.unwrap_or(0.0);
        let window = Duration::try_from_secs_f64(window).unwrap_or_default();
        let mut batch = Gathered::default();
        let mut end = None;
        loop {
            let (until, whole) = state.lane.until();
            batch.next = batch.next.max(state.from);
            let page = self.read(state, &batch).await?;
            self.lose(state, &batch, &page).await?;
            let Page { records, next, ended, .. } = page;
            batch.next = next;
            batch.bytes += records.iter().map(|record| record.key.len() + record.data.len()).sum::<usize>();
            batch.records.extend(records);
            if !batch.records.is_empty() {
                if whole && !ended {
                    // It is handed over as it was.
                    continue;
                }
                let full = whole || until < u64::MAX || !ended || batch.records.len() >= size;
                let now = Instant::now();
                let end = *end.get_or_insert(now + window);
                if full || now >= end {
                    return Ok(batch.records);
                }
                // That may be long: what is done is noted before.
                self.save(state).await?;
                self.grown(next, Some(end)).await?;
                continue;
            }
            state.from = next;
            if ended && until < u64::MAX {
                // Nothing of what was handed over is there any more.
                state.lane = state.lane.passed(until);
                continue;
            }
            if state.from > state.lane.next + PASSED {
                self.note_passed(state);
                self.save(state).await?;
            }
            if ended {
                // What is done is noted before there is nothing to note it with.
                self.save(state).await?;
                self.idle(state).await?;
            }
        }
    }

    /// Reads on after what was gathered, up to where the batch may go.
    async fn read(&self, state: &State, batch: &Gathered) -> Result<Page, Over> {
        let (until, whole) = state.lane.until();
        let most = if whole { usize::MAX } else { batch_size(&self.subscription) - batch.records.len() };
        let range = Range {
            shard: self.shard,
            from: batch.next,
            until,
            most,
            bytes: if whole { usize::MAX } else { BATCH_BYTES },
            had: batch.bytes,
            lane: (self.lane, state.lane.of),
            done: state.lane.done.clone(),
        };
        loop {
            match self.streams.read(&self.open, range.clone()).await {
                Ok(page) => return Ok(page),
                Err(error) => self.unread(&error).await?,
            }
        }
    }

    /// Notes that records are gone, and tells it once it is known where that ends.
    async fn lose(&self, state: &mut State, batch: &Gathered, page: &Page) -> Result<(), Over> {
        // A lane that is at 0 does not know which records there were.
        if page.lost > batch.next && batch.next > 0 {
            let from = state.lost.map_or(batch.next, |(from, _)| from);
            state.lost = Some((from, page.lost));
        }
        let bounded = state.lane.until().0 < u64::MAX;
        if page.next == page.lost && (!page.ended || bounded) {
            return Ok(());
        }
        let Some((from, until)) = state.lost.take() else { return Ok(()) };
        self.tell_lost(from, until, state.lane.of);
        if batch.records.is_empty() {
            state.lane = state.lane.passed(until);
        }
        self.save(state).await
    }

    /// What was passed over is before what is not done.
    pub(super) fn note_passed(&self, state: &mut State) {
        if state.lane.until().0 == u64::MAX {
            state.lane = state.lane.passed(state.from);
        }
    }

    /// Waits for records; notes meanwhile what was passed over, so that nobody takes it for lost when it is gone one day.
    async fn idle(&self, state: &mut State) -> Result<(), Over> {
        if state.from > state.lane.next {
            let end = state.noted + NOTED;
            self.grown(state.from, Some(end)).await?;
            if Instant::now() < end {
                return Ok(());
            }
            self.note_passed(state);
            self.save(state).await?;
        }
        self.grown(state.from, None).await
    }

    async fn unread(&self, error: &StreamError) -> Result<(), Over> {
        if matches!(error, StreamError::NoSuchStream { .. }) || self.open.gone.is_cancelled() {
            return Err(Over::Told);
        }
        if !self.stop.is_cancelled() {
            tracing::warn!(subscription = %self.urn, shard = self.shard, %error, "cannot read a stream; trying again");
        }
        self.pause(AFTER_ERROR).await
    }

    /// Waits until there are records from `next` on.
    async fn grown(&self, next: u64, until: Option<Instant>) -> Result<(), Over> {
        let mut tail = self.open.follow(self.shard);
        let end = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            grown = tail.wait_for(|tail| *tail > next) => grown.map(|_| ()).map_err(|_| Over::Told),
            () = end => Ok(()),
            () = self.open.gone.cancelled() => Err(Over::Told),
            () = self.stop.cancelled() => Err(Over::Told),
        }
    }
}
