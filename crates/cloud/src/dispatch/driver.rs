//! The delivering side: takes deliveries to their consumers and commits what became of them.
//!
//! Each subscription has a [`Lane`] of its own with a bounded number of attempts at once, so a slow consumer slows nobody
//! else. Claims live in memory only; the rows tell a restart all it needs.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::{Kind, Report, Urn};
use tandem_store::{Batch, CommitError, ReadError, Store};
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use super::{
    Begin, Consumer, Delivery, Outbox, Step, Trail, Undelivered, chain,
    core::{Next, after},
    lane::Lane,
    row::{DELIVERIES, DeadLetter, count, dead_key, delivery_key, encode, subscriptions_with_rows},
};
use crate::log::{Line, Sink, Stream};

/// How long a row that could not be read is left alone.
const REREAD: Duration = Duration::from_secs(1);

/// Who takes deliveries, by the kind of the consumer.
pub type Consumers = HashMap<Kind, Arc<dyn Consumer>>;

/// Delivers until it is closed. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    consumers: Consumers,
    log: Arc<dyn Sink>,
    trail: Trail,
    lanes: Mutex<HashMap<Urn, Lane>>,
    /// A lane was filled from the store once, so a hint may be older than the end of its delivery.
    refilled: AtomicBool,
    closing: watch::Sender<bool>,
    attempts: TaskTracker,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

/// The receiving end of the outbox's hints; made before the dispatcher, because consumers need the outbox first.
#[derive(Debug)]
pub struct Hints(mpsc::UnboundedReceiver<Delivery>, Trail);

impl Dispatcher {
    /// The outbox, for the services that make events, and what [`start`](Self::start) needs of it.
    pub fn outbox() -> (Arc<Outbox>, Hints) {
        Self::outbox_with(Trail::default())
    }

    /// The same, with a trail of what becomes of events.
    pub fn outbox_with(trail: Trail) -> (Arc<Outbox>, Hints) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Outbox::new(sender, trail.clone())), Hints(receiver, trail))
    }

    /// Takes up every open delivery in the store, and from then on each new one. Call it before any event can happen:
    /// one that commits during the scan would be delivered twice.
    ///
    /// # Errors
    /// [`ReadError`] if the open deliveries cannot be read.
    pub fn start(
        store: Arc<dyn Store>,
        hints: Hints,
        consumers: Consumers,
        log: Arc<dyn Sink>,
    ) -> Result<Self, ReadError> {
        let subscriptions = subscriptions_with_rows(&*store.snapshot()?, DELIVERIES, None)?;
        let shared = Arc::new(Shared {
            store,
            consumers,
            log,
            trail: hints.1.clone(),
            lanes: Mutex::default(),
            refilled: AtomicBool::new(false),
            closing: watch::Sender::new(false),
            attempts: TaskTracker::new(),
        });
        for subscription in subscriptions {
            let mut lane = Lane::default();
            lane.refill(&*shared.store.snapshot()?, &subscription)?;
            if lane.has_more() {
                shared.refilled.store(true, Ordering::Relaxed);
            }
            shared.lanes().insert(subscription.clone(), lane);
            shared.fill(&subscription);
        }
        let receiving = shared.clone();
        shared.attempts.spawn(async move { receiving.receive(hints).await });
        Ok(Self { shared })
    }

    /// All events that were given up, for tests of those who make events.
    #[cfg(test)]
    pub(crate) fn dead_letters(&self) -> Result<Vec<DeadLetter>, ReadError> {
        super::row::scan(&*self.shared.store.snapshot()?, super::row::DEAD.as_bytes())
    }

    /// How many deliveries are open, by subscription: those that wait, that are tried, and that pause between attempts.
    /// Counted in the store, so an event is among them from the moment that its source was acknowledged.
    ///
    /// # Errors
    /// [`ReadError`] if they cannot be counted.
    pub fn backlog(&self) -> Result<HashMap<Urn, usize>, ReadError> {
        let snapshot = self.shared.store.snapshot()?;
        let subscriptions = subscriptions_with_rows(&*snapshot, DELIVERIES, None)?.into_iter();
        subscriptions.map(|urn| Ok((urn.clone(), count(&*snapshot, DELIVERIES, &urn)?))).collect()
    }

    /// Begins no further attempt, and waits at most `grace` for those under way. What is left is delivered after the
    /// next start.
    pub async fn close(&self, grace: Duration) {
        self.shared.closing.send_replace(true);
        self.shared.attempts.close();
        let _ = tokio::time::timeout(grace, self.shared.attempts.wait()).await;
    }
}

