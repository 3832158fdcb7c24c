//! Compares properties, path by path.
//!
//! Targets build their [`diff`](crate::Target::diff) on [`properties`] and add which changes force a replacement.

use serde_json::Value;
use tandem_model::{plan::PropertyChange, resource::Properties, value};

/// The properties that differ, ordered by path. Objects are compared member by member, to any depth; everything else
/// (and a marker: unknown, secret) as a whole. An unknown differs from every recorded value.
pub fn properties(old: &Properties, new: &Properties) -> Vec<PropertyChange> {
    let mut changes = Vec::new();
    objects("", old, new, &mut changes);
    changes
}

fn objects(path: &str, old: &Properties, new: &Properties, changes: &mut Vec<PropertyChange>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    let mut keys: Vec<&String> = old.keys().chain(added).collect();
    keys.sort_unstable();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(Value::Object(old)), Some(Value::Object(new)))
                if !value::is_marker(old) && !value::is_marker(new) =>
            {
                objects(&path, old, new, changes);
            }
            (old, new) if old != new || new.is_some_and(value::has_unknown) => {
                changes.push(PropertyChange {
                    property: path,
                    old: old.cloned(),
                    new: new.cloned(),
                    replaces: false,
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn paths(old: Value, new: Value) -> Vec<String> {
        let (Value::Object(old), Value::Object(new)) = (old, new) else { panic!("objects") };
        properties(&old, &new).into_iter().map(|change| change.property).collect()
    }

    #[test]
    fn a_difference_is_named_by_its_path() {
        let old = json!({ "memory": 128, "environment": { "LEVEL": "info", "GONE": "1" }, "command": ["a"] });
        let new = json!({ "memory": 128, "environment": { "LEVEL": "debug", "NEW": "2" }, "command": ["b"] });
        assert_eq!(paths(old, new), ["command", "environment.GONE", "environment.LEVEL", "environment.NEW"]);
    }

    #[test]
    fn an_unknown_always_differs() {
        let old = json!({ "a": { "b": value::unknown() }, "c": 1 });
        assert_eq!(paths(old.clone(), old), ["a.b"]);
    }

    #[test]
    fn a_changed_secret_is_one_change() {
        let old = json!({ "key": value::secret(json!({ "a": 1 })) });
        let new = json!({ "key": value::secret(json!({ "a": 2 })) });
        assert_eq!(paths(old, new), ["key"]);
    }
}
