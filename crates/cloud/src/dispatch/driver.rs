//! The delivering side: takes deliveries to their consumers and commits what became of them.
//!
//! Each subscription has a lane of its own with a bounded number of attempts at once, so a slow consumer slows nobody
//! else. Claims live in memory only; the rows tell a restart all it needs.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
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
    Consumer, Delivery, Outbox, Undelivered,
    core::{Next, after},
    row::{DEAD, DELIVERIES, DeadLetter, dead_key, delivery_key, encode, scan},
};
use crate::log::{Line, Sink, Stream};

/// How many attempts of one subscription run at once. The consumer's own limits come on top.
const LANE_WIDTH: usize = 128;

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
    lanes: Mutex<HashMap<Urn, Lane>>,
    closing: watch::Sender<bool>,
    attempts: TaskTracker,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Delivery>,
    running: usize,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").finish_non_exhaustive()
    }
}

/// The receiving end of the outbox's hints; made before the dispatcher, because consumers need the outbox first.
#[derive(Debug)]
pub struct Hints(mpsc::UnboundedReceiver<Delivery>);

impl Dispatcher {
    /// The outbox, for the services that make events, and what [`start`](Self::start) needs of it.
    pub fn outbox() -> (Arc<Outbox>, Hints) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Arc::new(Outbox::new(sender)), Hints(receiver))
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
        let open: Vec<Delivery> = scan(&*store.snapshot()?, DELIVERIES.as_bytes())?;
        let shared = Arc::new(Shared {
            store,
            consumers,
            log,
            lanes: Mutex::default(),
            closing: watch::Sender::new(false),
            attempts: TaskTracker::new(),
        });
        open.into_iter().for_each(|delivery| shared.push(delivery));
        let receiving = shared.clone();
        shared.attempts.spawn(async move { receiving.receive(hints).await });
        Ok(Self { shared })
    }

    /// The events that were given up, of all subscriptions, ordered by subscription and then by time of enqueueing.
    ///
    /// # Errors
    /// [`ReadError`] if they cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>, ReadError> {
        scan(&*self.shared.store.snapshot()?, DEAD.as_bytes())
    }

    /// How many deliveries wait or run, by subscription.
    pub fn backlog(&self) -> HashMap<Urn, usize> {
        let lanes = self.shared.lanes();
        lanes.iter().map(|(urn, lane)| (urn.clone(), lane.waiting.len() + lane.running)).collect()
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
                    Some(delivery) => self.push(delivery),
                    None => return,
                },
                _ = closing.wait_for(|closing| *closing) => return,
            }
        }
    }

    fn push(self: &Arc<Self>, delivery: Delivery) {
        let lane = delivery.subscription.clone();
        self.lanes().entry(lane.clone()).or_default().waiting.push_back(delivery);
        self.fill(&lane);
    }

    /// Begins as many attempts of a lane as fit.
    fn fill(self: &Arc<Self>, urn: &Urn) {
        loop {
            let delivery = {
                let mut lanes = self.lanes();
                let Some(lane) = lanes.get_mut(urn) else { return };
                if self.is_closing() || lane.running >= LANE_WIDTH {
                    return;
                }
                let Some(delivery) = lane.waiting.pop_front() else {
                    if lane.running == 0 {
                        lanes.remove(urn);
                    }
                    return;
                };
                lane.running += 1;
                delivery
            };
            let shared = self.clone();
            self.attempts.spawn(async move {
                let lane = delivery.subscription.clone();
                let again = shared.attempt(delivery).await;
                if let Some(lane) = shared.lanes().get_mut(&lane) {
                    lane.running -= 1;
                }
                if let Some((delivery, pause)) = again {
                    shared.push_after(delivery, pause);
                }
                shared.fill(&lane);
            });
        }
    }

    fn push_after(self: &Arc<Self>, delivery: Delivery, pause: Duration) {
        let shared = self.clone();
        self.attempts.spawn(async move {
            let mut closing = shared.closing.subscribe();
            tokio::select! {
                () = tokio::time::sleep(pause) => shared.push(delivery),
                _ = closing.wait_for(|closing| *closing) => {}
            }
        });
    }

    /// One attempt: counts it, makes it, commits what became of it. Answers the delivery if it must be tried again.
    async fn attempt(&self, delivery: Delivery) -> Option<(Delivery, Duration)> {
        let begun = Delivery { attempt: delivery.attempt + 1, ..delivery.clone() };
        if begun.attempt > begun.max_attempts {
            let consumer = self.consumers.get(&delivery.consumer.kind);
            if let Some(consumer) = consumer
                && let Some(result) = consumer.resume(&delivery).await
            {
                let next = after(delivery.attempt, delivery.max_attempts, result, jitter());
                return self.conclude(&delivery, next).await;
            }
            let error = Report {
                code: "E0650".into(),
                message: "the cloud stopped during the last attempt".into(),
                help: "look at the log of that time, then put the event again".into(),
                causes: vec![],
            };
            return self.conclude(&delivery, Next::Dead { error, log_tail: vec![] }).await;
        }
        let (counted, result) = tokio::join!(self.count(&delivery, &begun), self.deliver(&begun));
        hit("dispatch.consumer.answered");
        // Its subscription was deleted meanwhile, and the row with it; or the cloud closes, and the next start goes on.
        counted.ok()?;
        let next = after(begun.attempt, begun.max_attempts, result, jitter());
        self.conclude(&begun, next).await
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

    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        match self.consumers.get(&delivery.consumer.kind) {
            Some(consumer) => consumer.deliver(delivery).await,
            None => Err(Undelivered::Throttled),
        }
    }

    async fn conclude(&self, begun: &Delivery, next: Next) -> Option<(Delivery, Duration)> {
        let mut batch = Batch::default();
        let key = delivery_key(begun);
        batch.expect(key.clone(), Some(encode(begun)));
        let again = match next {
            // The row already says what a retry needs.
            Next::Again { attempt, pause } if attempt == begun.attempt => {
                return Some((begun.clone(), pause));
            }
            Next::Again { attempt, pause } => {
                let uncounted = Delivery { attempt, ..begun.clone() };
                batch.put(key.clone(), encode(&uncounted));
                Some((uncounted, pause))
            }
            Next::Settled => {
                batch.delete(key.clone());
                None
            }
            Next::Dead { error, log_tail } => {
                self.say(begun, &error);
                let letter = DeadLetter { delivery: begun.clone(), time: Timestamp::now(), error, log_tail };
                batch.delete(key.clone()).put(dead_key(begun), encode(&letter));
                None
            }
        };
        let wanted = again.as_ref().map(|(delivery, _)| encode(delivery));
        self.record(batch, &key, wanted).await.ok()?;
        hit("dispatch.outcome.committed");
        again
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