impl Shared {
    fn lanes(&self) -> std::sync::MutexGuard<'_, HashMap<Urn, Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    async fn receive(self: Arc<Self>, mut hints: Hints) {
        let mut closing = self.closing.subscribe();
        loop {
            tokio::select! {
                hint = hints.0.recv() => match hint {
                    Some(delivery) => self.hear(delivery),
                    None => return,
                },
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
    }

    /// Takes up a delivery that was committed just now.
    fn hear(self: &Arc<Self>, delivery: Delivery) {
        let urn = delivery.subscription.clone();
        {
            let mut lanes = self.lanes();
            // While the lanes are locked, none takes it up or ends it.
            if self.refilled.load(Ordering::Relaxed)
                && self.row(&delivery_key(&delivery)).is_ok_and(|row| row.is_none())
            {
                return;
            }
            let size = encode(&delivery).len();
            let lane = lanes.entry(urn.clone()).or_default();
            lane.push(delivery, size);
        }
        self.fill(&urn);
    }

    fn row(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.store.snapshot()?.get(key)
    }

    fn read(&self, key: &[u8]) -> Result<Option<(Delivery, usize)>, ReadError> {
        let Some(row) = self.row(key)? else { return Ok(None) };
        let delivery = serde_json::from_slice(&row).map_err(|e| ReadError(Box::new(e)))?;
        Ok(Some((delivery, row.len())))
    }

    /// Begins as many attempts of a lane as fit.
    fn fill(self: &Arc<Self>, urn: &Urn) {
        loop {
            let delivery = {
                let mut lanes = self.lanes();
                let Some(lane) = lanes.get_mut(urn) else { return };
                if self.is_closing() {
                    return;
                }
                if lane.wants_more() {
                    self.refill(lane, urn);
                }
                let Some(delivery) = lane.begin() else {
                    if lane.is_empty() {
                        lanes.remove(urn);
                    }
                    return;
                };
                delivery
            };
            let shared = self.clone();
            self.attempts.spawn(async move {
                let (lane, id) = (delivery.subscription.clone(), delivery.id.clone());
                let key = delivery_key(&delivery);
                let pause = shared.attempt(delivery).await;
                if let Some(lane) = shared.lanes().get_mut(&lane) {
                    lane.ended(&id, pause.is_some());
                }
                if let Some(pause) = pause {
                    shared.resume_after(lane.clone(), id, key, pause);
                }
                shared.fill(&lane);
            });
        }
    }

    fn refill(self: &Arc<Self>, lane: &mut Lane, urn: &Urn) {
        self.refilled.store(true, Ordering::Relaxed);
        let filled = self.store.snapshot().and_then(|snapshot| lane.refill(&*snapshot, urn));
        if let Err(error) = filled {
            tracing::error!(subscription = %urn, %error, "cannot read open deliveries; trying again");
            let (shared, urn) = (self.clone(), urn.clone());
            self.attempts.spawn(async move { shared.paused(REREAD).await.then(|| shared.fill(&urn)) });
        }
    }

    /// Waits; false if the dispatcher closes meanwhile.
    async fn paused(&self, pause: Duration) -> bool {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            _ = closing.wait_for(|closing| *closing) => false,
        }
    }

    /// Lets a delivery pause. Its row keeps it meanwhile.
    fn resume_after(self: &Arc<Self>, urn: Urn, id: String, key: Bytes, pause: Duration) {
        let shared = self.clone();
        self.attempts.spawn(async move {
            loop {
                if !shared.paused(pause).await {
                    return;
                }
                match shared.read(&key) {
                    Ok(found) => {
                        if let Some(lane) = shared.lanes().get_mut(&urn) {
                            lane.resume(&id, found);
                        }
                        return shared.fill(&urn);
                    }
                    Err(error) => {
                        tracing::error!(row = %key.escape_ascii(), %error, "cannot read a delivery; trying again");
                    }
                }
            }
        });
    }

    /// One attempt: counts it, makes it, commits what became of it. Answers after which pause it must be tried again.
    async fn attempt(&self, delivery: Delivery) -> Option<Duration> {
        let began = Timestamp::now();
        if let Some(error) = chain::too_long(&delivery) {
            return self.conclude(&delivery, began, Next::Dead { error, log_tail: vec![] }).await;
        }
        let begun = Delivery { attempt: delivery.attempt + 1, ..delivery.clone() };
        if begun.attempt > begun.max_attempts {
            let consumer = self.consumers.get(&delivery.consumer.kind);
            if let Some(consumer) = consumer
                && let Some(result) = consumer.resume(&delivery).await
            {
                let next = after(delivery.attempt, delivery.max_attempts, result, jitter());
                return self.conclude(&delivery, began, next).await;
            }
            let error = Report {
                code: "E0650".into(),
                message: "the cloud stopped during the last attempt".into(),
                help: "look at the log of that time, then put the event again".into(),
                causes: vec![],
            };
            return self.conclude(&delivery, began, Next::Dead { error, log_tail: vec![] }).await;
        }
        let (begin, has_begun) = Begin::new();
        let counting = async {
            match has_begun.await {
                Ok(()) => Some(self.count(&delivery, &begun).await),
                Err(_) => None,
            }
        };
        let (counted, result) = tokio::join!(counting, self.deliver(&begun, begin));
        hit("dispatch.consumer.answered");
        let never_begun = counted.is_none() && result == Err(Undelivered::Throttled);
        let next = after(begun.attempt, begun.max_attempts, result, jitter());
        if let (true, Next::Again { pause, .. }) = (never_begun, &next) {
            // The row says already what it said before.
            return Some(*pause);
        }
        let counted = match counted {
            Some(counted) => counted,
            None => self.count(&delivery, &begun).await,
        };
        // Its subscription was deleted meanwhile, and the row with it; or the cloud closes, and the next start goes on.
        counted.ok()?;
        self.conclude(&begun, began, next).await
    }

