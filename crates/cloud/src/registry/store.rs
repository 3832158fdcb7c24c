//! The registry's rows.
//!
//! | key | value |
//! |---|---|
//! | `registry/manifest/<repository>\0<digest>` | [`ManifestRow`]; the manifest itself is a blob |
//! | `registry/tag/<repository>\0<tag>` | [`TagRow`] |
//!
//! They are written by this service alone, one change at a time.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tandem_store::{ReadError, Snapshot};

use super::name::{Digest, Repository, Tag};

/// Whether a row speaks of images, which a backup does not have.
pub(crate) fn is_of_this_machine(row: &[u8]) -> bool {
    row.starts_with(b"registry/")
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestRow {
    pub(super) media_type: String,
    pub(super) size: u64,
    /// The blobs and manifests that it names.
    pub(super) refers: Vec<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    /// The image's digest in the image store, if it is an image that containers run from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<Digest>,
    /// Since when no tag names it that once did, or is about to. One that was pushed by its digest alone has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) untagged: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagRow {
    pub(super) digest: Digest,
    /// Which image had this name in the image store when this was recorded. If another has it now, that one is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seen: Option<String>,
}

pub(super) fn manifest_key(repository: &Repository, digest: &Digest) -> Bytes {
    format!("registry/manifest/{}\0{}", repository.as_str(), digest.hex()).into()
}

pub(super) fn tag_key(repository: &Repository, tag: &Tag) -> Bytes {
    format!("registry/tag/{}\0{}", repository.as_str(), tag.as_str()).into()
}

pub(super) fn encode(row: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(row).expect("a row has string keys only")
}

fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(value).map_err(|error| ReadError(Box::new(error)))
}

pub(super) fn manifest(
    snapshot: &dyn Snapshot,
    repository: &Repository,
    digest: &Digest,
) -> Result<Option<ManifestRow>, ReadError> {
    snapshot.get(&manifest_key(repository, digest))?.map(|value| decode(&value)).transpose()
}

pub(super) fn tag(
    snapshot: &dyn Snapshot,
    repository: &Repository,
    tag: &Tag,
) -> Result<Option<TagRow>, ReadError> {
    snapshot.get(&tag_key(repository, tag))?.map(|value| decode(&value)).transpose()
}

/// The two names in a key.
fn names(key: &[u8]) -> Option<(Repository, String)> {
    let text = std::str::from_utf8(key).ok()?;
    let (_, rest) = text.strip_prefix("registry/")?.split_once('/')?;
    let (repository, name) = rest.split_once('\0')?;
    Some((Repository::complete(repository)?, name.to_owned()))
}

type Rows<T> = Vec<(Repository, String, T)>;

fn rows<T: DeserializeOwned>(snapshot: &dyn Snapshot, prefix: &str) -> Result<Rows<T>, ReadError> {
    let mut found = Vec::new();
    for entry in snapshot.prefix(prefix.as_bytes())? {
        let (key, value) = entry?;
        if let Some((repository, name)) = names(&key) {
            found.push((repository, name, decode(&value)?));
        }
    }
    Ok(found)
}

/// The manifests of a repository, or all.
pub(super) fn manifests(
    snapshot: &dyn Snapshot,
    of: Option<&Repository>,
) -> Result<Vec<(Repository, Digest, ManifestRow)>, ReadError> {
    let prefix =
        of.map_or("registry/manifest/".to_owned(), |r| format!("registry/manifest/{}\0", r.as_str()));
    let all = rows(snapshot, &prefix)?.into_iter();
    Ok(all.filter_map(|(repository, hex, row)| Some((repository, Digest::from_hex(&hex)?, row))).collect())
}

/// The tags of a repository, or all.
pub(super) fn tags(
    snapshot: &dyn Snapshot,
    of: Option<&Repository>,
) -> Result<Vec<(Repository, Tag, TagRow)>, ReadError> {
    let prefix = of.map_or("registry/tag/".to_owned(), |r| format!("registry/tag/{}\0", r.as_str()));
    let all = rows(snapshot, &prefix)?.into_iter();
    Ok(all.filter_map(|(repository, tag, row)| Some((repository, Tag::parse(&tag)?, row))).collect())
}
