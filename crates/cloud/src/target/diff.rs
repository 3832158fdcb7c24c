//! Which properties of a resource differ, which of them cannot be changed in place, and what outputs they move.

use tandem_model::{Kind, Urn, plan::PropertyChange, resource::Properties, value};

/// Compares inputs. Pure: `preview` and `up` decide alike. Paths go into objects, not into arrays.
pub fn diff(urn: &Urn, old: &Properties, new: &Properties) -> Vec<PropertyChange> {
    let mut changes = tandem_engine::diff::properties(old, new);
    // Asked for once; that nobody asks again is no change.
    changes.retain(|change| change.new.is_some() || !is_renewal(&change.property));
    for change in &mut changes {
        change.replaces = replaces(urn.kind, &change.property);
    }
    changes
}

fn is_renewal(property: &str) -> bool {
    property == "build.renewed"
        || (property.starts_with("containers.") && property.ends_with(".build.renewed"))
}

fn replaces(kind: Kind, property: &str) -> bool {
    matches!(
        (kind, property),
        (Kind::Bucket, "bucketName")
            | (Kind::Queue, "queueName" | "fifo")
            | (Kind::Stream, "streamName" | "shards")
    )
}

/// The outputs that are certain before the changes are made. Pure, as [`diff`]: an image is known when it is built.
pub fn foresee(urn: &Urn, changes: &[PropertyChange], outputs: &Properties) -> Properties {
    let mut outputs = outputs.clone();
    let moved: &[&str] = match urn.kind {
        Kind::Task if changes.iter().any(|change| makes_image(&change.property)) => &["image"],
        // `containers`, or of one of them by its name: which properties there are is not known for one that is new.
        Kind::Service if changes.iter().any(|change| moves_service(&change.property)) => {
            &["images", "endpoints"]
        }
        _ => &[],
    };
    for output in moved {
        outputs.insert((*output).to_owned(), value::unknown());
    }
    outputs
}

fn makes_image(property: &str) -> bool {
    property.starts_with("build") || property == "image"
}

fn moves_service(property: &str) -> bool {
    let Some(rest) = property.strip_prefix("containers") else { return false };
    match rest.trim_start_matches('.').split_once('.') {
        Some((_, property)) => makes_image(property) || property.starts_with("ports"),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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

    #[test]
    fn a_build_is_renewed_when_somebody_asks_and_not_when_nobody_asks_any_more() {
        let urn: Urn = "urn:tandem:p:dev:task:t".parse().unwrap();
        let plain = properties(json!({"build": {"context": "a"}}));
        let asked = properties(json!({"build": {"context": "a", "renewed": "2026-11-26T08:00:00Z"}}));
        assert_eq!(diff(&urn, &plain, &asked).len(), 1);
        assert_eq!(diff(&urn, &asked, &plain), []);
        assert_eq!(diff(&urn, &asked, &asked), []);
    }

    #[test]
    fn the_image_of_a_task_is_unknown_only_while_its_build_changes() {
        let urn: Urn = "urn:tandem:p:dev:task:t".parse().unwrap();
        let outputs = properties(json!({"name": "t", "image": "sha256:1"}));
        let change = |old: Value, new: Value| diff(&urn, &properties(old), &properties(new));
        let memory = change(json!({"memory": 1}), json!({"memory": 2}));
        assert_eq!(foresee(&urn, &memory, &outputs), outputs);
        let build = change(json!({"build": {"context": "a"}}), json!({"build": {"context": "b"}}));
        let foreseen = foresee(&urn, &build, &outputs);
        assert_eq!((&foreseen["name"], value::has_unknown(&foreseen["image"])), (&json!("t"), true));
    }
}