    async fn count(&self, before: &Delivery, begun: &Delivery) -> Result<(), CommitError> {
        let mut batch = Batch::default();
        let key = delivery_key(begun);
        batch.expect(key.clone(), Some(encode(before))).put(key.clone(), encode(begun));
        self.record(batch, &key, Some(encode(begun))).await?;
        hit("dispatch.attempt.counted");
        Ok(())
    }

    /// Commits, however long the disk makes it wait: the delivery is not made again meanwhile. `wanted` is what the row
    /// holds afterwards, by which a commit that failed in its answer only is recognised.
    async fn record(&self, batch: Batch, key: &Bytes, wanted: Option<Bytes>) -> Result<(), CommitError> {
        let mut closing = self.closing.subscribe();
        let mut failed = false;
        loop {
            match self.store.commit(batch.clone()).await {
                Err(error @ (CommitError::Full | CommitError::Backend(_))) => {
                    tracing::error!(row = %key.escape_ascii(), %error, "cannot record a delivery; trying again");
                    failed = true;
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(1)) => {}
                        _ = closing.wait_for(|closing| *closing) => return Err(CommitError::Closed),
                    }
                }
                Err(CommitError::Conflict { .. }) if failed && self.holds(key, wanted.as_ref()) => {
                    return Ok(());
                }
                other => return other,
            }
        }
    }

    fn holds(&self, key: &Bytes, wanted: Option<&Bytes>) -> bool {
        self.store.snapshot().and_then(|s| s.get(key)).is_ok_and(|found| found.as_ref() == wanted)
    }

    async fn deliver(&self, delivery: &Delivery, begin: Begin) -> Result<(), Undelivered> {
        match self.consumers.get(&delivery.consumer.kind) {
            Some(consumer) => consumer.attempt(delivery, begin).await,
            None => Err(Undelivered::Throttled),
        }
    }

    async fn conclude(&self, begun: &Delivery, began: Timestamp, next: Next) -> Option<Duration> {
        let outcome = next.outcome();
        let told = || {
            let (ended, delivery) = (Timestamp::now(), Box::new(begun.clone()));
            self.trail.write(Step::Tried { began, ended, delivery, outcome });
        };
        let mut batch = Batch::default();
        let key = delivery_key(begun);
        batch.expect(key.clone(), Some(encode(begun)));
        let (wanted, pause) = match next {
            // The row already says what a retry needs.
            Next::Again { attempt, pause, .. } if attempt == begun.attempt => {
                told();
                return Some(pause);
            }
            Next::Again { attempt, pause, .. } => {
                let uncounted = encode(&Delivery { attempt, ..begun.clone() });
                batch.put(key.clone(), uncounted.clone());
                (Some(uncounted), Some(pause))
            }
            Next::Settled => {
                batch.delete(key.clone());
                (None, None)
            }
            Next::Dead { error, log_tail } => {
                self.say(begun, &error);
                let letter = DeadLetter { delivery: begun.clone(), time: Timestamp::now(), error, log_tail };
                batch.delete(key.clone()).put(dead_key(begun), encode(&letter));
                (None, None)
            }
        };
        // Before the row goes, so that it is never in neither.
        told();
        self.record(batch, &key, wanted).await.ok()?;
        hit("dispatch.outcome.committed");
        pause
    }

    fn say(&self, delivery: &Delivery, error: &Report) {
        let subject = delivery.event.subject.as_deref().unwrap_or(&delivery.event.id);
        self.log.write(Line {
            time: Timestamp::now(),
            resource: delivery.consumer.clone(),
            stream: Stream::System,
            id: delivery.id.clone(),
            text: format!(
                "gave up `{subject}` after {} attempts: {error}; the event is in the dead letters",
                delivery.attempt
            ),
        });
    }
}

/// A number in `0.0..1.0`: spreads retries, decides nothing.
fn jitter() -> f64 {
    f64::from(u16::try_from(uuid::Uuid::new_v4().as_u128() & 0xffff).unwrap_or(0)) / 65536.0
}
