//! Code of a program as what a container runs, in place of an image of the user's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::resource::Properties;

/// A handler that a container calls once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Code {
    /// The archive with the program's code: `sha256:<hex>`.
    pub code: String,
    /// The name under which the program noted the handler.
    pub handler: String,
    /// The stack's configuration as the program was deployed with it, by `<namespace>:<key>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Value>,
}

/// The objects of [`Code`] among the inputs of a task or a service, as they were sent.
pub fn codes(inputs: &Properties) -> impl Iterator<Item = &Properties> {
    let containers = inputs.get("containers").and_then(Value::as_object);
    let nested = containers.into_iter().flat_map(|all| all.values()).filter_map(|one| one.get("function"));
    inputs.get("function").into_iter().chain(nested).filter_map(Value::as_object)
}

/// As [`codes`], to be completed.
pub fn codes_mut(inputs: &mut Properties) -> Vec<&mut Properties> {
    let mut found = Vec::new();
    for (name, value) in inputs {
        match (name.as_str(), value) {
            ("function", Value::Object(code)) => found.push(code),
            ("containers", Value::Object(containers)) => {
                let nested = containers.values_mut().filter_map(|one| one.get_mut("function"));
                found.extend(nested.filter_map(Value::as_object_mut));
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn code_is_found_in_a_task_and_in_each_container_of_a_service() {
        let inputs = |value: Value| value.as_object().unwrap().clone();
        let mut task = inputs(json!({ "function": { "handler": "task/t" }, "memory": 64 }));
        let mut service = inputs(json!({ "containers": {
            "a": { "function": { "handler": "service/s/a" } }, "b": { "image": "x" },
        } }));
        for (inputs, handler) in [(&mut task, "task/t"), (&mut service, "service/s/a")] {
            for code in codes_mut(inputs) {
                code.insert("code".into(), json!("sha256:1"));
            }
            let found: Vec<Code> =
                codes(inputs).map(|code| serde_json::from_value(json!(code)).unwrap()).collect();
            let expected = Code { code: "sha256:1".into(), handler: handler.into(), config: BTreeMap::new() };
            assert_eq!(found, [expected]);
        }
    }
}
