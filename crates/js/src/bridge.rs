//! The one call that the host offers to the SDK: `call(method, json) → Promise<json>`.

use futures::future::BoxFuture;
use serde_json::Value;
use tandem_model::Report;

/// Answers the SDK's calls. In the deploy phase the engine is behind it, in the run phase the cloud.
pub trait Bridge: Send + Sync + 'static {
    /// `method` is `<noun>.<verb>`: `resource.register`, `bucket.get`, `task.run`.
    fn call(&self, method: String, args: Value) -> BoxFuture<'static, Result<Value, CallError>>;
}

/// Becomes an `Error` in JavaScript, with `code` and `help` as properties.
pub type CallError = Report;
