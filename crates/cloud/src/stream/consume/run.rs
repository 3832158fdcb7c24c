//! A lane at work.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::{Report, Urn, inputs::Subscription};
use tandem_store::{Batch, CommitError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Lane, Open, Streams, told::record_failed};
use crate::{
    dispatch::{BatchHandler, DeadLetter, THROTTLE, Undelivered, backoff, bury, too_long},
    log::Sink,
    stream::{
        key::lane_row,
        lane::{Ended, Next},
        row::Record,
    },
};

/// How long nothing is tried after an error of the store.
pub(super) const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How long after a batch has failed a smaller one is tried.
const HALVED: Duration = Duration::from_millis(100);

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

/// The lane ends.
pub(super) enum Over {
    /// It was told to stop, or the stream is gone.
    Told,
    /// Its row is not as it left it.
    Overtaken,
}

/// What the disk holds, and what the lane knows beyond that.
pub(super) struct State {
    row: Bytes,
    pub(super) lane: Lane,
    /// Where to read on: the lane has no records before it.
    pub(super) from: u64,
    /// It was handed over before this start, and nobody knows how that ended.
    resumed: bool,
    /// From the one number to the other records are gone, and that is to be told.
    pub(super) lost: Option<(u64, u64)>,
    /// When the row was written.
    pub(super) noted: Instant,
}

pub(super) fn encode(lane: &Lane) -> Bytes {
    serde_json::to_vec(lane).expect("a lane is a struct").into()
}

impl Worker {
    /// Works from this on, which is what the disk holds, until something ends it.
    pub(super) async fn run(&self, lane: Lane) -> Over {
        // One for which there was no room was not handed over.
        let resumed = lane.underway.is_some_and(|underway| underway.attempt > 0);
        let (row, from, noted) = (encode(&lane), lane.next, Instant::now());
        let mut state = State { row, from, lane, resumed, lost: None, noted };
        let over = loop {
            if let Err(over) = self.turn(&mut state).await {
                break over;
            }
        };
        if self.stop.is_cancelled() && matches!(over, Over::Told) {
            // All that is known: what is done, how a batch was divided, that there was no room, what was passed over.
            self.note_passed(&mut state);
            let _ = self.save(&mut state).await;
        }
        over
    }

    async fn turn(&self, state: &mut State) -> Result<(), Over> {
        // Its records are not held meanwhile.
        match self.attempt(state).await? {
            Some(pause) => self.pause(pause).await,
            None if self.stop.is_cancelled() => Err(Over::Told),
            None => Ok(()),
        }
    }

    /// One batch: read, handed over, concluded. Answers for how long nothing is to be done.
    async fn attempt(&self, state: &mut State) -> Result<Option<Duration>, Over> {
        let records = self.gather(state).await?;
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        let (count, begun) = state.lane.begin(&numbers);
        let (batch, numbers) = (&records[..count], &numbers[..count]);
        let attempt = begun.underway.map_or(1, |underway| underway.attempt);
        let resumed = std::mem::take(&mut state.resumed);
        let most = self.subscription.max_attempts;
        if resumed && attempt > most && !self.subscription.starts() {
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
        // A run of a task goes on by itself, and is found again by the attempt that it was; so is an instance.
        let again = resumed && self.subscription.starts();
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

    pub(super) async fn pause(&self, pause: Duration) -> Result<(), Over> {
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.open.gone.cancelled() => Err(Over::Told),
            () = self.stop.cancelled() => Err(Over::Told),
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

    /// Goes on after an attempt. What is handled is noted with the next batch, or when there is none. Answers for how long nothing
    /// is to be done.
    async fn conclude(
        &self,
        state: &mut State,
        batch: &[Record],
        after: Lane,
        next: Next,
        error: Report,
        log_tail: Vec<String>,
    ) -> Result<Option<Duration>, Over> {
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
            return Ok(None);
        }
        if next != Next::On && next != Next::Soon {
            tracing::info!(subscription = %self.urn, code = error.code, "records were not handled: {}", error.message);
        }
        match next {
            Next::On | Next::Dead { .. } => Ok(None),
            Next::Soon => {
                if attempt >= self.subscription.max_attempts {
                    // After a kill it would be taken for the last attempt.
                    self.save(state).await?;
                }
                Ok(Some(THROTTLE))
            }
            Next::Fewer => Ok(Some(HALVED)),
            Next::Again { attempt } => {
                // The attempt is on disk already, unless the handler told of this record among others.
                self.save(state).await?;
                Ok(Some(backoff(attempt)))
            }
        }
    }

    pub(super) async fn save(&self, state: &mut State) -> Result<(), Over> {
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
                Err(CommitError::Conflict { .. }) => return Err(Over::Overtaken),
                Err(CommitError::Closed) => return Err(Over::Told),
            }
        }
        state.row = wanted;
        state.noted = Instant::now();
        Ok(())
    }

    pub(super) fn row(&self) -> Bytes {
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
