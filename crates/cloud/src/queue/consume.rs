//! Subscriptions to queues: messages to functions and tasks.
//!
//! Each subscription receives as any consumer does, with long polling, and hands what it got to its consumer. What that
//! does not fail on is deleted; the rest is visible again after a pause that doubles, and goes to the dead-letter queue as
//! the queue says. While a handler works, its messages stay hidden, however long it takes.
//!
//! Who owns it: nothing is stored here. A lease that a subscription took is marked as the cloud's [own](Lease::own): a
//! restart makes its messages visible at once, since whoever handled them is gone, or is found again by the message's id
//! (a run of a task).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tandem_model::{
    Event, Report, Urn,
    event::{QUEUE_MESSAGES, SpecVersion},
    inputs::Subscription,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{Queues, Receive, Received, error::QueueError, key::Lease, settings::LONGEST_VISIBILITY};
use crate::{
    cause,
    dispatch::{BatchHandler, Delivery, Outcome, Step, Undelivered, too_long},
    resource::Resources,
};

/// How long one receive waits; then it is begun again.
const WAIT: Duration = Duration::from_secs(20);
/// How long messages are left alone whose consumer has no room.
const NO_ROOM: u32 = 1;
/// For how long messages are hidden at least while a handler works; it is renewed.
const HIDDEN: u32 = 10;
/// How long nothing is received after an error of the store.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How many batches are handled at once, if the program does not say.
const CONCURRENCY: u32 = 10;
/// How many messages a handler gets at once, if the program does not say. A task gets one.
const BATCH: u32 = 10;

/// The subscriptions to queues that are deployed.
pub struct Subscribers {
    queues: Arc<Queues>,
    resources: Arc<Resources>,
    handler: Arc<dyn BatchHandler>,
    running: Mutex<HashMap<Urn, (Subscription, CancellationToken)>>,
    working: TaskTracker,
}

