//! What programs ask of entities.

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_model::{Explain, Report};

use super::{
    ProgramCalls,
    calls::{CallFault, arguments, key},
};
use crate::{call::Caller, workflow::EntityKey};

#[derive(Deserialize)]
struct OfEntity {
    entity: String,
    key: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    input: Option<Value>,
}

impl ProgramCalls {
    pub(super) async fn entity_call(
        &self,
        caller: &Caller,
        method: &str,
        args: Value,
    ) -> Result<Value, Report> {
        let unknown = || CallFault::Unknown { method: method.to_owned() }.report();
        let workflows = self.workflows.get().ok_or_else(unknown)?;
        let of: OfEntity = arguments(method, args)?;
        let entity = EntityKey::new(caller.of.stack.clone(), &of.entity, &of.key);
        match method {
            "entity.signal" => {
                // A handler that runs again has sent it already (I4).
                let call = key(caller);
                let cause = caller.traceparent.clone();
                let sent =
                    workflows.signal(&entity, &of.operation, of.input.as_ref(), call.as_deref(), cause);
                sent.await.map(|()| Value::Null).map_err(|error| error.report())
            }
            "entity.read" => {
                let found = workflows.entity(&entity).map_err(|error| error.report())?;
                Ok(json!({ "exists": found.is_some(), "state": found.map(|found| found.state) }))
            }
            _ => Err(unknown()),
        }
    }
}
