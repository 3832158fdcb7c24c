//! The rows of buckets: keys and values.
//!
//! | row | holds |
//! |---|---|
//! | `bucket/<bucket>` | [`OPEN`], or [`CLOSING`] while the bucket is being deleted |
//! | `setting/<bucket>/<name>` | a [`Setting`](super::settings::Setting) |
//! | `object/<bucket>/<key>` | [`Object`]: the current version |
//! | `body/<bucket>/<key>` | the body of an object that is kept inline, so that a listing does not read bodies |
//! | `marker/<bucket>/<key>` | [`Marker`]: the current version is a delete marker, and there is no `object/…` |
//! | `version/<bucket>/<key'>\0<sequence>` | [`Version`]: one that is not current any more |
//! | `null/<bucket>/<key>` | the sequence of the version `null`, if it is among those |
//! | `version-body/<bucket>/<key'>\0<sequence>` | the inline body of a version that was written with a [`Stamp`]; it stays where it is when the version is not current any more |
//! | `upload/<bucket>/<key'>\0<upload id>` | [`Upload`] |
//! | `part/<bucket>/<upload id>/<number, five digits>` | [`Part`] |
//! | `done/<bucket>/<upload id>` | [`Done`]: what a completed upload answered |
//!
//! A bucket's name holds no `/`, and what follows a key has a fixed length, so no row is mistaken for another. The order
//! of rows is the order in which S3 lists keys: by their UTF-8 bytes. Where something follows it, the key is written as
//! `key'`, with each NUL as NUL and DEL: what follows begins with a NUL and a digit, so all rows of a key come together,
//! and before those of the keys that begin with it.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tandem_store::BlobId;

use super::{
    checksum::Checksum,
    error::BucketError,
    tags::Tags,
    version::{SEQUENCE_LENGTH, Sequence, Stamp, VersionId},
};

pub(super) const OPEN: &[u8] = b"open";
pub(super) const CLOSING: &[u8] = b"closing";

/// What is known of an object beside its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// In bytes.
    pub size: u64,
    /// Hexadecimal, without quotes: the body's MD5, or for an object of parts the MD5 of their MD5s, `-` and their number.
    pub etag: String,
    pub modified: Timestamp,
    pub checksum: Checksum,
    pub body: Body,
    /// Its place among the versions; none if the bucket was not versioned when it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    #[serde(flatten)]
    pub description: Description,
}

impl Object {
    pub fn version_id(&self) -> VersionId {
        VersionId::of(self.version)
    }

    /// The parts that it was uploaded in.
    pub fn parts(&self) -> Option<&[Piece]> {
        match &self.body {
            // Its ETag tells an object of one part from one that was put.
            Body::Blobs(pieces) if self.etag.contains('-') => Some(pieces),
            _ => None,
        }
    }

    pub fn sequence(&self) -> Sequence {
        self.version.map_or_else(|| Sequence::of(self.modified), |stamp| stamp.sequence)
    }
}

/// Says that the object was deleted, while its versions are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub modified: Timestamp,
    pub version: Stamp,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Version {
    Object(Box<Object>),
    Marker(Marker),
}

impl Version {
    pub fn version_id(&self) -> VersionId {
        match self {
            Self::Object(object) => object.version_id(),
            Self::Marker(marker) => VersionId::of(Some(marker.version)),
        }
    }

    pub fn sequence(&self) -> Sequence {
        match self {
            Self::Object(object) => object.sequence(),
            Self::Marker(marker) => marker.version.sequence,
        }
    }

    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        let body = match self {
            Self::Object(object) => Some(&object.body),
            Self::Marker(_) => None,
        };
        body.into_iter().flat_map(Body::blobs)
    }
}

/// Where a body is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Body {
    /// In the row `body/…`.
    Inline,
    /// In blobs, one after the other; of a multipart upload, one a part.
    Blobs(Vec<Piece>),
}

impl Body {
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        let pieces = match self {
            Self::Inline => &[][..],
            Self::Blobs(pieces) => pieces,
        };
        pieces.iter().map(|piece| piece.blob)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    pub blob: BlobId,
    pub size: u64,
    /// Of a part: its checksum in base 64, by the algorithm of the object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

/// What a client says about an object; given back as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Description {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The `x-amz-meta-` headers, by what follows in the name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// A multipart upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    pub begun: Timestamp,
    /// How its parts are checked; chosen at the beginning.
    pub algorithm: super::checksum::Algorithm,
    /// Whether the object's checksum is over the whole object, or over its parts' checksums.
    pub composite: bool,
    /// Whether the client chose the algorithm, and is told it again.
    pub chosen: bool,
    /// Those of the object that it becomes.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    #[serde(flatten)]
    pub description: Description,
}

