//! What programs ask of workflows.

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Explain, Kind, Report, ResourceName, Urn};

use super::{
    ProgramCalls,
    calls::{CallFault, arguments, key},
};
use crate::{
    call::Caller,
    workflow::{InstanceKey, Start, WorkflowError, Workflows},
};

#[derive(Deserialize)]
struct StartCall {
    name: ResourceName,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    input: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfInstance {
    id: String,
    #[serde(default)]
    show_history: bool,
    #[serde(default)]
    name: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    reason: String,
}

impl ProgramCalls {
    pub(super) async fn workflow_call(
        &self,
        caller: &Caller,
        method: &str,
        args: Value,
    ) -> Result<Value, Report> {
        let Some(workflows) = self.workflows.get() else {
            return Err(CallFault::Unknown { method: method.to_owned() }.report());
        };
        let answer = match method {
            "workflow.start" => return start(workflows, caller, arguments(method, args)?).await,
            "workflow.list" => workflows.list(&caller.of.stack).map(|all| json!(all)),
            _ => {
                let of: OfInstance = arguments(method, args)?;
                let instance = InstanceKey { stack: caller.of.stack.clone(), id: of.id };
                match method {
                    "workflow.status" => {
                        workflows.status(&instance, of.show_history).map(|status| json!(status))
                    }
                    "workflow.raise" => done(workflows.raise(&instance, &of.name, of.data).await),
                    "workflow.terminate" => done(workflows.terminate(&instance, of.reason).await),
                    "workflow.suspend" => done(workflows.suspend(&instance).await),
                    "workflow.resume" => done(workflows.resume(&instance).await),
                    "workflow.rewind" => done(workflows.rewind(&instance).await),
                    "workflow.purge" => done(workflows.purge(&instance).await),
                    _ => return Err(CallFault::Unknown { method: method.to_owned() }.report()),
                }
            }
        };
        answer.map_err(|error| error.report())
    }
}

fn done(result: Result<(), WorkflowError>) -> Result<Value, WorkflowError> {
    result.map(|()| Value::Null)
}

async fn start(workflows: &Workflows, caller: &Caller, start: StartCall) -> Result<Value, Report> {
    let start = Start {
        workflow: Urn::new(caller.of.stack.clone(), Kind::Workflow, start.name),
        id: start.id,
        input: start.input,
        // A handler that runs again finds what it has started (I4).
        key: key(caller),
        traceparent: caller.traceparent.clone(),
    };
    let id = workflows.start(start).await.map_err(|error| error.report())?;
    Ok(json!({ "id": id }))
}
