//! The writing side: which deliveries an event makes, added to the commit that makes the event true.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use serde_json::{Map, Value};
use tandem_model::{Event, Urn, inputs, policy::Policy};
use tandem_store::{Batch, CommitError, Store};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{
    Delivery, Step, Trail,
    row::{delivery_key, encode},
};
use crate::cause;

/// What the outbox knows of the subscriptions to one source.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    /// The value of the source's version row; `None` if there never was a subscription.
    pub(super) version: Option<Bytes>,
    pub(super) subscriptions: Vec<Arc<Subscribed>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Subscribed {
    pub(super) urn: Urn,
    pub(super) inputs: inputs::Subscription,
    /// Its filter's policies, each with the property of an event's `data` that it is about.
    pub(super) policies: Vec<(&'static str, Policy)>,
}

impl Subscribed {
    fn wants(&self, event: &Event) -> bool {
        let nothing = Map::new();
        let about = |property| event.data.get(property).and_then(Value::as_object).unwrap_or(&nothing);
        self.inputs.matches(&event.kind, event.subject.as_deref().unwrap_or_default())
            && self.policies.iter().all(|(property, policy)| policy.admits(about(property)))
    }
}

/// Turns events into delivery rows.
pub struct Outbox {
    sources: RwLock<HashMap<Urn, Source>>,
    hints: mpsc::UnboundedSender<Delivery>,
    changes: watch::Sender<()>,
    trail: Trail,
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

/// The deliveries that a batch contains. Give it to [`Outbox::commit`] with the batch.
#[derive(Debug, Default)]
#[must_use]
pub struct Enqueued {
    pub(super) deliveries: Vec<Delivery>,
    /// Nobody wanted it, and something of ours caused it.
    pub(super) unheard: Option<Event>,
}

impl Enqueued {
    /// Nobody has subscribed to the event.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }
}

/// The row whose value changes with every change of the subscriptions to `source`.
pub(super) fn version_key(source: &Urn) -> Bytes {
    format!("dispatch/version/{source}").into()
}

impl Outbox {
    pub(super) fn new(hints: mpsc::UnboundedSender<Delivery>, trail: Trail) -> Self {
        Self { sources: RwLock::default(), hints, changes: watch::Sender::new(()), trail }
    }

    /// Adds to the batch one delivery row for each subscription that matches, and the precondition that the
    /// subscriptions to `event.source` have not changed meanwhile. If the commit answers a conflict, make the batch anew
    /// and try again. An event whose source is no urn has no subscribers.
    pub fn enqueue(&self, batch: &mut Batch, event: &Event) -> Enqueued {
        let Ok(urn) = event.source.parse::<Urn>() else { return Enqueued::default() };
        let source = self.source(&urn);
        batch.expect(version_key(&urn), source.version);
        let deliveries: Vec<_> = source
            .subscriptions
            .iter()
            .filter(|s| s.wants(event))
            .map(|s| Delivery {
                id: Uuid::now_v7().to_string(),
                subscription: s.urn.clone(),
                consumer: s.inputs.consumer.clone(),
                attempt: 0,
                max_attempts: s.inputs.max_attempts,
                event: event.clone(),
                redriven: None,
            })
            .collect();
        for delivery in &deliveries {
            batch.put(delivery_key(delivery), encode(delivery));
        }
        let unheard = deliveries.is_empty() && cause::is_ours(event.traceparent.as_deref());
        Enqueued { deliveries, unheard: unheard.then(|| event.clone()) }
    }

    /// Adds one delivery to a consumer directly, without a subscription's filter: an asynchronous invocation.
    pub fn enqueue_to(&self, batch: &mut Batch, consumer: &Urn, event: Event, max_attempts: u32) -> Enqueued {
        let delivery = Delivery {
            id: event.id.clone(),
            subscription: consumer.clone(),
            consumer: consumer.clone(),
            attempt: 0,
            max_attempts,
            event,
            redriven: None,
        };
        batch.put(delivery_key(&delivery), encode(&delivery));
        Enqueued { deliveries: vec![delivery], unheard: None }
    }

    /// Commits the batch and tells the dispatcher. This is seen through even if whoever asked goes away meanwhile: a
    /// delivery that is on disk must not wait for the next start.
    ///
    /// # Errors
    /// Those of the store; nothing was written.
    pub async fn commit(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        batch: Batch,
        enqueued: impl IntoIterator<Item = Enqueued>,
    ) -> Result<(), CommitError> {
        let enqueued: Vec<_> =
            enqueued.into_iter().filter(|one| !one.is_empty() || one.unheard.is_some()).collect();
        if enqueued.is_empty() {
            return store.commit(batch).await;
        }
        let (outbox, store) = (self.clone(), store.clone());
        let seen_through = tokio::spawn(async move {
            store.commit(batch).await?;
            enqueued.into_iter().for_each(|enqueued| outbox.committed(enqueued));
            Ok(())
        });
        seen_through.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Tells the dispatcher that the batch is committed. A hint: the rows are the truth.
    pub(super) fn committed(&self, enqueued: Enqueued) {
        if let Some(event) = enqueued.unheard {
            self.trail.write(Step::Unheard { event });
        }
        for delivery in enqueued.deliveries {
            // Fails only while the cloud closes; the next start finds the row.
            let _ = self.hints.send(delivery);
        }
    }

    pub(super) fn source(&self, source: &Urn) -> Source {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned().unwrap_or_default()
    }

    /// The sources that `subscription` is known to listen to.
    pub(super) fn sources_with(&self, subscription: &Urn) -> Vec<Urn> {
        let sources = self.sources.read().unwrap_or_else(PoisonError::into_inner);
        let listens = |source: &Source| source.subscriptions.iter().any(|s| s.urn == *subscription);
        sources.iter().filter(|(_, source)| listens(source)).map(|(urn, _)| urn.clone()).collect()
    }

    /// Changes whenever subscriptions have.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(super) fn change(&self, source: &Urn, change: impl FnOnce(&mut Source)) {
        change(
            self.sources.write().unwrap_or_else(PoisonError::into_inner).entry(source.clone()).or_default(),
        );
        self.changes.send_replace(());
    }
}
