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
//! | while the consumer works | attempt n | delivers again as n + 1, or gives up if n was the last |
//! | after the effect, before the outcome's commit | attempt n | delivers again: at least once |
//! | after the outcome's commit | none, or under `dead/` | nothing to do |
//!
//! The number of an attempt is committed while the attempt runs, not before: that costs no latency, and an event that
//! takes the cloud down with it still cannot do so for ever. The outcome's commit waits for it.
//!
//! Start at [`Outbox`] for the writing side, at [`Dispatcher`] for the delivering side.

mod core;
mod driver;
mod outbox;
mod row;
mod subscriptions;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tandem_model::{Event, Report, Urn};

pub use driver::{Consumers, Dispatcher, Hints};
pub use outbox::{Enqueued, Outbox};
pub use row::DeadLetter;
pub use subscriptions::Subscriptions;

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
}

/// Takes deliveries: a function, a task.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// Handles one delivery. `Ok` means that its effect is durable.
    ///
    /// # Errors
    /// [`Undelivered`] says whether it counts as an attempt.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered>;

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
