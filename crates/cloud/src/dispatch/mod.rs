//! Events to consumers: durable, at least once, with retries and dead letters.
//!
//! The commit that changes a state also writes one delivery row for each subscription that matches, under the
//! precondition that the subscriptions are what they were. There is no "commit, then notify".
//!
//! Who owns it: the rows under `delivery/` and `dead/` are written here and by nobody else; a service adds the first row
//! of a delivery through [`Outbox::enqueue`]. What a restart finds at each gap:
//!
//! | killed | row | a restart |
//! |---|---|---|
//! | before the source's commit | none | nothing happened |
//! | after it, before the first attempt | attempt 0 | delivers |
//! | while it waits for the consumer | as before | delivers: waiting is no attempt |
//! | while the consumer works | attempt n | delivers again as n + 1, or gives up if n was the last |
//! | after the effect, before the outcome's commit | attempt n | delivers again: at least once |
//! | after the outcome's commit | none, or under `dead/` | nothing to do |
//! | before the commit of a redrive | under `dead/` | nothing happened: it can be asked for again |
//! | after it, before the first attempt | attempt 0, under a new id | delivers |
//!
//! The number of an attempt is committed while the attempt runs, not before: that costs no latency, and an event that
//! takes the cloud down with it still cannot do so for ever. The outcome's commit waits for it.
//!
//! Memory is bounded: of each subscription only so many deliveries are held that the consumer is never short of them; the
//! others stay in the store until there is room.
//!
//! Start at [`Outbox`] for the writing side, at [`Dispatcher`] for the delivering side, at [`DeadLetters`] for what was given
//! up.

mod batch;
mod chain;
mod core;
mod dead;
mod driver;
mod find;
mod lane;
mod leftover;
mod outbox;
mod row;
mod subscriptions;
mod trail;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_model::{Event, Report, Urn};
use tokio::sync::oneshot;

use crate::cause;

pub use batch::BatchHandler;
pub(crate) use chain::too_long;
pub(crate) use core::{THROTTLE, backoff};
pub use dead::{DeadLetterError, DeadLetters, Origin, Told, Which};
pub use driver::{Consumers, Dispatcher, Hints};
pub use find::Row;
pub use leftover::Held;
pub use outbox::{Enqueued, Outbox};
pub use row::DeadLetter;
pub(crate) use row::bury;
pub use subscriptions::Subscriptions;
pub use trail::{Became, Outcome, Step, Trail};

/// One event on its way to one subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Unique, ordered by time of enqueueing, and the same for every attempt: the invocation's request id.
    pub id: String,
    pub subscription: Urn,
    pub consumer: Urn,
    /// 1 for the first attempt; 0 while none has begun.
    pub attempt: u32,
    pub max_attempts: u32,
    pub event: Event,
    /// The id of the dead letter that this was, if somebody had it delivered again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redriven: Option<String>,
}

impl Delivery {
    /// The event as its consumer gets it: with the number of the attempt, an attribute of its own in the envelope.
    pub fn envelope(&self) -> Value {
        let mut envelope = json!(self.event);
        envelope["attempt"] = self.attempt.max(1).into();
        envelope
    }

    /// The cause of all that handling it does.
    pub fn traceparent(&self) -> String {
        cause::of_delivery(self.event.traceparent.as_deref(), &self.id)
    }
}

/// Tells the dispatcher that an attempt begins, so that it is counted.
#[derive(Debug)]
pub struct Begin(oneshot::Sender<()>);

impl Begin {
    fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// For a delivery that nobody counts.
    pub(crate) fn unheard() -> Self {
        Self::new().0
    }

    /// The consumer has the event from here on.
    pub(crate) fn now(self) {
        let _ = self.0.send(());
    }
}

/// Takes deliveries: a function, a task.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Handles one delivery. `Ok` means that its effect is durable.
    ///
    /// # Errors
    /// [`Undelivered`] says whether it counts as an attempt.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered>;

    /// Handles one delivery, for a consumer with which one may wait before it is begun: it tells when. What ends without
    /// having begun is counted only if it has failed.
    ///
    /// # Errors
    /// As [`deliver`](Self::deliver).
    async fn attempt(&self, delivery: &Delivery, begin: Begin) -> Result<(), Undelivered> {
        begin.now();
        self.deliver(delivery).await
    }

    /// Whether the last attempt, which a stop of the cloud cut off, goes on by itself or has ended: then what became of
    /// it. `None`: it is gone with the cloud.
    async fn resume(&self, delivery: &Delivery) -> Option<Result<(), Undelivered>> {
        let _ = delivery;
        None
    }
}

/// Why a delivery was not handled.
#[derive(Debug, Clone, PartialEq)]
pub enum Undelivered {
    /// The handler failed: counts, and is retried with back-off.
    Failed { error: Report, log_tail: Vec<String> },
    /// The consumer has no room, or is not deployed just now: does not count; retried soon.
    Throttled,
}

#[cfg(test)]
mod tests;
