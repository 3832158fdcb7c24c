//! Queues as consumers: an event of another service becomes a message.

use async_trait::async_trait;
use tandem_model::{Explain, event::BUCKET_NOTIFICATION};
use tandem_store::CommitError;

use super::{Outgoing, Provided, QueueError};
use crate::dispatch::{Consumer, Delivery, Undelivered};

#[async_trait]
impl Consumer for Provided {
    /// Sends the event, as CloudEvents JSON, or as what asked for it has it. In a FIFO queue events about the same thing
    /// keep their order, and one that is delivered twice is there once.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        let Some(found) = self.0.resources.by_urn(&delivery.consumer) else {
            return Err(Undelivered::Throttled);
        };
        let event = &delivery.event;
        let body = match event.kind.as_str() {
            BUCKET_NOTIFICATION => event.data.to_string(),
            _ => serde_json::to_string(event).expect("an event has string keys only"),
        };
        let fifo = found.id.0.ends_with(".fifo");
        let subject = event.subject.as_deref().unwrap_or_default();
        let group = || crate::archive::hash(subject.as_bytes())["sha256:".len()..].to_owned();
        let message = Outgoing {
            body,
            group: fifo.then(group),
            deduplication: fifo.then(|| delivery.id.clone()),
            sender: event.source.clone(),
            traceparent: event.traceparent.clone(),
            ..Outgoing::default()
        };
        let sent = self.0.send(&found.id.0, vec![message]).await;
        match sent.and_then(|mut sent| sent.pop().unwrap_or(Err(QueueError::EmptyBatch))) {
            Ok(_) => Ok(()),
            // It is being deleted, or the cloud closes.
            Err(QueueError::NoSuchQueue { .. } | QueueError::Commit(CommitError::Closed)) => {
                Err(Undelivered::Throttled)
            }
            Err(error) => Err(Undelivered::Failed { error: error.report(), log_tail: vec![] }),
        }
    }
}
