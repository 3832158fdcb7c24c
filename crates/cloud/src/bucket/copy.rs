//! Copying objects.

use std::ops::Range;

use super::{
    Buckets,
    checksum::Algorithm,
    error::BucketError,
    put::PutOptions,
    receive::Claims,
    store::{Description, Object},
};

impl Buckets {
    /// Copies an object's bytes to another key. `description` replaces the source's if it is given. The copy is one
    /// body, also of a source that was uploaded in parts, so its ETag may differ.
    ///
    /// # Errors
    /// Those of reading the source and of putting the copy, and those of `judge`, which decides over the source.
    pub async fn copy(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        description: Option<Description>,
        algorithm: Option<Algorithm>,
        traceparent: Option<String>,
        judge: impl Fn(&Object) -> Result<(), BucketError> + Send + Sync,
    ) -> Result<Object, BucketError> {
        let whole = |object: &Object| -> Result<Range<u64>, BucketError> {
            judge(object)?;
            Ok(0..object.size)
        };
        let source = self.get_range(from.0, from.1, whole).await?;
        let description = description.unwrap_or_else(|| source.object.description.clone());
        let algorithm = algorithm.unwrap_or(source.object.checksum.algorithm);
        let claims = Claims { length: Some(source.object.size), ..Claims::default() };
        let options = PutOptions { description, traceparent, ..PutOptions::default() };
        self.put_checked(to.0, to.1, source.body, &[algorithm], || Ok(claims), &options).await
    }
}
