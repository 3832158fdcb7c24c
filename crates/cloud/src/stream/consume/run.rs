//! A lane at work.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::{Kind, Report, Urn, inputs::Subscription};
use tandem_store::{Batch, CommitError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Lane, Open, Streams, batch_size, told::record_failed};
use crate::{
    dispatch::{BatchHandler, DeadLetter, THROTTLE, Undelivered, backoff, bury, too_long},
    log::Sink,
    stream::{
        error::StreamError,
        key::lane_row,
        lane::{Ended, Next},
        read::{Page, Range},
        row::Record,
    },
};

/// How long nothing is tried after an error of the store.
pub(super) const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long after a batch has failed a smaller one is tried.
const HALVED: Duration = Duration::from_millis(100);
/// A batch has so many bytes of records at most, and one record anyhow. Less than the 6 MB of AWS Lambda, because it is text.
const BATCH_BYTES: usize = 4 << 20;
/// So many records of other lanes are passed over before that is noted: a restart passes over them again.
const PASSED: u64 = 10_000;

pub(super) struct Worker {
    pub(super) streams: Arc<Streams>,
    pub(super) handler: Arc<dyn BatchHandler>,
    pub(super) log: Arc<dyn Sink>,
    pub(super) open: Arc<Open>,
    pub(super) urn: Urn,
    pub(super) subscription: Subscription,
    pub(super) shard: u32,
    pub(super) lane: u32,
    pub(super) stop: CancellationToken,
}

/// The lane ends: told to stop, or its row is not its own any more.
struct Over;

/// What the disk holds, and what the lane knows beyond that.
struct State {
    row: Bytes,
    lane: Lane,
    /// Where to read on: the lane has no records before it.
    from: u64,
    /// It was handed over before this start, and nobody knows how that ended.
    resumed: bool,
}

pub(super) fn encode(lane: &Lane) -> Bytes {
    serde_json::to_vec(lane).expect("a lane is a struct").into()
}

impl Worker {
    pub(super) async fn run(self, lane: Lane) {
        let resumed = lane.underway.is_some();
        let mut state = State { row: encode(&lane), from: lane.next, lane, resumed };
        while self.turn(&mut state).await.is_ok() {}
    }

    /// One batch: read, handed over, concluded.
    async fn turn(&self, state: &mut State) -> Result<(), Over> {
        let records = self.gather(state).await?;
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        let (count, begun) = state.lane.begin(&numbers);
        let (batch, numbers) = (&records[..count], &numbers[..count]);
        let attempt = begun.underway.map_or(1, |underway| underway.attempt);
        let resumed = std::mem::take(&mut state.resumed);
        let most = self.subscription.max_attempts;
        if resumed && attempt > most && self.subscription.consumer.kind != Kind::Task {
            // It was under way whenever the cloud ended, as often as that may be.
            let error = Report {
                code: "E0650".into(),
                message: "the cloud stopped during the last attempt".into(),
                help: "look at the log of that time, then put the record again".into(),
                causes: vec![],
            };
            let (after, next) = state.lane.ended(numbers, most, Ended::Failed);
            return self.conclude(state, batch, after, next, error, vec![]).await;
        }
        // A run of a task goes on by itself, and is found again by the attempt that it was.
        let again = resumed && self.subscription.consumer.kind == Kind::Task;
        if !again || state.lane.underway.is_none() {
            state.lane = begun;
            // Without room for it the last time, it is on disk already.
            if encode(&state.lane) != state.row {
                self.record(state, Batch::default()).await?;
            }
            hit("stream.batch.begun");
        }
        let attempt = state.lane.underway.map_or(attempt, |underway| underway.attempt);
        let delivery = self.delivery(batch, attempt);
        let outcome = match too_long(&delivery) {
            Some(error) => Err(Undelivered::Failed { error, log_tail: vec![] }),
            None => self.handler.handle(&delivery).await,
        };
        hit("stream.batch.answered");
        let (ended, error, log_tail) = self.judge(batch, outcome);
        let (after, next) = state.lane.ended(numbers, most, ended);
        self.conclude(state, batch, after, next, error, log_tail).await
    }

    /// The records of the next batch, at least one; waits for them.
    async fn gather(&self, state: &mut State) -> Result<Vec<Record>, Over> {
        let size = batch_size(&self.subscription);
        let window = self.subscription.batch_window.unwrap_or(0.0);
        let window = Duration::try_from_secs_f64(window).unwrap_or_default();
        let mut end = None;
        loop {
            let (until, whole) = state.lane.until();
            let most = if whole { usize::MAX } else { size };
            let bytes = if whole { usize::MAX } else { BATCH_BYTES };
            let range = Range {
                shard: self.shard,
                from: state.from,
                until,
                most,
                bytes,
                lane: (self.lane, state.lane.of),
            };
            let page = match self.streams.read(&self.open, range).await {
                Ok(page) => page,
                Err(error) => {
                    self.unread(&error).await?;
                    continue;
                }
            };
            if state.from > 0 {
                self.tell_lost(state.from, &page);
                state.from = page.lost_until.unwrap_or(state.from);
            }
            let Page { records, next, ended, .. } = page;
            if !records.is_empty() {
                let full = whole || until < u64::MAX || !ended || records.len() >= size;
                let now = Instant::now();
                let end = *end.get_or_insert(now + window);
                if full || now >= end {
                    return Ok(records);
                }
                self.grown(next, Some(end)).await?;
                continue;
            }
            if ended && until < u64::MAX {
                // Retention has removed what was handed over.
                state.lane = state.lane.after(until - 1);
                state.from = state.lane.next;
                continue;
            }
            state.from = next;
            if state.from > state.lane.next + PASSED && until == u64::MAX {
                state.lane = Lane::new(state.from, state.lane.of);
                self.save(state).await?;
            }
            if ended {
                // What is done is noted before there is nothing to note it with.
                self.save(state).await?;
                self.grown(next, None).await?;
            }
        }
    }

