//! Buckets themselves: make, delete, look, list.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};
use tandem_model::{Kind, PhysicalId, Recorded, plan::Change};

use super::{
    Answer, Wire,
    access::caller,
    error::{reported, unsupported, wire},
    input::wire_time,
    listing::owner,
};
use crate::{
    bucket::{BucketError, is_made, made},
    endpoint::REGION,
};

/// S3's limit of a page of buckets.
const PAGE: i32 = 10_000;

impl Wire {
    pub(super) fn find(&self, bucket: &str) -> S3Result<std::sync::Arc<Recorded>> {
        let found = self.buckets.find(bucket);
        found.ok_or_else(|| wire(BucketError::NoSuchBucket { bucket: bucket.to_owned() }))
    }

    /// Makes a bucket of the caller's stack. One that the stack has already is answered as the region us-east-1 does:
    /// as if it had just been made.
    pub(super) async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> Answer<CreateBucketOutput> {
        let stack = caller(&req)?.stack().clone();
        let input = req.input;
        check_makeable(&input)?;
        let bucket = input.bucket;
        let answer = CreateBucketOutput { location: Some(format!("/{bucket}")) };
        // Somebody else may make it between the look and the change; then the second look finds it.
        for _ in 0..2 {
            if let Some(found) = self.buckets.find(&bucket) {
                return match found.urn.stack == stack {
                    true => Ok(S3Response::new(answer)),
                    false => Err(s3_error!(
                        BucketAlreadyExists,
                        "another stack has a bucket `{bucket}`; choose another name"
                    )),
                };
            }
            let urn = made::urn(&stack, &bucket).map_err(wire)?;
            let inputs = [("bucketName".to_owned(), bucket.clone().into())].into_iter().collect();
            match self.target.change(&Change::Create { urn, inputs }).await {
                Ok(()) => return Ok(S3Response::new(answer)),
                Err(_) if self.buckets.find(&bucket).is_some() => {}
                Err(report) => return Err(reported(report)),
            }
        }
        Err(wire(BucketError::Contended))
    }

    pub(super) async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> Answer<DeleteBucketOutput> {
        let found = self.find(&req.input.bucket)?;
        if !is_made(&found.urn) {
            let (urn, bucket) = (found.urn.short(), &req.input.bucket);
            return Err(s3_error!(
                MethodNotAllowed,
                "the program declares the bucket `{bucket}` as {urn}; take it out of the program and run `tandem up`, or \
                 run `tandem destroy`"
            ));
        }
        let (urn, id) = (found.urn.clone(), PhysicalId(req.input.bucket));
        self.target.change(&Change::Delete { urn, id, force: false }).await.map_err(reported)?;
        Ok(S3Response::with_status(DeleteBucketOutput {}, http::StatusCode::NO_CONTENT))
    }

    pub(super) fn head_bucket(&self, req: &S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.find(&req.input.bucket)?;
        let bucket_region = Some(REGION.to_owned());
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
    }

    /// The buckets of the caller's stack, by name.
    pub(super) fn list_buckets(&self, req: &S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        let stack = caller(req)?.stack();
        let input = &req.input;
        let limit = input.max_buckets.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            return Err(s3_error!(InvalidArgument, "max-buckets is 1 to {PAGE}"));
        }
        let after = input.continuation_token.as_ref().map(|token| {
            let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token is not valid"))
        });
        let after = after.transpose()?.unwrap_or_default();
        let prefix = input.prefix.as_deref().unwrap_or_default();
        let elsewhere = input.bucket_region.as_deref().is_some_and(|region| region != REGION);
        let of_stack = self.buckets.resources.list(Some(stack)).into_iter();
        let mut names: Vec<String> = of_stack
            .filter(|r| r.urn.kind == Kind::Bucket && !elsewhere)
            .map(|r| r.id.0.clone())
            .filter(|name| name.starts_with(prefix) && *name > after)
            .collect();
        names.sort_unstable();
        let limit = usize::try_from(limit).unwrap_or_default();
        let more = names.len() > limit;
        names.truncate(limit);
        let next = names.last().filter(|_| more).map(|last| URL_SAFE_NO_PAD.encode(last));
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let created = match self.buckets.created(&name) {
                // Deleted since.
                Err(BucketError::NoSuchBucket { .. }) => continue,
                created => created.map_err(wire)?,
            };
            listed.push(Bucket {
                bucket_region: Some(REGION.to_owned()),
                name: Some(name),
                creation_date: Some(wire_time(created)),
            });
        }
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(listed),
            continuation_token: next,
            owner: Some(owner()),
            prefix: req.input.prefix.clone(),
        }))
    }
}

/// Refuses what a request to make a bucket asks beyond what buckets are.
fn check_makeable(input: &CreateBucketInput) -> S3Result<()> {
    let acl = input.acl.as_ref().map(|acl| acl.as_str());
    let ownership = input.object_ownership.as_ref().map(|ownership| ownership.as_str());
    unsupported(&[
        ("an ACL other than `private`", !matches!(acl, None | Some("private"))),
        (
            "x-amz-grant-…",
            input.grant_full_control.is_some()
                || input.grant_read.is_some()
                || input.grant_read_acp.is_some()
                || input.grant_write.is_some()
                || input.grant_write_acp.is_some(),
        ),
        ("x-amz-bucket-object-lock-enabled", input.object_lock_enabled_for_bucket == Some(true)),
        (
            "an object ownership other than `BucketOwnerEnforced`",
            !matches!(ownership, None | Some(ObjectOwnership::BUCKET_OWNER_ENFORCED)),
        ),
    ])?;
    let Some(configuration) = &input.create_bucket_configuration else { return Ok(()) };
    unsupported(&[(
        "a bucket for one zone",
        configuration.bucket.is_some() || configuration.location.is_some(),
    )])?;
    match configuration.location_constraint.as_ref().map(|region| region.as_str()) {
        None | Some("" | REGION) => Ok(()),
        Some(other) => {
            Err(s3_error!(InvalidLocationConstraint, "there is no region `{other}` here, only `{REGION}`"))
        }
    }
}
