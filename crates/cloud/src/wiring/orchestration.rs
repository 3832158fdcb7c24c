//! What workflows call: orchestrators and activities are functions, and tasks are containers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Explain, PhysicalId, Report, Urn, plan::Change, resource::Properties};

use crate::{
    function::{Functions, Invocation, InvokeError},
    provider::{Lines, Provider},
    task::{Outcome, RunError, RunId, RunRequest, Tasks},
    workflow::{Call, Failure, Fault, Host},
};

/// The largest result of a task of a workflow, as JSON.
const LARGEST: usize = 1 << 20;

pub(crate) struct Orchestration {
    pub(crate) functions: Functions,
    pub(crate) tasks: Tasks,
}

#[async_trait]
impl Host for Orchestration {
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report> {
        let mut outputs = self.functions.prepare(change, id, lines).await?;
        // It is called by its instances only.
        outputs.retain(|name, _| name == "id");
        Ok(outputs)
    }

    fn define(&self, workflow: &Urn, version: &PhysicalId, code: &Properties) {
        self.functions.define_version(workflow, version, code);
    }

    fn forget(&self, workflow: &Urn, version: &PhysicalId) {
        self.functions.forget_version(workflow, version);
    }

    async fn turns(
        &self,
        version: &PhysicalId,
        request: Bytes,
        traceparent: Option<String>,
    ) -> Result<Bytes, Fault> {
        let request_id = uuid::Uuid::now_v7().to_string();
        let invocation = Invocation { request_id, payload: request, traceparent };
        let invoked = self.functions.invoke_id(version, invocation).await.map_err(fault)?;
        Ok(invoked.payload)
    }

    async fn operations(
        &self,
        entity: &Urn,
        request: Bytes,
        traceparent: Option<String>,
    ) -> Result<Bytes, Fault> {
        let request_id = uuid::Uuid::now_v7().to_string();
        let invocation = Invocation { request_id, payload: request, traceparent };
        let invoked = self.functions.invoke(entity, invocation).await.map_err(fault)?;
        Ok(invoked.payload)
    }

    async fn activity(&self, call: Call) -> Result<Result<Value, Failure>, Fault> {
        let name = call.callee.name.clone();
        let invocation = Invocation {
            request_id: call.key,
            payload: call.input.to_string().into(),
            traceparent: call.traceparent,
        };
        let failed = |message: String, details: String| Failure {
            reason: format!("Activity function '{name}' failed: {message}"),
            details,
        };
        match self.functions.invoke(&call.callee, invocation).await {
            Ok(invoked) if invoked.payload.len() > LARGEST => {
                let bytes = invoked.payload.len();
                let message = format!("its result is {bytes} bytes long, and 1 MiB is the most");
                Ok(Err(failed(message, "put it into a bucket, and return its key".to_owned())))
            }
            Ok(invoked) => Ok(Ok(serde_json::from_slice(&invoked.payload).unwrap_or_default())),
            Err(InvokeError::HandlerFailed { error, .. }) => {
                Ok(Err(failed(error.error_message.clone(), error.lines().join("\n"))))
            }
            Err(error @ (InvokeError::TimedOut { .. } | InvokeError::OutOfMemory { .. })) => {
                Ok(Err(failed(error.to_string(), error.log_tail().join("\n"))))
            }
            Err(error @ (InvokeError::PayloadTooLarge { .. } | InvokeError::NoSuchFunction { .. })) => {
                Ok(Err(failed(error.to_string(), error.help())))
            }
            Err(error) => Err(fault(error)),
        }
    }

    fn run_of(&self, task: &Urn, key: &str) -> String {
        RunId::of_key(task, key).to_string()
    }

    /// `input`: `{ environment, command, input }`, as a run of the task takes them. The result is what the run left as its result.
    async fn run(&self, call: Call) -> Result<Result<Value, Failure>, Fault> {
        let name = call.callee.name.clone();
        let failed = |message: String, details: String| Failure {
            reason: format!("Task '{name}' failed: {message}"),
            details,
        };
        let asked: Asked = match serde_json::from_value(call.input) {
            Ok(asked) => asked,
            Err(error) => return Ok(Err(failed(format!("its arguments are wrong: {error}"), String::new()))),
        };
        let request = RunRequest {
            task: call.callee,
            environment: asked.environment.into_iter().map(|(name, value)| (name, text(value))).collect(),
            command: asked.command,
            input: asked.input,
            key: Some(call.key),
            event: None,
            traceparent: call.traceparent,
        };
        let ended = match self.tasks.run(request).await {
            Ok(id) => self.tasks.wait(&id).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(status) => Ok(match status.outcome {
                Some(Outcome::Exited { code: 0 }) => Ok(match status.result {
                    Some(result) => result,
                    None => json!({ "id": status.id, "exitCode": 0 }),
                }),
                _ => {
                    let message = status.error.unwrap_or_else(|| "it ended otherwise".to_owned());
                    Err(failed(message, status.log_tail.join("\n")))
                }
            }),
            Err(error @ (RunError::Commit(_) | RunError::Read(_))) => Err(Fault::Busy(error.report())),
            Err(error) => Ok(Err(failed(error.to_string(), error.help()))),
        }
    }
}

/// What a workflow says of a run.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    environment: BTreeMap<String, Value>,
    command: Option<Vec<String>>,
    input: Option<Value>,
}

/// Environment variables are texts.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn fault(error: InvokeError) -> Fault {
    match error {
        error @ (InvokeError::TooManyRequests { .. }
        | InvokeError::NoWorkers { .. }
        | InvokeError::Closing) => Fault::Busy(error.report()),
        error => Fault::Lost(error.report()),
    }
}
