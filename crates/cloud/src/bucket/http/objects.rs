//! Objects: head, get, put, copy, delete.

use std::ops::Range;

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};
use sync_wrapper::SyncStream;

use super::{
    Answer, Wire,
    access::may_reach,
    error::{unsupported, wire},
    input::{
        Declared, ReadConditions, algorithm, body, checksum_type, condition, content_type, description, etag,
        size, traceparent, wire_time, with_checksum,
    },
};
use crate::{
    bucket::{Algorithm, Body, BucketError, Object, PutOptions},
    credential::Principal,
};

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
            ("x-amz-tagging", input.tagging.as_ref().is_some_and(|tagging| !tagging.is_empty())),
            ("x-amz-website-redirect-location", input.website_redirect_location.is_some()),
        ])
    }};
}
pub(super) use check_supported;

/// There is one version of each object, which S3 calls `null`.
fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some("null") => Ok(()),
        Some(other) => {
            Err(s3_error!(NoSuchVersion, "there is no version `{other}`; objects are not versioned"))
        }
    }
}

/// Fills the fields that the outputs of head and get share.
macro_rules! described {
    ($output:ident, $object:expr, $range:expr, $input:expr) => {{
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
    let beyond = BucketError::Range { size: object.size };
    match (range, part) {
        (None, None) => Ok(Selected { range: 0..object.size, explicit: false, parts: None }),
        (Some(range), _) => match range.check(object.size) {
            Ok(range) => Ok(Selected { range, explicit: true, parts: None }),
            Err(_) => Err(beyond),
        },
        (None, Some(number)) => {
            let whole = [object.size];
            let sizes: Vec<u64> = match &object.body {
                Body::Blobs(pieces) => pieces.iter().map(|piece| piece.size).collect(),
                Body::Inline => whole.to_vec(),
            };
            let index =
                usize::try_from(number).ok().and_then(|n| n.checked_sub(1)).filter(|i| *i < sizes.len());
            let Some(index) = index else { return Err(beyond) };
            let start: u64 = sizes[..index].iter().sum();
            let parts = i32::try_from(sizes.len()).ok();
            Ok(Selected { range: start..start + sizes[index], explicit: sizes[index] > 0, parts })
        }
    }
}

impl Wire {
    pub(super) fn head_object(&self, input: HeadObjectInput) -> Answer<HeadObjectOutput> {
        check_version(input.version_id.as_deref())?;
        let object = self.buckets.head(&input.bucket, &input.key).map_err(wire)?;
        let conditions = ReadConditions {
            if_match: input.if_match.as_ref(),
            if_none_match: input.if_none_match.as_ref(),
            if_modified_since: input.if_modified_since.as_ref(),
            if_unmodified_since: input.if_unmodified_since.as_ref(),
            of_a_copy: false,
        };
        conditions.judge(&object.etag, object.modified).map_err(wire)?;
        let selected = select(&object, input.range.as_ref(), input.part_number).map_err(wire)?;
        Ok(S3Response::new(described!(HeadObjectOutput, &object, &selected, input)))
    }

    pub(super) async fn get_object(&self, input: GetObjectInput) -> Answer<GetObjectOutput> {
        check_version(input.version_id.as_deref())?;
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
        let found = self.buckets.get_range(&input.bucket, &input.key, choose).await.map_err(wire)?;
        let selected = select(&found.object, input.range.as_ref(), input.part_number).map_err(wire)?;
        let mut output = described!(GetObjectOutput, &found.object, &selected, input);
        output.body = Some(StreamingBlob::wrap(SyncStream::new(found.body)));
        Ok(S3Response::new(output))
    }

    pub(super) async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        check_supported!(req.input)?;
        unsupported(&[("x-amz-write-offset-bytes", req.input.write_offset_bytes.is_some())])?;
        let declared = Declared::of(&req)?;
        let options = PutOptions {
            description: description!(req.input)?,
            condition: condition(req.input.if_match.as_ref(), req.input.if_none_match.as_ref())?,
            traceparent: traceparent(&req.headers),
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
            ..PutObjectOutput::default()
        };
        with_checksum!(output, &object.checksum);
        Ok(S3Response::new(output))
    }

    pub(super) async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let input = &req.input;
        check_supported!(req.input)?;
        let (from_bucket, from_key) = source(&req, &input.copy_source, self)?;
        let replace = match input.metadata_directive.as_ref().map(|directive| directive.as_str()) {
            None | Some(MetadataDirective::COPY) => false,
            Some(MetadataDirective::REPLACE) => true,
            Some(other) => return Err(s3_error!(InvalidArgument, "`{other}` is not a metadata directive")),
        };
        if !replace && from_bucket == input.bucket && from_key == input.key {
            return Err(s3_error!(
                InvalidRequest,
                "copying an object to itself changes nothing, unless x-amz-metadata-directive is REPLACE"
            ));
        }
        let conditions = ReadConditions {
            if_match: input.copy_source_if_match.as_ref(),
            if_none_match: input.copy_source_if_none_match.as_ref(),
            if_modified_since: input.copy_source_if_modified_since.as_ref(),
            if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
            of_a_copy: true,
        };
        let replaced = if replace { Some(description!(*input)?) } else { None };
        let algorithm = algorithm(input.checksum_algorithm.as_ref())?;
        let judge = |object: &Object| conditions.judge(&object.etag, object.modified);
        let (from, to) = ((&*from_bucket, &*from_key), (&*input.bucket, &*input.key));
        let copied = self.buckets.copy(from, to, replaced, algorithm, traceparent(&req.headers), judge).await;
        let object = copied.map_err(wire)?;
        let mut result = CopyObjectResult {
            e_tag: Some(etag(&object.etag)),
            last_modified: Some(wire_time(object.modified)),
            checksum_type: Some(checksum_type(&object.checksum)),
            ..CopyObjectResult::default()
        };
        with_checksum!(result, &object.checksum);
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    pub(super) async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        let input = &req.input;
        check_version(input.version_id.as_deref())?;
        unsupported(&[
            ("x-amz-mfa", input.mfa.is_some()),
            ("x-amz-if-match-size", input.if_match_size.is_some()),
            ("x-amz-if-match-last-modified-time", input.if_match_last_modified_time.is_some()),
        ])?;
        let condition = condition(input.if_match.as_ref(), None)?;
        let cause = traceparent(&req.headers);
        let deleted =
            self.buckets.delete_if(&input.bucket, [&*input.key], &condition, cause.as_deref()).await;
        deleted.map_err(wire)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(super) async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let DeleteObjectsInput { bucket, delete, mfa, .. } = &req.input;
        unsupported(&[
            ("x-amz-mfa", mfa.is_some()),
            (
                "a condition of a single deletion",
                delete.objects.iter().any(|o| o.e_tag.is_some() || o.size.is_some()),
            ),
        ])?;
        if delete.objects.is_empty() || delete.objects.len() > 1000 {
            return Err(s3_error!(MalformedXML, "a request deletes 1 to 1000 objects"));
        }
        let (of_now, others): (Vec<_>, Vec<_>) =
            delete.objects.iter().partition(|object| check_version(object.version_id.as_deref()).is_ok());
        let mut keys: Vec<&str> = of_now.iter().map(|object| object.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        let cause = traceparent(&req.headers);
        self.buckets.delete(bucket, keys.iter().copied(), cause.as_deref()).await.map_err(wire)?;
        let deleted = |object: &ObjectIdentifier| DeletedObject {
            key: Some(object.key.clone()),
            ..DeletedObject::default()
        };
        let refused = |object: &ObjectIdentifier| Error {
            code: Some("NoSuchVersion".to_owned()),
            key: Some(object.key.clone()),
            message: Some("objects are not versioned".to_owned()),
            version_id: object.version_id.clone(),
        };
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!delete.quiet.unwrap_or(false)).then(|| of_now.into_iter().map(deleted).collect()),
            errors: (!others.is_empty()).then(|| others.into_iter().map(refused).collect()),
            ..DeleteObjectsOutput::default()
        }))
    }
}

/// The object that a copy reads, if the caller may.
pub(super) fn source<T>(req: &S3Request<T>, source: &CopySource, wire: &Wire) -> S3Result<(String, String)> {
    let CopySource::Bucket { bucket, key, version_id } = source else {
        return Err(s3_error!(NotImplemented, "copying from an access point is not supported"));
    };
    check_version(version_id.as_deref())?;
    let Some(principal) = req.extensions.get::<Principal>() else {
        return Err(s3_error!(AccessDenied, "the request is not signed"));
    };
    may_reach(principal, bucket, &wire.buckets)?;
    Ok((bucket.to_string(), key.to_string()))
}
