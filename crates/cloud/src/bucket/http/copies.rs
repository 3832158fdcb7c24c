//! Copying objects.

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    Answer, Wire,
    access::may_reach,
    error::{unsupported, wire},
    input::{
        ReadConditions, algorithm, checksum_type, condition, description, etag, etag_condition, traceparent,
        version, version_told, wire_time, with_checksum,
    },
    objects::check_supported,
    tagging::of_header,
};
use crate::{
    bucket::{BucketError, Object, Replaced, Source, VersionId},
    credential::Principal,
};

impl Wire {
    pub(super) async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let input = &req.input;
        check_supported!(req.input)?;
        unsupported(&[(
            "x-amz-copy-source-server-side-encryption-customer-…",
            input.copy_source_sse_customer_algorithm.is_some(),
        )])?;
        let source = self.source(&req, &input.copy_source)?;
        let replace =
            replaces("metadata", input.metadata_directive.as_ref().map(|directive| directive.as_str()))?;
        let replace_tags =
            replaces("tagging", input.tagging_directive.as_ref().map(|directive| directive.as_str()))?;
        let itself = source.bucket == input.bucket && source.key == input.key && source.version.is_none();
        if !replace && itself {
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
        let replaced = Replaced {
            description: if replace { Some(description!(*input)?) } else { None },
            tags: replace_tags.then(|| of_header(input.tagging.as_deref())).transpose()?,
            algorithm: algorithm(input.checksum_algorithm.as_ref())?,
        };
        // Of the destination; the input of `s3s` does not have them yet.
        let if_match = etag_condition(&req.headers, "if-match")?;
        let if_none_match = etag_condition(&req.headers, "if-none-match")?;
        let condition = condition(if_match.as_ref(), if_none_match.as_ref())?;
        let judge = |object: &Object| conditions.judge(&object.etag, object.modified);
        let to = (&*input.bucket, &*input.key);
        let cause = traceparent(&req.headers);
        let copied = self.buckets.copy(source, to, replaced, condition, cause, judge).await;
        let (object, from) = copied.map_err(|error| of_source(source.version, error))?;
        let mut result = CopyObjectResult {
            e_tag: Some(etag(&object.etag)),
            last_modified: Some(wire_time(object.modified)),
            checksum_type: Some(checksum_type(&object.checksum)),
            ..CopyObjectResult::default()
        };
        with_checksum!(result, &object.checksum);
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            copy_source_version_id: from.map(|version| version.to_string()),
            version_id: version_told(object.version),
            ..CopyObjectOutput::default()
        }))
    }

    /// The object that a copy reads, if the caller may.
    pub(super) fn source<'a, T>(&self, req: &S3Request<T>, source: &'a CopySource) -> S3Result<Source<'a>> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "copying from an access point is not supported"));
        };
        let Some(principal) = req.extensions.get::<Principal>() else {
            return Err(s3_error!(AccessDenied, "the request is not signed"));
        };
        may_reach(principal, bucket, &self.buckets)?;
        Ok(Source { bucket, key, version: version(version_id.as_deref())? })
    }
}

/// A delete marker can be named as a source, and is none.
pub(super) fn of_source(asked: Option<VersionId>, error: BucketError) -> s3s::S3Error {
    match error {
        BucketError::IsMarker { version, .. } if asked == Some(version) => {
            s3_error!(InvalidRequest, "the version `{version}` is a delete marker, which cannot be copied")
        }
        error => wire(error),
    }
}

/// Whether a directive asks to replace what the source has.
fn replaces(what: &str, directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(other) => {
            Err(s3_error!(InvalidArgument, "`{other}` is not a {what} directive: COPY or REPLACE"))
        }
    }
}
