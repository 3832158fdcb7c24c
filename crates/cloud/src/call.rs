//! What a running program may ask of the cloud: the other end of the SDK's one call, in the run phase.

use async_trait::async_trait;
use serde_json::Value;
use tandem_model::{Report, Urn};

/// Who asks.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The function whose worker asks, or the task or service whose container does. It may reach the resources of its own
    /// stack.
    pub of: Urn,
    /// The request in which it asks: of a worker, the invocation; a task's run; a service's container. A redelivered event
    /// keeps its id, and so does a run that is tried again, so effects can be made once.
    pub request: String,
    /// How many calls of this method this attempt made before. With `request` it names the call: an attempt that is
    /// repeated makes the same calls in the same order (I4).
    pub ordinal: u32,
    pub traceparent: Option<String>,
}

/// Answers the calls of running programs: `bucket.get`, `task.run`, …
#[async_trait]
pub trait Calls: Send + Sync {
    /// # Errors
    /// A [`Report`], which becomes an `Error` in the program.
    async fn call(&self, caller: &Caller, method: &str, args: Value) -> Result<Value, Report>;
}
