//! Which properties of a resource differ, and which of them cannot be changed in place.

use serde_json::Value;
use tandem_model::{Kind, Urn, plan::PropertyChange, resource::Properties};

/// Compares inputs. Pure: `preview` and `up` decide alike. Paths go into objects, not into arrays.
pub fn diff(urn: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
    let mut changes = Vec::new();
    compare(String::new(), old, new, &mut changes);
    for change in &mut changes {
        change.replaces = replaces(urn.kind, &change.property);
    }
    changes
}

fn replaces(kind: Kind, property: &str) -> bool {
    matches!((kind, property), (Kind::Bucket, "bucketName"))
}

fn compare(path: String, old: &Properties, new: &Properties, changes: &mut Vec<PropertyChange>) {
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let property = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(Value::Object(old)), Some(Value::Object(new))) if !marked(old) && !marked(new) => {
                compare(property, old, new, changes);
            }
            (old, new) if old != new => changes.push(PropertyChange {
                property,
                old: old.cloned(),
                new: new.cloned(),
                replaces: false,
            }),
            _ => {}
        }
    }
}

/// Whether it is a marker of [`tandem_model::value`], to be compared whole.
fn marked(object: &Properties) -> bool {
    object.contains_key("$tandem")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn properties(value: Value) -> Properties {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_change_is_named_by_its_path() {
        let urn: Urn = "urn:tandem:p:dev:function:f".parse().unwrap();
        let old = properties(json!({"memory": 128, "environment": {"A": "1", "B": "2"}}));
        let new = properties(json!({"memory": 128, "environment": {"A": "1", "B": "3", "C": "4"}}));
        let names: Vec<_> = diff(&urn, &old, &new).into_iter().map(|c| (c.property, c.replaces)).collect();
        assert_eq!(names, [("environment.B".to_owned(), false), ("environment.C".to_owned(), false)]);
    }

    #[test]
    fn a_bucket_is_replaced_only_for_its_name() {
        let urn: Urn = "urn:tandem:p:dev:bucket:b".parse().unwrap();
        let old = properties(json!({"bucketName": "a", "forceDestroy": false}));
        let new = properties(json!({"bucketName": "b", "forceDestroy": true}));
        let replaces: Vec<_> = diff(&urn, &old, &new).into_iter().map(|c| (c.property, c.replaces)).collect();
        assert_eq!(replaces, [("bucketName".to_owned(), true), ("forceDestroy".to_owned(), false)]);
    }
}
