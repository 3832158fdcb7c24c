//! Entities: a function of operations, and states that are data.

use serde_json::Value;

use super::{Function, InputsError, read};
use crate::{resource::Properties, urn::Urn, value};

/// Says in an entity's inputs that its states may be deleted with it.
const FORCE: &str = "forceDestroy";

/// The inputs of an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Entity {
    /// What its operations run.
    pub function: Function,
    /// Lets `destroy` delete it with its states.
    pub force_destroy: bool,
}

impl Entity {
    /// # Errors
    /// [`InputsError`] naming the property that does not fit.
    pub fn read(urn: &Urn, inputs: &Properties) -> Result<Self, InputsError> {
        let force_destroy = match inputs.get(FORCE).map(value::revealed) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(force)) => force,
            Some(other) => {
                let reason = format!("`{FORCE}` is true or false, not {other}");
                return Err(InputsError { urn: urn.short(), reason });
            }
        };
        Ok(Self { function: read(urn, &Self::function_inputs(inputs))?, force_destroy })
    }

    /// The inputs of its function alone.
    pub fn function_inputs(inputs: &Properties) -> Properties {
        let mut inputs = inputs.clone();
        inputs.remove(FORCE);
        inputs
    }
}
