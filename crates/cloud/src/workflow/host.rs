//! What workflows need of the rest of the cloud: somebody who runs orchestrators, activities and container tasks.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tandem_model::{PhysicalId, Report, Urn, plan::Change, resource::Properties};

use super::record::Failure;
use crate::provider::Lines;

/// A call of an activity, or of a container task.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The function or the task.
    pub callee: Urn,
    /// The same for every attempt at this call.
    pub key: String,
    pub input: Value,
    pub traceparent: Option<String>,
}

/// Why nothing came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Nobody could begin it, for this reason: it is tried again, however often that takes.
    Busy(Report),
    /// It did not end as it should, and whether it would the next time is not known.
    Lost(Report),
}

/// Runs the code of workflows and what they call.
#[async_trait]
pub trait Host: Send + Sync {
    /// Checks that a version can run.
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report>;

    /// Makes a version of a workflow's code callable under an id of its own.
    fn define(&self, workflow: &Urn, version: &PhysicalId, code: &Properties);

    fn forget(&self, workflow: &Urn, version: &PhysicalId);

    /// Hands turns to the orchestrator of a version: JSON, and JSON is the answer.
    ///
    /// # Errors
    /// [`Fault`]; no turn was taken, or its outcome is not known.
    async fn turns(
        &self,
        version: &PhysicalId,
        request: Bytes,
        traceparent: Option<String>,
    ) -> Result<Bytes, Fault>;

    /// Hands an entity a batch of operations: JSON, and JSON is the answer.
    ///
    /// # Errors
    /// [`Fault`]; the batch counts for nothing, or its outcome is not known.
    async fn operations(
        &self,
        entity: &Urn,
        request: Bytes,
        traceparent: Option<String>,
    ) -> Result<Bytes, Fault>;

    /// Calls an activity and waits for its result.
    ///
    /// # Errors
    /// [`Fault`] if it has no result: it did not fail by itself.
    async fn activity(&self, call: Call) -> Result<Result<Value, Failure>, Fault>;

    /// The id of the run that a call of a container task has, whether it is there already or not.
    fn run_of(&self, task: &Urn, key: &str) -> String;

    /// Runs a container task and waits for its end. The run of an earlier call with the same key is found.
    ///
    /// # Errors
    /// [`Fault::Busy`] if the cloud closes meanwhile.
    async fn run(&self, call: Call) -> Result<Result<Value, Failure>, Fault>;
}
