//! Amazon S3's protocol over [`Buckets`](super::Buckets), by `s3s`, which parses, verifies signatures and writes XML.
//!
//! What is not supported is answered `NotImplemented` by its name, never ignored. A bucket that a program declares comes
//! and goes with it, so deleting it here is refused; buckets of their own clients make and delete as they like.
//!
//! Source: Amazon S3 API reference.

mod absent;
mod access;
mod attributes;
mod buckets;
mod configuration;
mod copies;
mod cors;
mod deletions;
mod error;
mod form;
mod front;
mod input;
mod lifecycle;
mod listing;
mod notifications;
mod objects;
mod refusal;
mod tagging;
mod uploads;
mod versions;

use std::{future::Future, pin::Pin, sync::Arc};

use http::StatusCode;
use s3s::{
    S3, S3ErrorCode, S3Request, S3Response, S3Result,
    config::{S3Config, StaticConfigProvider},
    dto::*,
    service::S3ServiceBuilder,
};

use super::Buckets;
use super::lifecycle::Lifecycle;
use crate::{credential::Credentials, gateway::AnswersS3, target::CloudTarget};
use absent::{absent, empty_list, of_any_bucket};
use configuration::{code, not_configured};

/// The service that answers S3 requests.
pub fn service(
    buckets: Arc<Buckets>,
    credentials: Arc<Credentials>,
    target: Arc<CloudTarget>,
) -> Arc<dyn AnswersS3> {
    let mut builder = S3ServiceBuilder::new(Wire { buckets: buckets.clone(), target });
    builder.set_auth(access::Keys(credentials.clone()));
    builder.set_access(access::Stacks { credentials: credentials.clone(), buckets: buckets.clone() });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits()))));
    Arc::new(front::Front { s3: builder.build(), buckets, credentials })
}

/// The largest document that is read: that of a multipart upload of 10,000 parts with the longest checksums.
const XML_LIMIT: usize = 4 << 20;

fn limits() -> S3Config {
    let mut limits = S3Config::default();
    limits.xml_max_body_size = XML_LIMIT;
    // Forms are not left to `s3s`.
    limits.post_object_max_file_size = 0;
    limits
}

/// Translates between S3's requests and [`Buckets`].
struct Wire {
    buckets: Arc<Buckets>,
    /// Makes and deletes buckets.
    target: Arc<CloudTarget>,
}

type Answer<T> = S3Result<S3Response<T>>;

/// What deletions answer.
fn deleted<T>(output: T) -> Answer<T> {
    Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
}

