//! Tags of objects.

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{Answer, Wire, error::wire, input::version};
use crate::bucket::{BucketError, Tags};

/// The tags of the header `x-amz-tagging`.
pub(super) fn of_header(header: Option<&str>) -> S3Result<Tags> {
    Tags::of_header(header.unwrap_or_default()).map_err(wire)
}

impl Wire {
    pub(super) fn object_tags(&self, input: &GetObjectTaggingInput) -> Answer<GetObjectTaggingOutput> {
        let asked = version(input.version_id.as_deref())?;
        let seen = self.buckets.head_version(&input.bucket, &input.key, asked).map_err(wire)?;
        let tag =
            |(name, value): (&str, &str)| Tag { key: Some(name.to_owned()), value: Some(value.to_owned()) };
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set: seen.object.tags.iter().map(tag).collect(),
            version_id: seen.version.map(|version| version.to_string()),
        }))
    }

    pub(super) async fn put_object_tags(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> Answer<PutObjectTaggingOutput> {
        let PutObjectTaggingInput { bucket, key, tagging, version_id, .. } = req.input;
        let asked = version(version_id.as_deref())?;
        let tag = |tag: Tag| match (tag.key, tag.value) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(s3_error!(MalformedXML, "a tag has a Key and a Value")),
        };
        let given: Vec<(String, String)> = tagging.tag_set.into_iter().map(tag).collect::<S3Result<_>>()?;
        let tags = Tags::new(given).map_err(wire)?;
        let version_id = self.tag(&bucket, &key, asked, &tags).await?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
    }

    pub(super) async fn delete_object_tags(
        &self,
        input: &DeleteObjectTaggingInput,
    ) -> Answer<DeleteObjectTaggingOutput> {
        let asked = version(input.version_id.as_deref())?;
        let version_id = self.tag(&input.bucket, &input.key, asked, &Tags::default()).await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
    }

    async fn tag(
        &self,
        bucket: &str,
        key: &str,
        version: Option<crate::bucket::VersionId>,
        tags: &Tags,
    ) -> S3Result<Option<String>> {
        let told: Result<_, BucketError> = self.buckets.put_tags(bucket, key, version, tags).await;
        Ok(told.map_err(wire)?.map(|version| version.to_string()))
    }
}
