//! What can go wrong with a bucket and its objects.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use tandem_model::Explain;
use tandem_store::{BlobError, CommitError, ReadError};

use super::{checksum::Algorithm, version::VersionId};

type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    #[error("there is no bucket `{bucket}`")]
    NoSuchBucket { bucket: String },
    #[error("`{bucket}` is not a name that a bucket can have")]
    BucketName { bucket: String },
    #[error("`{name}` is a name that is kept for buckets which clients make")]
    ReservedName { name: String },
    #[error("the CORS rules are not valid: {fault}")]
    Cors { fault: String },
    #[error("the bucket `{bucket}` is not empty: it holds {items} objects and {uploads} unfinished uploads")]
    NotEmpty { bucket: String, items: u64, uploads: u64 },
    #[error("there is no object `{key}` in the bucket `{bucket}`")]
    NoSuchKey { bucket: String, key: String },
    #[error("the object `{key}` in the bucket `{bucket}` is deleted: its current version is a delete marker")]
    Deleted { bucket: String, key: String, version: VersionId },
    #[error("the version `{version}` of `{key}` is a delete marker")]
    IsMarker { key: String, version: VersionId, modified: Timestamp },
    #[error("there is no version `{version}` of `{key}`")]
    NoSuchVersion { key: String, version: VersionId },
    #[error("`{given}` is not an id that a version can have")]
    VersionId { given: String },
    #[error("the tag `{name}` is not valid: {wrong}")]
    Tag { name: String, wrong: &'static str },
    #[error("{count} tags are given; an object has at most {most}")]
    TagCount { count: usize, most: usize },
    #[error("a key has {} to {} bytes in UTF-8, not {length}", allowed.start(), allowed.end())]
    KeyLength { length: usize, allowed: RangeInclusive<usize> },
    #[error("the range lies outside of the object, which has {size} bytes")]
    Range { size: u64 },
    #[error("the object is not as the request expects it to be")]
    Precondition,
    #[error("the object has not changed")]
    NotModified { etag: String, modified: Timestamp },
    #[error("the object has {parts} parts; there is no part {number}")]
    NoPart { number: i32, parts: usize },
    #[error("the {} of the body is {actual}, not {expected} as the request says", algorithm.map_or("MD5", Algorithm::name))]
    Digest { algorithm: Option<Algorithm>, expected: String, actual: String },
    #[error("the body has {actual} bytes, not {expected} as the request says")]
    Length { expected: u64, actual: u64 },
    #[error("the body has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the body has {size} bytes; it must have at least {least}")]
    TooSmall { size: u64, least: u64 },
    #[error("the body could not be received")]
    Body(#[source] Cause),
    #[error("there is no upload `{upload}` of `{key}`")]
    NoSuchUpload { upload: String, key: String },
    #[error("part {number} was not uploaded, or is not the one that the request names")]
    Part { number: u16 },
    #[error("the number of a part is 1 to 10000, not {number}")]
    PartNumber { number: i32 },
    #[error("the parts are not in ascending order, each once")]
    PartOrder,
    #[error("the upload has no parts")]
    NoParts,
    #[error("part {number} has {size} bytes; every part but the last has at least {least}")]
    PartSize { number: u16, size: u64, least: u64 },
    #[error("the upload was begun with {}, not with {}", begun.name(), given.name())]
    PartAlgorithm { begun: Algorithm, given: Algorithm },
    #[error("too many clients change the same thing at once")]
    Contended,
    #[error("a record in the store cannot be read")]
    Damaged { source: serde_json::Error },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl Explain for BucketError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoSuchBucket { .. } => "E0803",
            Self::NoSuchKey { .. } | Self::Deleted { .. } => "E0804",
            Self::IsMarker { .. } | Self::NoSuchVersion { .. } | Self::VersionId { .. } => "E0830",
            Self::Tag { .. } | Self::TagCount { .. } => "E0831",
            Self::KeyLength { .. } => "E0805",
            Self::NoSuchUpload { .. }
            | Self::Part { .. }
            | Self::PartNumber { .. }
            | Self::PartOrder
            | Self::NoParts
            | Self::PartSize { .. }
            | Self::PartAlgorithm { .. } => "E0806",
            Self::Digest { .. }
            | Self::Length { .. }
            | Self::TooLarge { .. }
            | Self::TooSmall { .. }
            | Self::Body(_) => "E0807",
            Self::Precondition | Self::NotModified { .. } | Self::NoPart { .. } | Self::Range { .. } => {
                "E0808"
            }
            Self::NotEmpty { .. } => "E0813",
            Self::BucketName { .. } | Self::ReservedName { .. } => "E0814",
            Self::Cors { .. } => "E0816",
            Self::Contended => "E0815",
            Self::Damaged { .. } => "E0902",
            Self::Read(error) => error.code(),
            Self::Commit(error) => error.code(),
            Self::Blob(error) => error.code(),
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NoSuchBucket { .. } => "declare it in the program with `new cloud.Bucket(…)`, then run `tandem up`",
            Self::NoSuchKey { .. } => "look at the keys there are with `aws s3 ls`",
            Self::Deleted { .. } => "name a version of it, or delete the marker: see `aws s3api list-object-versions`",
            Self::IsMarker { .. } | Self::NoSuchVersion { .. } | Self::VersionId { .. } => {
                "see the versions there are with `aws s3api list-object-versions`"
            }
            Self::Tag { .. } => "mend the tag",
            Self::TagCount { .. } => "leave some out, or keep them in the metadata",
            Self::KeyLength { .. } => "choose another key",
            Self::NoSuchUpload { .. } | Self::Part { .. } | Self::PartOrder | Self::NoParts => {
                "begin the upload anew"
            }
            Self::PartNumber { .. } | Self::PartSize { .. } => "upload the parts in another size",
            Self::PartAlgorithm { .. } => "send the checksum that the upload was begun with",
            Self::Digest { .. } | Self::Length { .. } | Self::Body(_) => "send the body again",
            Self::TooLarge { .. } => "use a multipart upload",
            Self::TooSmall { .. } => "choose a larger file",
            Self::Precondition | Self::NotModified { .. } => "read the object again and decide anew",
            Self::NoPart { .. } | Self::Range { .. } => "ask for a range within the object",
            Self::NotEmpty { .. } => {
                "empty it, or set `forceDestroy` in the program, or run `tandem destroy --force`, which deletes what is in it"
            }
            Self::BucketName { .. } => {
                "use 3 to 63 lower-case letters, digits, `-` and `.`, starting and ending with a letter or digit"
            }
            Self::ReservedName { .. } => "call it something that does not start with `s3.`",
            Self::Cors { .. } => "correct the rule that is named",
            Self::Contended => "try again",
            Self::Damaged { .. } => "restore the folder `data` of TANDEM_HOME from a backup",
            Self::Read(error) => return error.help(),
            Self::Commit(error) => return error.help(),
            Self::Blob(error) => return error.help(),
        }
        .to_owned()
    }
}
