//! Events to consumers: durable, at least once, with retries and dead letters.
//!
//! The commit that changes a state also writes one delivery row for each subscription that matches, under the
//! precondition that the subscriptions are what they were. There is no "commit, then notify".

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tandem_model::{Event, Report, Urn};

/// One event on its way to one subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Unique, ordered by time of enqueueing, and the same for every attempt: the invocation's request id.
    pub id: String,
    pub subscription: Urn,
    pub consumer: Urn,
    /// 1 for the first attempt.
    pub attempt: u32,
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
}

/// Why a delivery was not handled.
#[derive(Debug, Clone, PartialEq)]
pub enum Undelivered {
    /// The handler failed: counts, and is retried with back-off.
    Failed { error: Report, log_tail: Vec<String> },
    /// The consumer has no room, or is not deployed just now: does not count; retried soon.
    Throttled,
}
