//! The tags of a bucket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::settings::Setting;

/// What a bucket is tagged with: values by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct BucketTags(pub(super) BTreeMap<String, String>);

impl Setting for BucketTags {
    const NAME: &'static str = "tags";
}