    async fn unread(&self, error: &StreamError) -> Result<(), Over> {
        if matches!(error, StreamError::NoSuchStream { .. }) || self.open.gone.is_cancelled() {
            return Err(Over);
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
            grown = tail.wait_for(|tail| *tail > next) => grown.map(|_| ()).map_err(|_| Over),
            () = end => Ok(()),
            () = self.open.gone.cancelled() => Err(Over),
            () = self.stop.cancelled() => Err(Over),
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), Over> {
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.open.gone.cancelled() => Err(Over),
            () = self.stop.cancelled() => Err(Over),
        }
    }

    /// What became of a batch, of the lane's view.
    fn judge(
        &self,
        batch: &[Record],
        outcome: Result<HashSet<String>, Undelivered>,
    ) -> (Ended, Report, Vec<String>) {
        let nothing =
            Report { code: String::new(), message: String::new(), help: String::new(), causes: vec![] };
        match outcome {
            Ok(failed) if failed.is_empty() => (Ended::Handled, nothing, vec![]),
            Ok(failed) => {
                let first = batch.iter().find(|record| failed.contains(&self.sequence(record)));
                // As on AWS Lambda, an answer that names no record of the batch fails all of it.
                let ended = first.map_or(Ended::Failed, |record| Ended::FailedAt(record.number));
                (ended, record_failed(), vec![])
            }
            Err(Undelivered::Throttled) => (Ended::Throttled, nothing, vec![]),
            Err(Undelivered::Failed { error, log_tail }) => (Ended::Failed, error, log_tail),
        }
    }

    /// Goes on after an attempt. What is handled is noted with the next batch, or when there is none.
    async fn conclude(
        &self,
        state: &mut State,
        batch: &[Record],
        after: Lane,
        next: Next,
        error: Report,
        log_tail: Vec<String>,
    ) -> Result<(), Over> {
        let attempt = state.lane.underway.map_or(1, |underway| underway.attempt);
        state.from = after.next;
        state.lane = after;
        if let Next::Dead { number } = next {
            let record = batch.iter().find(|record| record.number == number);
            let mut dead = Batch::default();
            if let Some(record) = record {
                let delivery = self.delivery(std::slice::from_ref(record), attempt);
                self.say(&delivery, record, &error);
                bury(&mut dead, &DeadLetter { delivery, time: Timestamp::now(), error, log_tail });
            }
            self.record(state, dead).await?;
            hit("stream.record.buried");
            return self.go_on();
        }
        if next != Next::On && next != Next::Soon {
            tracing::info!(subscription = %self.urn, code = error.code, "records were not handled: {}", error.message);
        }
        match next {
            Next::On | Next::Dead { .. } => {
                if self.stop.is_cancelled() {
                    self.save(state).await?;
                }
                self.go_on()
            }
            Next::Soon => self.pause(THROTTLE).await,
            Next::Fewer => self.pause(HALVED).await,
            Next::Again { attempt } => {
                // The attempt is on disk already, unless the handler told of this record among others.
                self.save(state).await?;
                self.pause(backoff(attempt)).await
            }
        }
    }

    fn go_on(&self) -> Result<(), Over> {
        match self.stop.is_cancelled() {
            true => Err(Over),
            false => Ok(()),
        }
    }

    async fn save(&self, state: &mut State) -> Result<(), Over> {
        match encode(&state.lane) == state.row {
            true => Ok(()),
            false => {
                self.record(state, Batch::default()).await?;
                hit("stream.checkpoint.committed");
                Ok(())
            }
        }
    }

    /// Commits the lane as it is, and what the batch has besides, however long the disk makes it wait.
    async fn record(&self, state: &mut State, mut batch: Batch) -> Result<(), Over> {
        let (key, wanted) = (self.row(), encode(&state.lane));
        batch.expect(key.clone(), Some(state.row.clone())).put(key.clone(), wanted.clone());
        let mut failed = false;
        loop {
            match self.streams.store.commit(batch.clone()).await {
                Ok(()) => break,
                Err(error @ (CommitError::Full | CommitError::Backend(_))) => {
                    tracing::error!(subscription = %self.urn, %error, "cannot note how far a subscription has come; trying again");
                    failed = true;
                    sleep(AFTER_ERROR).await;
                }
                // One that failed in its answer only.
                Err(CommitError::Conflict { .. }) if failed && self.holds(&key, &wanted) => break,
                Err(CommitError::Conflict { .. } | CommitError::Closed) => return Err(Over),
            }
        }
        state.row = wanted;
        Ok(())
    }

    fn row(&self) -> Bytes {
        lane_row(&self.urn, &self.open.name, self.shard, self.lane)
    }

    fn holds(&self, key: &Bytes, wanted: &Bytes) -> bool {
        self.streams
            .store
            .snapshot()
            .and_then(|s| s.get(key))
            .is_ok_and(|found| found.as_ref() == Some(wanted))
    }
}
