//! The queues' other ends: who handles their messages, and who tells them of subscriptions.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use serde::Deserialize;
use tandem_model::{
    Kind, PhysicalId, Report, Urn, inputs,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::Batch;

use crate::{
    dispatch::{Begin, Consumer, Delivery, Subscriptions, Undelivered},
    function::Functions,
    provider::{Lines, Provider},
    queue::{Handler, Subscribers},
    resource::Resources,
    task::Tasks,
};

/// Hands messages to functions and tasks.
pub(crate) struct MessageHandlers {
    pub(crate) functions: Functions,
    pub(crate) tasks: Tasks,
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
impl Handler for MessageHandlers {
    async fn handle(&self, batch: &Delivery) -> Result<HashSet<String>, Undelivered> {
        match batch.consumer.kind {
            Kind::Function => {
                let answer = self.functions.answer(batch, Begin::unheard()).await?;
                // Any other answer says that all went well.
                let partly = serde_json::from_slice::<PartlyHandled>(&answer).ok();
                let failed = partly.into_iter().flat_map(|partly| partly.batch_item_failures);
                Ok(failed.map(|failure| failure.item_identifier).collect())
            }
            Kind::Task => self.tasks.deliver(batch).await.map(|()| HashSet::new()),
            _ => Err(Undelivered::Throttled),
        }
    }
}

/// Subscriptions, of which queues hear too.
pub(crate) struct AllSubscriptions {
    pub(crate) dispatched: Subscriptions,
    pub(crate) to_queues: Arc<Subscribers>,
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
        self.dispatched.write(batch, change, id)
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        self.dispatched.settle(urn, id, now).await;
        // Of a subscription that was replaced, the newest decides.
        let newest = self.resources.by_urn(urn);
        let typed = newest.and_then(|r| inputs::read::<inputs::Subscription>(urn, &r.inputs).ok());
        self.to_queues.settle(urn, typed.filter(|subscription| subscription.source.kind == Kind::Queue));
    }
}
