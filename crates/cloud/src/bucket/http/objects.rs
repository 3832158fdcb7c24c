//! Objects: head, get, put.

use std::ops::Range;

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};
use sync_wrapper::SyncStream;

use super::{
    Answer, Wire,
    error::{unsupported, wire},
    input::{
        Declared, ReadConditions, body, checksum_type, condition, content_type, description, etag, size,
        traceparent, version, version_told, wire_time, with_checksum,
    },
    tagging::of_header,
};
use crate::bucket::{Algorithm, BucketError, Object, PutOptions, VersionId};

/// Refuses what an input asks about an object that there is not, by the fields that such inputs share.
macro_rules! check_supported {
    ($input:expr) => {{
        let input = &$input;
        let acl = input.acl.as_ref().map(|acl| acl.as_str());
        let class = input.storage_class.as_ref().map(|class| class.as_str());
        unsupported(&[
            (
                "an ACL other than `private` and `bucket-owner-full-control`",
                !matches!(acl, None | Some("private" | "bucket-owner-full-control")),
            ),
            (
                "x-amz-grant-…",
                input.grant_full_control.is_some()
                    || input.grant_read.is_some()
                    || input.grant_read_acp.is_some()
                    || input.grant_write_acp.is_some(),
            ),
            ("a storage class other than STANDARD", !matches!(class, None | Some("STANDARD"))),
            ("x-amz-server-side-encryption", input.server_side_encryption.is_some()),
            ("x-amz-server-side-encryption-customer-…", input.sse_customer_algorithm.is_some()),
            (
                "x-amz-object-lock-…",
                input.object_lock_legal_hold_status.is_some()
                    || input.object_lock_mode.is_some()
                    || input.object_lock_retain_until_date.is_some(),
            ),
            ("x-amz-website-redirect-location", input.website_redirect_location.is_some()),
        ])
    }};
}
pub(super) use check_supported;

/// Fills the fields that the outputs of head and get share.
macro_rules! described {
    ($output:ident, $object:expr, $version:expr, $range:expr, $input:expr) => {{
        let (object, part): (&Object, &Selected) = ($object, $range);
        let description = object.description.clone();
        let is_part = part.range != (0..object.size);
        let mut output = $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: description.cache_control.clone(),
            content_disposition: description.content_disposition.clone(),
            content_encoding: description.content_encoding.clone(),
            content_language: description.content_language.clone(),
            content_length: Some(size(part.range.end - part.range.start)),
            content_range: part.explicit.then(|| {
                format!("bytes {}-{}/{}", part.range.start, part.range.end.saturating_sub(1), object.size)
            }),
            content_type: Some(content_type(&description)),
            e_tag: Some(etag(&object.etag)),
            expires: description.expires.map(wire_time),
            last_modified: Some(wire_time(object.modified)),
            metadata: (!description.metadata.is_empty()).then(|| description.metadata.into_iter().collect()),
            parts_count: part.parts,
            version_id: $version.map(|version: VersionId| version.to_string()),
            ..Default::default()
        };
        let wanted = $input.checksum_mode.as_ref().is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED);
        if wanted && !is_part {
            with_checksum!(output, &object.checksum);
            output.checksum_type = Some(checksum_type(&object.checksum));
        }
        output
    }};
}

/// Which bytes of an object a request asks for.
struct Selected {
    range: Range<u64>,
    /// Whether it asked for some, and is told which.
    explicit: bool,
    /// The number of parts, for a request that names one.
    parts: Option<i32>,
}