/// A part of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    pub size: u64,
    /// The MD5, in hexadecimal.
    pub etag: String,
    pub modified: Timestamp,
    pub checksum: Checksum,
    pub blob: BlobId,
}

/// What a completed upload answered, for a client that asks again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Done {
    pub key: String,
    pub time: Timestamp,
    pub etag: String,
    pub checksum: Checksum,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Stamp>,
}

pub(super) fn bucket_row(bucket: &str) -> Bytes {
    format!("bucket/{bucket}").into()
}

/// The prefix of the rows of one table and bucket.
pub(super) fn table(table: &str, bucket: &str) -> String {
    format!("{table}/{bucket}/")
}

pub(super) fn object_row(bucket: &str, key: &str) -> Bytes {
    format!("object/{bucket}/{key}").into()
}

pub(super) fn body_row(bucket: &str, key: &str) -> Bytes {
    format!("body/{bucket}/{key}").into()
}

pub(super) fn marker_row(bucket: &str, key: &str) -> Bytes {
    format!("marker/{bucket}/{key}").into()
}

pub(super) fn null_row(bucket: &str, key: &str) -> Bytes {
    format!("null/{bucket}/{key}").into()
}

pub(super) fn version_row(bucket: &str, key: &str, sequence: Sequence) -> Bytes {
    format!("version/{bucket}/{}\0{sequence}", ordered(key)).into()
}

/// From the first to behind the last row that a key's versions can have.
pub(super) fn version_rows(bucket: &str, key: &str) -> (Bytes, Bytes) {
    let key = ordered(key);
    (format!("version/{bucket}/{key}\0").into(), format!("version/{bucket}/{key}\0\x7f").into())
}

/// The row of an inline body.
pub(super) fn inline_row(bucket: &str, key: &str, version: Option<Stamp>) -> Bytes {
    match version {
        None => body_row(bucket, key),
        Some(stamp) => format!("version-body/{bucket}/{}\0{}", ordered(key), stamp.sequence).into(),
    }
}

/// A key as it is written where something follows it.
pub(super) fn ordered(key: &str) -> Cow<'_, str> {
    if key.contains('\0') { Cow::Owned(key.replace('\0', "\0\x7f")) } else { Cow::Borrowed(key) }
}

/// Takes what [`ordered`] wrote, and what follows it, apart.
pub(super) fn apart(name: &str) -> Option<(Cow<'_, str>, &str)> {
    let (key, rest) = name.split_at_checked(name.len().checked_sub(SEQUENCE_LENGTH + 1)?)?;
    let key = if key.contains('\0') { Cow::Owned(key.replace("\0\x7f", "\0")) } else { Cow::Borrowed(key) };
    Some((key, rest.strip_prefix('\0')?))
}

pub(super) fn upload_row(bucket: &str, key: &str, upload: &str) -> Bytes {
    format!("upload/{bucket}/{}\0{upload}", ordered(key)).into()
}

pub(super) fn part_prefix(bucket: &str, upload: &str) -> String {
    format!("part/{bucket}/{upload}/")
}

pub(super) fn part_row(bucket: &str, upload: &str, number: u16) -> Bytes {
    format!("part/{bucket}/{upload}/{number:05}").into()
}

pub(super) fn done_row(bucket: &str, upload: &str) -> Bytes {
    format!("done/{bucket}/{upload}").into()
}

pub(super) fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("rows are structs with string keys").into()
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BucketError> {
    serde_json::from_slice(bytes).map_err(|source| BucketError::Damaged { source })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_of_versions_are_in_the_order_of_their_keys_and_read_back(
            one in "[\\x00a\\x7f\u{e9}]{0,4}",
            two in "[\\x00a\\x7f\u{e9}]{0,4}",
        ) {
            let (old, new) = (Sequence::after(None), Sequence::after(None));
            let row = |key: &str, sequence| version_row("b", key, sequence);
            prop_assert_eq!(row(&one, old).cmp(&row(&two, new)), one.as_bytes().cmp(two.as_bytes()).then(old.cmp(&new).reverse()));
            let written = row(&one, old);
            let name = std::str::from_utf8(&written["version/b/".len()..]).unwrap();
            let (key, sequence) = apart(name).unwrap();
            prop_assert_eq!((&*key, sequence), (&*one, &*old.to_string()));
            let (from, to) = version_rows("b", &one);
            prop_assert_eq!((from..to).contains(&row(&two, new)), one == two);
        }
    }
}
