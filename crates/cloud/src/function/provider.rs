//! Functions as the target and the dispatcher see them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tandem_model::{
    Explain, PhysicalId, Report, Urn,
    event::{BUCKET_NOTIFICATION, FUNCTION_INVOKED},
    plan::Change,
    resource::{Properties, Recorded},
};

use super::{
    Backend, Functions, Invocation, InvokeError,
    pool::core::FunctionId,
    version::{InvalidFunction, Version, arn},
};
use crate::{
    dispatch::{Begin, Consumer, Delivery, Undelivered},
    provider::{Lines, Provider},
};

#[async_trait]
impl Provider for Functions {
    /// Checks that a worker can become what is asked. Makes nothing: workers start with the first request.
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let (urn, inputs) = match change {
            Change::Create { urn, inputs } => (urn, inputs),
            Change::Update { urn, new, .. } => (urn, new),
            Change::Delete { .. } => return Ok(Properties::new()),
        };
        let inputs = Version::read(urn, inputs)?;
        if !self.shared.programs.exists(&inputs.code).await {
            return Err(InvalidFunction::NoCode { function: urn.short(), code: inputs.code }.report());
        }
        Ok([("id", id.to_string()), ("name", id.to_string()), ("arn", arn(id))]
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .into_iter()
            .collect())
    }

    /// Requests from here on are served by this version; those under way end in the version that they started in.
    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let gone = match now {
            Some(recorded) => match Version::read(urn, &recorded.inputs) {
                Ok(inputs) => {
                    self.define(urn, id, inputs, &recorded.inputs);
                    None
                }
                Err(error) => {
                    // It was checked before it was committed, by a cloud that may have been newer than this one.
                    tracing::error!(function = %urn, %error, "a deployed function cannot run");
                    self.forget(urn, id)
                }
            },
            None => self.forget(urn, id),
        };
        if let (Some(function), Backend::Ready { pools, .. }) = (gone, &self.shared.backend) {
            pools.remove(function);
        }
    }
}

impl Functions {
    fn define(
        &self,
        urn: &Urn,
        id: &PhysicalId,
        inputs: tandem_model::inputs::Function,
        properties: &Properties,
    ) {
        let defined = self.change(|deployed| {
            let known = deployed.by_id.get(id);
            if known.is_some_and(|version| version.hash == super::version::hash(properties)) {
                deployed.by_urn.insert(urn.clone(), id.clone());
                return None;
            }
            let function = known.map(|version| version.function).unwrap_or_else(|| {
                deployed.last += 1;
                FunctionId(deployed.last)
            });
            deployed.generation += 1;
            let version =
                Version::new(function, deployed.generation, urn.clone(), id.clone(), inputs, properties);
            deployed.by_id.insert(id.clone(), version.clone());
            deployed.by_urn.insert(urn.clone(), id.clone());
            Some(version)
        });
        if let (Some(version), Backend::Ready { pools, .. }) = (defined, &self.shared.backend) {
            pools.define(version);
        }
    }

    fn forget(&self, urn: &Urn, id: &PhysicalId) -> Option<FunctionId> {
        self.change(|deployed| {
            deployed.counts.remove(id);
            if deployed.by_urn.get(urn) == Some(id) {
                deployed.by_urn.remove(urn);
            }
            deployed.by_id.remove(id).map(|version: Arc<Version>| version.function)
        })
    }
}

/// The payload is the event as a CloudEvent in JSON, or what an asynchronous invocation or a bucket's notification gave;
/// the request id is the delivery's.
#[async_trait]
impl Consumer for Functions {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        self.attempt(delivery, Begin::unheard()).await
    }

    /// A request may wait long for a worker, and the cloud may stop meanwhile: that is no attempt.
    async fn attempt(&self, delivery: &Delivery, begin: Begin) -> Result<(), Undelivered> {
        self.answer(delivery, begin).await.map(|_| ())
    }
}

impl Functions {
    /// Makes code callable under an id of its own, beside whatever else its urn means.
    pub(crate) fn define_version(&self, urn: &Urn, id: &PhysicalId, code: &Properties) {
        match Version::read(urn, code) {
            Ok(inputs) => self.define(urn, id, inputs, code),
            Err(error) => tracing::error!(%urn, %error, "a deployed version cannot run"),
        }
    }

    pub(crate) fn forget_version(&self, urn: &Urn, id: &PhysicalId) {
        if let (Some(function), Backend::Ready { pools, .. }) = (self.forget(urn, id), &self.shared.backend) {
            pools.remove(function);
        }
    }

    /// Handles a delivery, and answers what the handler answered.
    pub(crate) async fn answer(&self, delivery: &Delivery, begin: Begin) -> Result<Bytes, Undelivered> {
        let payload = match delivery.event.kind.as_str() {
            FUNCTION_INVOKED | BUCKET_NOTIFICATION => serde_json::to_vec(&delivery.event.data),
            _ => serde_json::to_vec(&delivery.envelope()),
        };
        let payload = payload.unwrap_or_else(|_| json!(null).to_string().into());
        let invocation = Invocation {
            request_id: delivery.id.clone(),
            payload: payload.into(),
            traceparent: Some(delivery.traceparent()),
        };
        tandem_failpoint::hit("function.delivery.received");
        let result = match self.id_of(&delivery.consumer) {
            Ok(id) => self.run(&id, invocation, Some(begin)).await,
            Err(error) => Err(error),
        };
        tandem_failpoint::hit("function.delivery.answered");
        match result {
            Ok(invoked) => Ok(invoked.payload),
            Err(
                InvokeError::TooManyRequests { .. } | InvokeError::NoWorkers { .. } | InvokeError::Closing,
            ) => Err(Undelivered::Throttled),
            Err(error) => {
                let log_tail = error.log_tail().to_vec();
                Err(Undelivered::Failed { error: error.report(), log_tail })
            }
        }
    }
}