fn select(
    object: &Object,
    range: Option<&s3s::dto::Range>,
    part: Option<i32>,
) -> Result<Selected, BucketError> {
    match (range, part) {
        (None, None) => Ok(Selected { range: 0..object.size, explicit: false, parts: None }),
        (Some(range), _) => match range.check(object.size) {
            Ok(range) => Ok(Selected { range, explicit: true, parts: None }),
            Err(_) => Err(BucketError::Range { size: object.size }),
        },
        (None, Some(number)) => {
            let parts = object.parts();
            let sizes: Vec<u64> = match parts {
                Some(parts) => parts.iter().map(|piece| piece.size).collect(),
                None => vec![object.size],
            };
            let index =
                usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < sizes.len());
            let Some(index) = index else { return Err(BucketError::NoPart { number, parts: sizes.len() }) };
            let start: u64 = sizes[..index].iter().sum();
            let count = parts.and_then(|parts| i32::try_from(parts.len()).ok());
            Ok(Selected { range: start..start + sizes[index], explicit: sizes[index] > 0, parts: count })
        }
    }
}

/// A range and a part at once are two answers to one question.
fn check_selection(range: Option<&s3s::dto::Range>, part: Option<i32>) -> S3Result<()> {
    match (range, part) {
        (Some(_), Some(_)) => {
            Err(s3_error!(InvalidRequest, "a request has a Range or a partNumber, not both"))
        }
        _ => Ok(()),
    }
}

/// Adds what the outputs of `s3s` have no field for.
fn with_tag_count<T>(output: T, object: &Object) -> S3Response<T> {
    let mut answer = S3Response::new(output);
    if !object.tags.is_empty() {
        answer.headers.insert("x-amz-tagging-count", object.tags.len().into());
    }
    answer
}

impl Wire {
    pub(super) fn head_object(&self, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
        let asked = version(input.version_id.as_deref())?;
        check_selection(input.range.as_ref(), input.part_number)?;
        let seen = self.buckets.head_version(&input.bucket, &input.key, asked).map_err(wire)?;
        let object = &seen.object;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
            of_a_copy: false,
        };
        conditions.judge(&object.etag, object.modified).map_err(wire)?;
        let selected = select(object, input.range.as_ref(), input.part_number).map_err(wire)?;
        let output = described!(HeadObjectOutput, object, seen.version, &selected, input);
        Ok(with_tag_count(output, object))
    }

    pub(super) async fn get_object(&self, input: GetObjectInput) -> Answer<GetObjectOutput> {
        let asked = version(input.version_id.as_deref())?;
        check_selection(input.range.as_ref(), input.part_number)?;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
            of_a_copy: false,
        };
        let choose = |object: &Object| {
            conditions.judge(&object.etag, object.modified)?;
            Ok(select(object, input.range.as_ref(), input.part_number)?.range)
        };
        let found = self.buckets.get_range(&input.bucket, &input.key, asked, choose).await.map_err(wire)?;
        let selected = select(&found.object, input.range.as_ref(), input.part_number).map_err(wire)?;
        let mut output = described!(GetObjectOutput, &found.object, found.version, &selected, input);
        output.body = Some(StreamingBlob::wrap(SyncStream::new(found.body)));
        Ok(with_tag_count(output, &found.object))
    }

    pub(super) async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        check_supported!(req.input)?;
        unsupported(&[("x-amz-write-offset-bytes", req.input.write_offset_bytes.is_some())])?;
        let declared = Declared::of(&req)?;
        let options = PutOptions {
            description: description!(req.input)?,
            tags: of_header(req.input.tagging.as_deref())?,
            condition: condition(req.input.if_match.as_ref(), req.input.if_none_match.as_ref())?,
            traceparent: traceparent(&req.headers),
            ..PutOptions::default()
        };
        let stream = body(req.input.body.take());
        let algorithm = declared.algorithm.unwrap_or(Algorithm::DEFAULT);
        let PutObjectInput { bucket, key, .. } = req.input;
        let claims = || declared.claims();
        let object = self.buckets.put_checked(&bucket, &key, stream, &[algorithm], claims, &options).await;
        let object = object.map_err(wire)?;
        let mut output = PutObjectOutput {
            e_tag: Some(etag(&object.etag)),
            checksum_type: Some(checksum_type(&object.checksum)),
            version_id: version_told(object.version),
            ..PutObjectOutput::default()
        };
        with_checksum!(output, &object.checksum);
        Ok(S3Response::new(output))
    }
}
