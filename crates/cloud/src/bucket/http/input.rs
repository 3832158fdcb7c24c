//! What requests say, in our words, and back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use http::HeaderMap;
use jiff::Timestamp;
use s3s::{
    S3Error, S3Request, S3Result, TrailingHeaders,
    dto::{self, ChecksumAlgorithm, ETag, ETagCondition, StreamingBlob, TimestampFormat},
    s3_error,
};

use super::{
    super::{
        Algorithm, BucketError, Checksum, Claims, Condition, Description, Stamp, VersionId, receive::LARGEST,
    },
    error::wire,
};
use crate::cause;

/// S3's limit of what `x-amz-meta-` headers hold together, in bytes.
const METADATA_LIMIT: usize = 2048;

/// What a request says about its body before it has read it.
pub(super) struct Declared {
    length: Option<u64>,
    md5: Option<String>,
    pub(super) algorithm: Option<Algorithm>,
    /// In base 64; `None` if it comes behind the body.
    value: Option<String>,
    trailers: Option<TrailingHeaders>,
}

impl Declared {
    pub(super) fn of<T>(req: &S3Request<T>) -> S3Result<Self> {
        let header = |name: &str| req.headers.get(name).and_then(|value| value.to_str().ok());
        let md5 = header("content-md5")
            .map(|md5| STANDARD.decode(md5).ok().filter(|md5| md5.len() == 16))
            .map(|md5| md5.ok_or_else(|| s3_error!(InvalidDigest, "the Content-MD5 is not valid")))
            .transpose()?;
        let (algorithm, value) = checksum(&req.headers)?;
        let length: Option<u64> = header("content-length").and_then(|length| length.parse().ok());
        if length.is_some_and(|length| length > LARGEST) {
            // Before it is sent: the client has most of it still to come.
            return Err(wire(BucketError::TooLarge { limit: LARGEST }));
        }
        Ok(Self {
            length,
            md5: md5.map(|md5| HEXLOWER.encode(&md5)),
            algorithm,
            value,
            trailers: req.trailing_headers.clone(),
        })
    }

    /// What the body must be, once it has been read to its end.
    ///
    /// # Errors
    /// [`BucketError::Body`] if the checksum that was announced did not come.
    pub(super) fn claims(self) -> Result<Claims, BucketError> {
        let value = match (self.value, self.algorithm, &self.trailers) {
            (None, Some(algorithm), Some(trailers)) => {
                let found = trailers.read(|headers| {
                    let value = headers.get(header_name(algorithm)).and_then(|value| value.to_str().ok());
                    value.map(|value| value.trim().to_owned())
                });
                let missing = || BucketError::Body("the checksum did not come behind the body".into());
                Some(found.flatten().ok_or_else(missing)?)
            }
            (value, _, _) => value,
        };
        let checksum = self.algorithm.zip(value);
        Ok(Claims {
            length: self.length,
            md5: self.md5,
            checksum: checksum.map(|(algorithm, value)| Checksum { algorithm, value, composite: false }),
        })
    }
}

fn header_name(algorithm: Algorithm) -> String {
    format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase())
}

/// The checksum that the headers give or announce.
pub(super) fn checksum(headers: &HeaderMap) -> S3Result<(Option<Algorithm>, Option<String>)> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut given = Algorithm::ALL.into_iter().filter_map(|a| Some((a, text(&header_name(a))?.to_owned())));
    if let Some((algorithm, value)) = given.next() {
        if given.next().is_some() {
            return Err(s3_error!(InvalidRequest, "a request has at most one x-amz-checksum- header"));
        }
        return Ok((Some(algorithm), Some(value)));
    }
    let announced = text("x-amz-trailer").into_iter().flat_map(|names| names.split(','));
    let mut announced = announced.filter_map(|n| Algorithm::parse(n.trim().strip_prefix("x-amz-checksum-")?));
    if let Some(algorithm) = announced.next() {
        return Ok((Some(algorithm), None));
    }
    match text("x-amz-sdk-checksum-algorithm") {
        Some(name) => {
            let algorithm = Algorithm::parse(name);
            algorithm.map(|a| (Some(a), None)).ok_or_else(|| unknown_algorithm(name))
        }
        None => Ok((None, None)),
    }
}

fn unknown_algorithm(name: &str) -> S3Error {
    s3_error!(InvalidRequest, "`{name}` is not a checksum algorithm")
}

pub(super) fn algorithm(given: Option<&ChecksumAlgorithm>) -> S3Result<Option<Algorithm>> {
    given.map(|a| Algorithm::parse(a.as_str()).ok_or_else(|| unknown_algorithm(a.as_str()))).transpose()
}

/// A body, or the empty one.
pub(super) fn body(body: Option<StreamingBlob>) -> StreamingBlob {
    body.unwrap_or_else(|| StreamingBlob::from(s3s::Body::empty()))
}

/// The headers that describe an object, from an input that has the usual fields.
macro_rules! description {
    ($input:expr) => {{
        let input = &$input;
        $crate::bucket::http::input::check_metadata(input.metadata.as_ref()).map(|()| {
            $crate::bucket::Description {
                content_type: input.content_type.clone(),
                content_encoding: $crate::bucket::http::input::content_encoding(
                    input.content_encoding.as_deref(),
                ),
                content_language: input.content_language.clone(),
                content_disposition: input.content_disposition.clone(),
                cache_control: input.cache_control.clone(),
                expires: input.expires.as_ref().and_then($crate::bucket::http::input::time),
                metadata: input.metadata.clone().unwrap_or_default().into_iter().collect(),
            }
        })
    }};
}
pub(super) use description;

