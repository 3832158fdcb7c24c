//! An operation on its way to an entity.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::workflow::record::{Failure, Parent, Work};

/// What waits in an entity's inbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::workflow) struct Operation {
    pub(super) id: String,
    pub(super) name: String,
    /// As JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input: Option<String>,
    /// The instance and its task that wait for the answer; of a signal, nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<Parent>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
}

/// What an orchestrator sends to an entity in a turn.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::workflow) struct Sent {
    /// `@name@key`.
    pub(in crate::workflow) to: String,
    /// The task that it is; of a signal, nobody waits for it.
    pub(in crate::workflow) task: u32,
    pub(in crate::workflow) waits: bool,
    /// Whoever sends it has locked the entity.
    pub(in crate::workflow) within: bool,
    pub(in crate::workflow) operation: String,
    pub(in crate::workflow) input: Option<Value>,
}

impl Sent {
    /// Names the message: the event with the answer has this name.
    pub(in crate::workflow) fn id(&self, execution: &str) -> String {
        message_id(execution, self.task)
    }

    /// The message as the history has it.
    pub(in crate::workflow) fn recorded(&self, execution: &str) -> String {
        let input = self.input.as_ref().map(Value::to_string);
        json!({ "id": self.id(execution), "op": self.operation, "signal": !self.waits, "input": input })
            .to_string()
    }

    /// What is open while somebody waits for the answer.
    pub(in crate::workflow) fn work(&self, execution: &str) -> Work {
        let Self { to, operation, input, .. } = self.clone();
        Work::Entity { message: self.id(execution), to, operation, input }
    }

    /// What an open task has sent; `None` if it is no call of an entity.
    pub(in crate::workflow) fn of(task: u32, work: &Work) -> Option<Self> {
        let Work::Entity { to, operation, input, .. } = work.clone() else { return None };
        Some(Self { to, task, waits: true, within: false, operation, input })
    }

    pub(in crate::workflow) fn operation(
        &self,
        instance: &str,
        execution: &str,
        traceparent: Option<String>,
    ) -> Operation {
        let caller =
            Parent { instance: instance.to_owned(), execution: execution.to_owned(), task: self.task };
        Operation {
            id: self.id(execution),
            name: self.operation.clone(),
            input: self.input.as_ref().map(Value::to_string),
            caller: self.waits.then_some(caller),
            traceparent,
        }
    }
}

/// What an entity answers, as the event has it: results are JSON in JSON.
pub(in crate::workflow) fn response(result: Result<Value, Failure>) -> String {
    match result {
        Ok(value) => json!({ "result": value.to_string() }).to_string(),
        Err(failure) => {
            let reason = Value::String(failure.reason).to_string();
            json!({ "result": reason, "exceptionType": "Error" }).to_string()
        }
    }
}

/// The name of the message that a task is, and of the event that answers it.
pub(in crate::workflow) fn message_id(execution: &str, task: u32) -> String {
    format!("{execution}-{task}")
}
