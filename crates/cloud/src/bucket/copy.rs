//! Copying objects.

use std::ops::Range;

use super::{
    Buckets,
    checksum::Algorithm,
    error::BucketError,
    put::{Condition, Means, PutOptions},
    receive::Claims,
    store::{Description, Object},
    tags::Tags,
    version::VersionId,
};

/// What is copied.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    pub version: Option<VersionId>,
}

/// What the copy gets instead of what the source has.
#[derive(Debug, Clone, Default)]
pub struct Replaced {
    pub description: Option<Description>,
    pub tags: Option<Tags>,
    pub algorithm: Option<Algorithm>,
}

impl Buckets {
    /// Copies an object's bytes to another key, and answers the copy and the version that was copied. The copy is one
    /// body, also of a source that was uploaded in parts, so its ETag may differ.
    ///
    /// # Errors
    /// Those of reading the source and of putting the copy, and those of `judge`, which decides over the source.
    pub async fn copy(
        &self,
        from: Source<'_>,
        to: (&str, &str),
        replaced: Replaced,
        condition: Condition,
        traceparent: Option<String>,
        judge: impl Fn(&Object) -> Result<(), BucketError> + Send + Sync,
    ) -> Result<(Object, Option<VersionId>), BucketError> {
        let whole = |object: &Object| -> Result<Range<u64>, BucketError> {
            judge(object)?;
            Ok(0..object.size)
        };
        let source = self.get_range(from.bucket, from.key, from.version, whole).await?;
        let Object { size, checksum, description, tags, .. } = source.object;
        let claims = Claims { length: Some(size), ..Claims::default() };
        let options = PutOptions {
            means: Means::Copy,
            description: replaced.description.unwrap_or(description),
            tags: replaced.tags.unwrap_or(tags),
            condition,
            traceparent,
        };
        let algorithm = replaced.algorithm.unwrap_or(checksum.algorithm);
        let copy = self.put_checked(to.0, to.1, source.body, &[algorithm], || Ok(claims), &options).await?;
        Ok((copy, source.version))
    }
}