/// How the body is encoded. That it came in chunks is said in the same header, and over with the request.
pub(super) fn content_encoding(given: Option<&str>) -> Option<String> {
    let kept: Vec<&str> =
        given?.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "aws-chunked").collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

pub(super) fn check_metadata(metadata: Option<&dto::Metadata>) -> S3Result<()> {
    let size: usize = metadata.into_iter().flatten().map(|(name, value)| name.len() + value.len()).sum();
    match size > METADATA_LIMIT {
        true => {
            Err(s3_error!(MetadataTooLarge, "the metadata has {size} bytes; it may have {METADATA_LIMIT}"))
        }
        false => Ok(()),
    }
}

/// What S3 gives for an object that came without a type.
pub(super) fn content_type(description: &Description) -> String {
    description.content_type.clone().unwrap_or_else(|| "binary/octet-stream".to_owned())
}

/// The version that a request names.
pub(super) fn version(given: Option<&str>) -> S3Result<Option<VersionId>> {
    given.map(str::parse).transpose().map_err(wire)
}

/// What a client is told of the version that it made: nothing if the bucket is not versioned.
pub(super) fn version_told(made: Option<Stamp>) -> Option<String> {
    made.map(|stamp| VersionId::of(Some(stamp)).to_string())
}

/// A condition that an input has no field for.
pub(super) fn etag_condition(headers: &HeaderMap, name: &str) -> S3Result<Option<ETagCondition>> {
    let parse = |value: &http::HeaderValue| {
        ETagCondition::parse_http_header(value.as_bytes())
            .map_err(|_| s3_error!(InvalidArgument, "`{name}` is an ETag in quotes, or `*`"))
    };
    headers.get(name).map(parse).transpose()
}

/// What `If-Match` and `If-None-Match` of a change ask.
pub(super) fn condition(
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Always),
        (Some(ETagCondition::Any), None) => Ok(Condition::IfPresent),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::IfMatch(etag.value().to_owned())),
        (None, Some(ETagCondition::Any)) => Ok(Condition::IfAbsent),
        _ => {
            Err(s3_error!(NotImplemented, "this combination of If-Match and If-None-Match is not supported"))
        }
    }
}

/// The conditions of a read, judged as RFC 9110, section 13.2.2 orders them.
pub(super) struct ReadConditions<'a> {
    pub(super) if_match: Option<&'a ETagCondition>,
    pub(super) if_none_match: Option<&'a ETagCondition>,
    pub(super) if_modified_since: Option<&'a dto::Timestamp>,
    pub(super) if_unmodified_since: Option<&'a dto::Timestamp>,
    /// What a source is not is a failed precondition, not an answer.
    pub(super) of_a_copy: bool,
}

impl ReadConditions<'_> {
    pub(super) fn judge(&self, etag: &str, modified: Timestamp) -> Result<(), BucketError> {
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(wanted) => wanted.value() == etag,
        };
        // HTTP dates have whole seconds.
        let after = |since: &dto::Timestamp| {
            time(since).is_some_and(|since| modified.as_second() > since.as_second())
        };
        let not_modified = if self.of_a_copy {
            BucketError::Precondition
        } else {
            BucketError::NotModified { etag: etag.to_owned(), modified }
        };
        match (self.if_match, self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition) => return Err(BucketError::Precondition),
            (None, Some(since)) if after(since) => return Err(BucketError::Precondition),
            _ => {}
        }
        match (self.if_none_match, self.if_modified_since) {
            (Some(condition), _) if matches(condition) => Err(not_modified),
            (None, Some(since)) if !after(since) => Err(not_modified),
            _ => Ok(()),
        }
    }
}

pub(super) fn etag(etag: &str) -> ETag {
    ETag::Strong(etag.to_owned())
}

pub(super) fn time(timestamp: &dto::Timestamp) -> Option<Timestamp> {
    let mut text = Vec::new();
    timestamp.format(TimestampFormat::DateTime, &mut text).ok()?;
    std::str::from_utf8(&text).ok()?.parse().ok()
}

pub(super) fn wire_time(timestamp: Timestamp) -> dto::Timestamp {
    dto::Timestamp::from(std::time::SystemTime::from(timestamp))
}

/// Sizes are below 5 TiB, which any `i64` holds.
pub(super) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The cause of a request.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<String> {
    cause::told(headers)
}

/// Fills the fields of an output that hold a checksum.
macro_rules! with_checksum {
    ($output:expr, $checksum:expr) => {{
        let (output, checksum): (_, &$crate::bucket::Checksum) = (&mut $output, $checksum);
        let value = Some(checksum.value.clone());
        match checksum.algorithm {
            $crate::bucket::Algorithm::Crc32 => output.checksum_crc32 = value,
            $crate::bucket::Algorithm::Crc32c => output.checksum_crc32c = value,
            $crate::bucket::Algorithm::Crc64Nvme => output.checksum_crc64nvme = value,
            $crate::bucket::Algorithm::Sha1 => output.checksum_sha1 = value,
            $crate::bucket::Algorithm::Sha256 => output.checksum_sha256 = value,
        }
    }};
}
pub(super) use with_checksum;

pub(super) fn checksum_type(checksum: &Checksum) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match checksum.composite {
        true => dto::ChecksumType::COMPOSITE,
        false => dto::ChecksumType::FULL_OBJECT,
    })
}

/// Percent-encodes for `encoding-type=url`: all but the unreserved characters and `/`.
pub(super) fn url_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
