//! One message, found by its id: for `tandem why`, which asks about it.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_model::{Kind, StackId, Urn};
use tandem_store::CommitError;

use super::{Queues, core::Rows, error::QueueError, message::Message, name_in_arn, receive::lease};

/// A message that is in a queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub(crate) queue: Urn,
    pub(crate) id: String,
    pub(crate) sent: Timestamp,
    /// Who sent it.
    pub(crate) sender: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) group: Option<String>,
    /// The queue in which it was received too often, by its name on the wire.
    pub(crate) dead_from: Option<String>,
    /// How often it was received since it is in this queue, and when last.
    pub(crate) received: Option<(u32, Timestamp)>,
    pub(crate) hidden: Hidden,
}

/// Whether it can be received now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    No,
    /// It was sent with a delay.
    Delayed(Timestamp),
    /// Somebody has it, or is given a pause: until then.
    InFlight {
        until: Timestamp,
        by_subscription: bool,
    },
}

impl Queues {
    /// The messages of a stack whose ids end so. Reads all of them.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn with_id(
        self: &Arc<Self>,
        stack: &StackId,
        end: &str,
    ) -> Result<Vec<Found>, QueueError> {
        let all = self.resources.list(Some(stack)).into_iter().filter(|r| r.urn.kind == Kind::Queue);
        let mut found = Vec::new();
        for (urn, name) in all.map(|recorded| (recorded.urn.clone(), recorded.id.0.clone())) {
            let now = match self.open(&name).await {
                Ok(open) => open.now(),
                // It is being deleted.
                Err(QueueError::NoSuchQueue { .. }) => continue,
                Err(error) => return Err(error),
            };
            let (queues, end) = (self.clone(), end.to_owned());
            let search = move || queues.search(&urn, &name, &end, now);
            match tokio::task::spawn_blocking(search).await {
                Ok(some) => found.extend(some?),
                Err(_) => return Err(CommitError::Closed.into()),
            }
        }
        Ok(found)
    }

    fn search(&self, urn: &Urn, queue: &str, end: &str, now: u64) -> Result<Vec<Found>, QueueError> {
        let snapshot = self.store.snapshot()?;
        let mut found = Vec::new();
        for entry in (Rows { snapshot: &*snapshot, queue }).range(&[], &[])? {
            let (key, row) = entry?;
            let Message { due, sent, about, .. } = Message::decode(&row)?;
            if !about.id.ends_with(end) {
                continue;
            }
            let lease = lease(&*snapshot, queue, &key)?;
            let hidden = match lease.filter(|lease| lease.until > now) {
                Some(lease) => Hidden::InFlight { until: time(lease.until), by_subscription: lease.own },
                None if due > now => Hidden::Delayed(time(due)),
                None => Hidden::No,
            };
            found.push(Found {
                queue: urn.clone(),
                id: about.id,
                sent: time(sent),
                sender: about.sender,
                traceparent: about.traceparent,
                group: about.group,
                dead_from: about.dead_from.as_deref().and_then(name_in_arn).map(str::to_owned),
                received: lease.map(|lease| (lease.receives, time(lease.last))),
                hidden,
            });
        }
        Ok(found)
    }
}

fn time(milliseconds: u64) -> Timestamp {
    i64::try_from(milliseconds).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or_default()
}
