//! The rows of buckets: keys and values.
//!
//! | row | holds |
//! |---|---|
//! | `bucket/<bucket>` | [`OPEN`], or [`CLOSING`] while the bucket is being deleted |
//! | `setting/<bucket>/<name>` | a [`Setting`](super::settings::Setting) |
//! | `object/<bucket>/<key>` | [`Object`] |
//! | `body/<bucket>/<key>` | the body of an object that is kept inline, so that a listing does not read bodies |
//! | `upload/<bucket>/<key>\0<upload id>` | [`Upload`] |
//! | `part/<bucket>/<upload id>/<number, five digits>` | [`Part`] |
//! | `done/<bucket>/<upload id>` | [`Done`]: what a completed upload answered |
//!
//! A bucket's name holds no `/`, and an upload id has a fixed length, so no row is mistaken for another. The order of
//! rows is the order in which S3 lists keys: by their UTF-8 bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tandem_store::BlobId;

use super::{checksum::Checksum, error::BucketError};

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
    #[serde(flatten)]
    pub description: Description,
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

pub(super) fn upload_row(bucket: &str, key: &str, upload: &str) -> Bytes {
    format!("upload/{bucket}/{key}\0{upload}").into()
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