impl Subscribers {
    pub fn new(queues: Arc<Queues>, resources: Arc<Resources>, handler: Arc<dyn BatchHandler>) -> Arc<Self> {
        let (running, working) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { queues, resources, handler, running, working })
    }

    /// Lets a subscription be as it is deployed; `None`: it is gone, or is none to a queue.
    pub fn settle(self: &Arc<Self>, urn: &Urn, now: Option<Subscription>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(urn).map(|(running, _)| running) == now.as_ref() {
            return;
        }
        if let Some((_, stop)) = running.remove(urn) {
            stop.cancel();
        }
        if let Some(subscription) = now {
            let stop = CancellationToken::new();
            running.insert(urn.clone(), (subscription.clone(), stop.clone()));
            let (subscribers, urn) = (self.clone(), urn.clone());
            self.working.spawn(async move { subscribers.receive(&urn, &subscription, &stop).await });
        }
    }

    /// Receives no more, and waits at most `grace` for handlers under way.
    pub async fn close(&self, grace: Duration) {
        for (_, stop) in self.running.lock().unwrap_or_else(PoisonError::into_inner).values() {
            stop.cancel();
        }
        self.working.close();
        let _ = tokio::time::timeout(grace, self.working.wait()).await;
    }

    async fn receive(self: &Arc<Self>, urn: &Urn, subscription: &Subscription, stop: &CancellationToken) {
        let concurrency = subscription.concurrency.unwrap_or(CONCURRENCY);
        let room = Arc::new(Semaphore::new(concurrency as usize));
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit,
                () = stop.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            let Some(queue) = self.resources.by_urn(&subscription.source).map(|found| found.id.0.clone())
            else {
                // It is deleted together with this subscription.
                return stop.cancelled().await;
            };
            let batch = match self.gather(&queue, subscription, stop).await {
                Ok(batch) if batch.is_empty() => continue,
                Ok(batch) => batch,
                Err(error) => {
                    if !stop.is_cancelled() {
                        tracing::warn!(subscription = %urn, %error, "cannot receive messages; trying again");
                    }
                    tokio::select! {
                        () = sleep(AFTER_ERROR) => continue,
                        () = stop.cancelled() => return,
                    }
                }
            };
            let (subscribers, urn, subscription) = (self.clone(), urn.clone(), subscription.clone());
            self.working.spawn(async move {
                subscribers.handle(&urn, &subscription, &queue, batch).await;
                drop(permit);
            });
        }
    }

    /// Messages for one batch: those that are there, or that come within its window.
    async fn gather(
        &self,
        queue: &str,
        subscription: &Subscription,
        stop: &CancellationToken,
    ) -> Result<Vec<Received>, QueueError> {
        let default = if subscription.starts() { 1 } else { BATCH };
        let most = subscription.batch_size.unwrap_or(default) as usize;
        let window =
            Duration::try_from_secs_f64(subscription.batch_window.unwrap_or(0.0)).unwrap_or_default();
        // The first one stays hidden until the last one is there.
        let hidden = u64::from(self.hidden_for(queue).await?) + window.as_secs() + 1;
        let visibility = u32::try_from(hidden).ok().map(|hidden| hidden.min(LONGEST_VISIBILITY));
        let how = |left: usize, wait| Receive { most: left.min(10), visibility, wait: Some(wait), own: true };
        // A receive is seen through: what it got must not be lost.
        let mut batch = self.queues.receive_until(queue, &how(most, WAIT), stop).await?;
        let end = Instant::now() + window;
        while !batch.is_empty() && batch.len() < most && !stop.is_cancelled() {
            let left = end.saturating_duration_since(Instant::now());
            // What comes of a second receive is no reason to lose the first.
            let more = self.queues.receive_until(queue, &how(most - batch.len(), left.min(WAIT)), stop).await;
            match more {
                Ok(more) if more.is_empty() && left <= WAIT => break,
                Ok(more) => batch.extend(more),
                Err(_) => break,
            }
        }
        Ok(batch)
    }

    async fn handle(&self, urn: &Urn, subscription: &Subscription, queue: &str, batch: Vec<Received>) {
        let began = Timestamp::now();
        let mut delivery = delivery(urn, subscription, queue, &batch);
        let handled = async {
            match too_long(&delivery) {
                Some(error) => Err(Undelivered::Failed { error, log_tail: vec![] }),
                None => self.handler.handle(&delivery).await,
            }
        };
        let outcome = tokio::select! {
            outcome = handled => outcome,
            never = self.keep_hidden(queue, &batch) => match never {},
        };
        let (failed, error) = match outcome {
            Ok(failed) => (failed, message_failed()),
            Err(Undelivered::Throttled) => return self.give_back(queue, &batch).await,
            Err(Undelivered::Failed { error, .. }) => {
                tracing::info!(subscription = %urn, code = error.code, "messages were not handled: {}", error.message);
                (batch.iter().map(|received| received.message.about.id.clone()).collect(), error)
            }
        };
        let (bad, good): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|received| failed.contains(&received.message.about.id));
        delivery.event.data = Value::Null;
        let ended = Timestamp::now();
        let tell = |messages: &[Received], outcome| {
            let ids: Vec<_> = messages.iter().map(|one| json!({ "id": one.message.about.id })).collect();
            let mut delivery = Box::new(delivery.clone());
            delivery.event.data = json!({ "queue": queue, "messages": ids });
            self.queues.trail.write(Step::Tried { began, ended, delivery, outcome });
        };
        if !good.is_empty() {
            tell(&good, Outcome::Handled);
            let receipts = good.into_iter().map(|received| received.receipt).collect();
            if let Err(error) = self.queues.delete(queue, receipts).await {
                tracing::warn!(queue, %error, "cannot delete messages that were handled: they come again");
            }
        }
        if !bad.is_empty() {
            let longest = self.queues.visibility_timeout(queue).await.unwrap_or(0).max(NO_ROOM);
            let of = |received: &Received| pause(received.lease.receives).min(longest);
            let most = Duration::from_secs(bad.iter().map(of).max().unwrap_or(0).into());
            tell(&bad, Outcome::Again { pause: most, error: Some(error) });
            let pauses = bad.into_iter().map(|r| (r.receipt.clone(), of(&r))).collect();
            // If that fails, they come back when their timeout is over.
            let _ = self.queues.change_visibility(queue, pauses).await;
        }
    }

    /// For how long messages are hidden at a time while a handler works, in seconds.
    async fn hidden_for(&self, queue: &str) -> Result<u32, QueueError> {
        Ok(self.queues.visibility_timeout(queue).await?.max(HIDDEN))
    }

    /// Hides messages for longer, again and again.
    async fn keep_hidden(&self, queue: &str, batch: &[Received]) -> std::convert::Infallible {
        loop {
            let timeout = self.hidden_for(queue).await.unwrap_or(HIDDEN);
            sleep(Duration::from_secs(timeout.into()) / 3).await;
            let longer = batch.iter().map(|received| (received.receipt.clone(), timeout)).collect();
            let _ = self.queues.change_visibility(queue, longer).await;
        }
    }

    /// Nobody had room for them: that is no receive that counts.
    async fn give_back(&self, queue: &str, batch: &[Received]) {
        let receipts = batch.iter().map(|received| (received.receipt.clone(), NO_ROOM)).collect();
        let _ = self.queues.give_back(queue, receipts).await;
    }
}

