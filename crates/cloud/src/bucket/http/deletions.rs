//! Deleting objects and versions.

use s3s::{S3Request, S3Response, dto::*, s3_error};

use super::{
    Answer, Wire,
    error::{unsupported, wire},
    input::{condition, traceparent, version},
};
use crate::bucket::{Deleted, Deletion};

/// How many objects a request deletes at most.
const MOST: usize = 1000;

impl Wire {
    pub(super) async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> Answer<DeleteObjectOutput> {
        let input = &req.input;
        unsupported(&[
            ("x-amz-mfa", input.mfa.is_some()),
            ("x-amz-bypass-governance-retention", input.bypass_governance_retention.unwrap_or(false)),
            ("x-amz-if-match-size", input.if_match_size.is_some()),
            ("x-amz-if-match-last-modified-time", input.if_match_last_modified_time.is_some()),
        ])?;
        let deletion = Deletion {
            version: version(input.version_id.as_deref())?,
            condition: condition(input.if_match.as_ref(), None)?,
            ..Deletion::of(&input.key)
        };
        let cause = traceparent(&req.headers);
        let done = self.buckets.delete_each(&input.bucket, &[deletion], cause.as_deref()).await;
        let deleted = done.and_then(|done| done.into_iter().next().unwrap_or(Ok(Deleted::default())));
        let deleted = deleted.map_err(wire)?;
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: deleted.marker.then_some(true),
            version_id: deleted.version.map(|version| version.to_string()),
            ..DeleteObjectOutput::default()
        }))
    }

    pub(super) async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        let DeleteObjectsInput { bucket, delete, mfa, bypass_governance_retention, .. } = &req.input;
        unsupported(&[
            ("x-amz-mfa", mfa.is_some()),
            ("x-amz-bypass-governance-retention", bypass_governance_retention.unwrap_or(false)),
            ("the size of a single deletion", delete.objects.iter().any(|o| o.size.is_some())),
            (
                "the last modified time of a single deletion",
                delete.objects.iter().any(|o| o.last_modified_time.is_some()),
            ),
        ])?;
        if !(1..=MOST).contains(&delete.objects.len()) {
            return Err(s3_error!(MalformedXML, "a request deletes 1 to {MOST} objects"));
        }
        let mut errors = Vec::new();
        let mut fails = |asked: &ObjectIdentifier, error: s3s::S3Error| {
            errors.push(Error {
                code: Some(error.code().as_str().to_owned()),
                key: Some(asked.key.clone()),
                message: error.message().map(str::to_owned),
                version_id: asked.version_id.clone(),
            });
        };
        let mut asked = Vec::with_capacity(delete.objects.len());
        let mut deletions = Vec::with_capacity(delete.objects.len());
        for object in &delete.objects {
            let deletion = version(object.version_id.as_deref()).and_then(|version| {
                let condition = condition_of(object)?;
                Ok(Deletion { version, condition, ..Deletion::of(&object.key) })
            });
            match deletion {
                Ok(deletion) => {
                    asked.push(object);
                    deletions.push(deletion);
                }
                Err(error) => fails(object, error),
            }
        }
        let cause = traceparent(&req.headers);
        let done = self.buckets.delete_each(bucket, &deletions, cause.as_deref()).await.map_err(wire)?;
        let mut deleted = Vec::new();
        for (object, done) in asked.into_iter().zip(done) {
            match done {
                Ok(done) => deleted.push(entry(object, done)),
                Err(error) => fails(object, wire(error)),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!delete.quiet.unwrap_or(false)).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }
}

fn condition_of(object: &ObjectIdentifier) -> s3s::S3Result<crate::bucket::Condition> {
    let given = object.e_tag.as_ref().map(|etag| match etag.value() {
        "*" => ETagCondition::Any,
        _ => ETagCondition::ETag(etag.clone()),
    });
    condition(given.as_ref(), None)
}

fn entry(asked: &ObjectIdentifier, done: Deleted) -> DeletedObject {
    let version = done.version.map(|version| version.to_string());
    DeletedObject {
        key: Some(asked.key.clone()),
        delete_marker: done.marker.then_some(true),
        delete_marker_version_id: version.clone().filter(|_| done.marker),
        version_id: version.filter(|_| asked.version_id.is_some()),
    }
}
