//! Which images a resource needs, whatever its outputs are called.

use std::collections::BTreeSet;

use serde_json::Value;
use tandem_container::Image;
use tandem_model::resource::Properties;
use tandem_store::{ReadError, Snapshot};

use super::image_key;

/// The digests of all images among the outputs of a resource.
pub(crate) fn digests_of(outputs: &Properties) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    outputs.values().for_each(|output| digests(output, &mut found));
    found
}

fn digests(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.starts_with("sha256:") => _ = found.insert(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| digests(item, found)),
        Value::Object(map) => map.values().for_each(|item| digests(item, found)),
        _ => {}
    }
}

/// The image that stands in for one that was made again: see [`Images::deployed`].
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn stand_in(snapshot: &dyn Snapshot, digest: &str) -> Result<Option<String>, ReadError> {
    let row = snapshot.get(&image_key(digest))?;
    Ok(row.and_then(|row| serde_json::from_slice::<Image>(&row).ok()).map(|image| image.digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_wherever_an_output_has_them() {
        let outputs = serde_json::json!({
            "image": "sha256:a", "images": { "web": "sha256:b" }, "all": [{ "image": "sha256:c" }], "name": "x",
        });
        let found = digests_of(outputs.as_object().unwrap());
        assert_eq!(found, BTreeSet::from(["sha256:a", "sha256:b", "sha256:c"].map(str::to_owned)));
    }
}