/// The error of a message that its handler said it had failed on.
fn message_failed() -> Report {
    Report {
        code: "E0784".to_owned(),
        message: "the handler named it among those that failed".to_owned(),
        help: "see what it logged".to_owned(),
        causes: Vec::new(),
    }
}

/// The pause after so many receives, in seconds: 1, 2, 4, …
fn pause(receives: u32) -> u32 {
    1u32.checked_shl(receives.saturating_sub(1)).filter(|pause| *pause > 0).unwrap_or(u32::MAX)
}

fn delivery(urn: &Urn, subscription: &Subscription, queue: &str, batch: &[Received]) -> Delivery {
    let ids: Vec<_> = batch.iter().map(|received| received.message.about.id.as_str()).collect();
    let id = match ids[..] {
        [one] => one.to_owned(),
        // The same for the same messages.
        _ => Uuid::from_bytes(*Sha256::digest(ids.join("/")).first_chunk().expect("a hash is longer"))
            .to_string(),
    };
    let messages: Vec<_> = batch.iter().map(shown).collect();
    Delivery {
        id: id.clone(),
        subscription: urn.clone(),
        consumer: subscription.consumer.clone(),
        attempt: batch.iter().map(|received| received.lease.receives).max().unwrap_or(1),
        max_attempts: u32::MAX,
        redriven: None,
        event: Event {
            specversion: SpecVersion::V1,
            id,
            source: subscription.source.to_string(),
            kind: QUEUE_MESSAGES.to_owned(),
            subject: None,
            time: Timestamp::now(),
            // Of the longest chain that led to one of them.
            traceparent: batch
                .iter()
                .filter_map(|received| received.message.about.traceparent.clone())
                .max_by_key(|traceparent| cause::depth(Some(traceparent))),
            datacontenttype: "application/json".to_owned(),
            data: json!({ "queue": queue, "messages": messages }),
        },
    }
}

/// A message as a handler sees it.
pub(crate) fn shown(received: &Received) -> Value {
    let (kept, Lease { receives, .. }) = (&received.message, received.lease);
    let attributes: serde_json::Map<_, _> = kept
        .about
        .attributes
        .iter()
        .map(|(name, attribute)| {
            let value = attribute.string_value.as_ref().or(attribute.binary_value.as_ref());
            (name.clone(), json!(value))
        })
        .collect();
    let mut shown = json!({
        "id": kept.about.id,
        "body": kept.text(),
        "attributes": attributes,
        "receiveCount": receives,
        "sentAt": Timestamp::from_millisecond(i64::try_from(kept.sent).unwrap_or(0)).unwrap_or_default(),
    });
    if let Some(group) = &kept.about.group {
        shown["group"] = group.as_str().into();
    }
    shown
}
