//! Markers inside JSON properties: values not known yet, and values not to be shown.
//!
//! An unknown is `{"$tandem": "unknown"}`; a secret is `{"$tandem": "secret", "value": …}`. The JavaScript SDK writes
//! and reads the same markers.

use serde_json::{Value, json};

const KEY: &str = "$tandem";

/// A value that only applying the plan can tell.
pub fn unknown() -> Value {
    json!({ KEY: "unknown" })
}

/// Whether the value is unknown, or contains an unknown.
pub fn has_unknown(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.get(KEY).and_then(Value::as_str) == Some("unknown") || map.values().any(has_unknown)
        }
        Value::Array(items) => items.iter().any(has_unknown),
        _ => false,
    }
}

/// Whether the object is a marker, and not one of the program's own.
pub fn is_marker(object: &serde_json::Map<String, Value>) -> bool {
    object.contains_key(KEY)
}

/// Wraps a value so that displays hide it.
pub fn secret(value: Value) -> Value {
    json!({ KEY: "secret", "value": value })
}

/// The value with every secret replaced by `[secret]`, for showing.
pub fn redacted(value: &Value) -> Value {
    rewrite(value, &|_| Value::String("[secret]".to_owned()))
}

/// The value with every secret replaced by what it hides, for using.
pub fn revealed(value: &Value) -> Value {
    rewrite(value, &|inner| revealed(inner))
}

fn rewrite(value: &Value, secret: &dyn Fn(&Value) -> Value) -> Value {
    match value {
        Value::Object(map) if map.get(KEY).and_then(Value::as_str) == Some("secret") => {
            secret(map.get("value").unwrap_or(&Value::Null))
        }
        Value::Object(map) => {
            Value::Object(map.iter().map(|(k, v)| (k.clone(), rewrite(v, secret))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|v| rewrite(v, secret)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_at_any_depth() {
        assert!(has_unknown(&json!({ "a": [1, unknown()] })));
        assert!(!has_unknown(&json!({ "a": [1, secret(json!(2))] })));
        let hidden = json!({ "a": [secret(json!("pw"))] });
        assert_eq!(redacted(&hidden), json!({ "a": ["[secret]"] }));
        assert_eq!(revealed(&hidden), json!({ "a": ["pw"] }));
    }
}
