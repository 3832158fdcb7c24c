//! Amazon S3's protocol over [`Buckets`](super::Buckets), by `s3s`, which parses, verifies signatures and writes XML.
//!
//! What is not supported is answered `NotImplemented` by its name, never ignored. Buckets come and go with the program
//! that declares them, so creating and deleting them here is refused.
//!
//! Source: Amazon S3 API reference.

mod access;
mod error;
mod input;
mod listing;
mod objects;
mod uploads;

use std::sync::Arc;

use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::*,
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};

use super::Buckets;
use crate::credential::Credentials;

/// The service that answers S3 requests.
pub fn service(buckets: Arc<Buckets>, credentials: Arc<Credentials>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Wire { buckets: buckets.clone() });
    builder.set_auth(access::Keys(credentials.clone()));
    builder.set_access(access::Stacks { credentials, buckets });
    builder.build()
}

/// Translates between S3's requests and [`Buckets`].
struct Wire {
    buckets: Arc<Buckets>,
}

type Answer<T> = S3Result<S3Response<T>>;

const DECLARE: &str = "buckets are declared in the program: `new cloud.Bucket(…)`, then `tandem up`; `tandem destroy`, or \
                       an `up` without it, deletes one";

#[async_trait::async_trait]
impl S3 for Wire {
    async fn create_bucket(&self, _: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        Err(s3_error!(MethodNotAllowed, "{DECLARE}"))
    }

    async fn delete_bucket(&self, _: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
        Err(s3_error!(MethodNotAllowed, "{DECLARE}"))
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
        self.find(&req.input.bucket)?;
        // Nothing stands for never enabled.
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
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
        self.head_object(req.input)
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.get_object(req.input).await
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> Answer<GetObjectTaggingOutput> {
        // Putting tags is refused, so there are none.
        self.buckets.head(&req.input.bucket, &req.input.key).map_err(error::wire)?;
        Ok(S3Response::new(GetObjectTaggingOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        self.put_object(req).await
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> Answer<CopyObjectOutput> {
        self.copy_object(req).await
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
        self.begin_upload(req).await
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
        self.complete_upload(req).await
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
}
