//! Workflows as consumers: an event starts an instance.

use async_trait::async_trait;
use serde_json::json;
use tandem_model::Explain;

use super::{Start, WorkflowError, Workflows};
use crate::dispatch::{Consumer, Delivery, Undelivered};

#[async_trait]
impl Consumer for Workflows {
    /// Starts an instance with the event as its input, a CloudEvent. It is handled once that is on disk, whatever becomes of the
    /// instance; a delivery that is made again finds the instance of the first time.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        let start = Start {
            workflow: delivery.consumer.clone(),
            id: None,
            input: Some(json!(delivery.event)),
            // Two subscriptions may get the same event.
            key: Some(format!("{}#{}", delivery.subscription, delivery.id)),
            traceparent: Some(delivery.traceparent()),
        };
        match self.start(start).await {
            Ok(_) => Ok(()),
            Err(WorkflowError::NoWorkflow(_)) => Err(Undelivered::Throttled),
            // That is not the event's fault.
            Err(error @ (WorkflowError::Read(_) | WorkflowError::Commit(_))) => {
                tracing::warn!(workflow = %delivery.consumer, %error, "an instance cannot be started; trying again");
                Err(Undelivered::Throttled)
            }
            Err(error) => Err(Undelivered::Failed { error: error.report(), log_tail: vec![] }),
        }
    }

    async fn resume(&self, delivery: &Delivery) -> Option<Result<(), Undelivered>> {
        Some(self.deliver(delivery).await)
    }
}
