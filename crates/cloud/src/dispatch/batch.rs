//! Batches: what a queue or a stream hands to a consumer, and may be handled in part.

use std::collections::HashSet;

use async_trait::async_trait;

use super::{Delivery, Undelivered};

/// Handles batches: a function, a task.
#[async_trait]
pub trait BatchHandler: Send + Sync {
    /// Handles a batch, and answers the ids of those of it that failed.
    ///
    /// # Errors
    /// [`Undelivered`] if all failed, or none could be begun.
    async fn handle(&self, batch: &Delivery) -> Result<HashSet<String>, Undelivered>;
}