#[async_trait::async_trait]
impl S3 for Wire {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.create_bucket(req).await
    }

    async fn delete_bucket(&self, req: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        self.delete_bucket(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
        self.head_bucket(&req)
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> Answer<GetBucketLocationOutput> {
        self.find(&req.input.bucket)?;
        // Nothing stands for us-east-1.
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> Answer<GetBucketVersioningOutput> {
        self.get_versioning(&req.input.bucket)
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> Answer<PutBucketVersioningOutput> {
        self.put_versioning(req).await
    }

    async fn list_object_versions(
        &self,
        req: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        self.list_versions(req.input)
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
        self.list_buckets(&req)
    }

    async fn list_objects(&self, req: S3Request<ListObjectsInput>) -> Answer<ListObjectsOutput> {
        self.list_objects(req.input)
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> Answer<ListObjectsV2Output> {
        self.list_objects_v2(req.input)
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let is_of_current = req.input.version_id.is_none();
        let mut answer = self.head_object(req.input)?;
        if is_of_current {
            answer.output.expiration = self.expiration(&bucket, &key);
        }
        Ok(answer)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let is_of_current = req.input.version_id.is_none();
        let mut answer = self.get_object(req.input).await?;
        if is_of_current {
            answer.output.expiration = self.expiration(&bucket, &key);
        }
        Ok(answer)
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        self.object_tags(&req.input)
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> Answer<PutObjectTaggingOutput> {
        self.put_object_tags(req).await
    }

    async fn delete_object_tagging(
        &self,
        req: S3Request<DeleteObjectTaggingInput>,
    ) -> Answer<DeleteObjectTaggingOutput> {
        self.delete_object_tags(&req.input).await
    }

    async fn get_object_attributes(
        &self,
        req: S3Request<GetObjectAttributesInput>,
    ) -> Answer<GetObjectAttributesOutput> {
        self.attributes(&req.input)
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let mut answer = self.put_object(req).await?;
        answer.output.expiration = self.expiration(&bucket, &key);
        Ok(answer)
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let mut answer = self.copy_object(req).await?;
        answer.output.expiration = self.expiration(&bucket, &key);
        Ok(answer)
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.delete_object(req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
        self.delete_objects(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let mut answer = self.begin_upload(req).await?;
        if let Some((date, rule)) = self.abortion(&bucket, &key) {
            answer.output.abort_date = Some(date);
            answer.output.abort_rule_id = Some(rule);
        }
        Ok(answer)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.upload_part(req).await
    }

    async fn upload_part_copy(&self, req: S3Request<UploadPartCopyInput>) -> Answer<UploadPartCopyOutput> {
        self.upload_part_copy(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let mut answer = self.complete_upload(req).await?;
        answer.output.expiration = self.expiration(&bucket, &key);
        Ok(answer)
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let AbortMultipartUploadInput { bucket, key, upload_id, .. } = req.input;
        self.buckets.abort_upload(&bucket, &key, &upload_id).await.map_err(error::wire)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.list_parts(req.input)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> Answer<ListMultipartUploadsOutput> {
        self.list_uploads(req.input)
    }

    async fn put_bucket_tagging(
        &self,
        req: S3Request<PutBucketTaggingInput>,
    ) -> Answer<PutBucketTaggingOutput> {
        self.put_tags(req.input).await
    }

    async fn get_bucket_tagging(
        &self,
        req: S3Request<GetBucketTaggingInput>,
    ) -> Answer<GetBucketTaggingOutput> {
        self.get_tags(&req.input)
    }

    async fn delete_bucket_tagging(
        &self,
        req: S3Request<DeleteBucketTaggingInput>,
    ) -> Answer<DeleteBucketTaggingOutput> {
        self.buckets
            .delete_setting::<super::tagging::BucketTags>(&req.input.bucket)
            .await
            .map_err(error::wire)?;
        deleted(DeleteBucketTaggingOutput {})
    }

    async fn put_bucket_cors(&self, req: S3Request<PutBucketCorsInput>) -> Answer<PutBucketCorsOutput> {
        self.put_cors(req.input).await
    }

    async fn get_bucket_cors(&self, req: S3Request<GetBucketCorsInput>) -> Answer<GetBucketCorsOutput> {
        self.get_cors(&req.input)
    }

    async fn delete_bucket_cors(
        &self,
        req: S3Request<DeleteBucketCorsInput>,
    ) -> Answer<DeleteBucketCorsOutput> {
        self.buckets.delete_setting::<super::cors::Cors>(&req.input.bucket).await.map_err(error::wire)?;
        deleted(DeleteBucketCorsOutput {})
    }

    async fn put_bucket_notification_configuration(
        &self,
        req: S3Request<PutBucketNotificationConfigurationInput>,
    ) -> Answer<PutBucketNotificationConfigurationOutput> {
        self.put_notifications(req).await
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        req: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> Answer<PutBucketLifecycleConfigurationOutput> {
        self.put_lifecycle(req.input).await
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        req: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> Answer<GetBucketLifecycleConfigurationOutput> {
        self.get_lifecycle(&req.input)
    }

    async fn delete_bucket_lifecycle(
        &self,
        req: S3Request<DeleteBucketLifecycleInput>,
    ) -> Answer<DeleteBucketLifecycleOutput> {
        self.buckets.delete_setting::<Lifecycle>(&req.input.bucket).await.map_err(error::wire)?;
        deleted(DeleteBucketLifecycleOutput {})
    }

    async fn get_bucket_acl(&self, req: S3Request<GetBucketAclInput>) -> Answer<GetBucketAclOutput> {
        self.acl_of_bucket(&req.input)
    }

    async fn put_bucket_acl(&self, req: S3Request<PutBucketAclInput>) -> Answer<PutBucketAclOutput> {
        self.put_acl_of_bucket(&req.input)
    }

    async fn get_object_acl(&self, req: S3Request<GetObjectAclInput>) -> Answer<GetObjectAclOutput> {
        self.acl_of_object(&req.input)
    }

    async fn put_object_acl(&self, req: S3Request<PutObjectAclInput>) -> Answer<PutObjectAclOutput> {
        self.put_acl_of_object(&req.input)
    }

    async fn get_bucket_notification_configuration(
        &self,
        req: S3Request<GetBucketNotificationConfigurationInput>,
    ) -> Answer<GetBucketNotificationConfigurationOutput> {
        self.get_notifications(&req.input)
    }

    async fn get_bucket_request_payment(
        &self,
        req: S3Request<GetBucketRequestPaymentInput>,
    ) -> Answer<GetBucketRequestPaymentOutput> {
        self.find(&req.input.bucket)?;
        let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
        Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
    }

    absent!();
}
