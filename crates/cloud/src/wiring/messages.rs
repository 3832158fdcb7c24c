//! The other ends of queues and streams: who handles their messages and records, and who tells them of subscriptions.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use serde::Deserialize;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn,
    event::STREAM_RECORDS,
    inputs,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, Store};

use crate::{
    dispatch::{BatchHandler, Begin, Consumer, Delivery, Subscriptions, Undelivered},
    function::Functions,
    provider::{Lines, Provider},
    queue,
    resource::Resources,
    stream,
    task::Tasks,
    workflow::Workflows,
};

/// Hands batches of messages and of records to functions, tasks and workflows.
#[derive(Clone)]
pub(crate) struct MessageHandlers {
    pub(crate) functions: Functions,
    pub(crate) tasks: Tasks,
    pub(crate) workflows: Workflows,
}

/// What a handler answers that handled some of its messages. Source: AWS Lambda, "Implementing partial batch responses".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartlyHandled {
    batch_item_failures: Vec<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

#[async_trait]
impl BatchHandler for MessageHandlers {
    async fn handle(&self, batch: &Delivery) -> Result<HashSet<String>, Undelivered> {
        match batch.consumer.kind {
            Kind::Function => {
                let answer = self.functions.answer(batch, Begin::unheard()).await?;
                Ok(failed(&answer))
            }
            Kind::Task => self.tasks.deliver(batch).await.map(|()| HashSet::new()),
            Kind::Workflow => self.workflows.deliver(batch).await.map(|()| HashSet::new()),
            _ => Err(Undelivered::Throttled),
        }
    }
}

/// The ids of those of a batch that failed. Any other answer says that all went well.
fn failed(answer: &[u8]) -> HashSet<String> {
    let partly = serde_json::from_slice::<PartlyHandled>(answer).ok();
    let failed = partly.into_iter().flat_map(|partly| partly.batch_item_failures);
    failed.map(|failure| failure.item_identifier).collect()
}

/// Functions as the dispatcher's consumers: a batch that is redriven from the dead letters may be handled in part, too.
#[async_trait]
impl Consumer for MessageHandlers {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        self.attempt(delivery, Begin::unheard()).await
    }

    async fn attempt(&self, delivery: &Delivery, begin: Begin) -> Result<(), Undelivered> {
        if delivery.event.kind != STREAM_RECORDS {
            return self.functions.attempt(delivery, begin).await;
        }
        match failed(&self.functions.answer(delivery, begin).await?) {
            failed if failed.is_empty() => Ok(()),
            _ => Err(Undelivered::Failed { error: stream::record_failed(), log_tail: vec![] }),
        }
    }
}

/// Subscriptions, of which queues and streams hear too.
pub(crate) struct AllSubscriptions {
    pub(crate) dispatched: Subscriptions,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) to_queues: Arc<queue::Subscribers>,
    pub(crate) to_streams: Arc<stream::Subscribers>,
    pub(crate) resources: Arc<Resources>,
}

#[async_trait]
impl Provider for AllSubscriptions {
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report> {
        self.dispatched.prepare(change, id, lines).await
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        self.dispatched.write(batch, change, id)?;
        if let Change::Create { urn, .. } | Change::Delete { urn, .. } = change {
            // How far it has come goes with it; and one that is new begins anew.
            let snapshot = self.store.snapshot().map_err(|e| e.report())?;
            for entry in snapshot.prefix(&stream::lanes_of(urn)).map_err(|e| e.report())? {
                batch.delete(entry.map_err(|e| e.report())?.0);
            }
        }
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        self.dispatched.settle(urn, id, now).await;
        // Of a subscription that was replaced, the newest decides.
        let newest = self.resources.by_urn(urn);
        let typed = newest.and_then(|r| inputs::read::<inputs::Subscription>(urn, &r.inputs).ok());
        let to = |kind: Kind| typed.clone().filter(|subscription| subscription.source.kind == kind);
        self.to_queues.settle(urn, to(Kind::Queue));
        self.to_streams.settle(urn, to(Kind::Stream)).await;
    }
}
