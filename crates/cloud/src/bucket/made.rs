//! Buckets that clients make over S3, and when any bucket was made.
//!
//! Such a bucket is a resource like one that a program declares, of the stack of whoever made it: the target commits and
//! deletes it, with the same steps and the same gaps. It only has no line in a program. Its resource is called
//! `s3.<bucket>`, a name that programs cannot declare for a bucket, so the two never meet; `tandem destroy` asks for
//! what [clients made](is_made) and deletes it with the rest.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{Kind, StackId, Urn};

use super::{Buckets, error::BucketError, settings::Setting};

const PREFIX: &str = "s3.";

/// When a bucket was made. Written by the commit that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Created {
    pub(super) time: Timestamp,
}

impl Setting for Created {
    const NAME: &'static str = "created";
}

/// Whether a client made the bucket, so that no program declares it.
pub fn is_made(bucket: &Urn) -> bool {
    bucket.kind == Kind::Bucket && bucket.name.as_str().starts_with(PREFIX)
}

/// What a bucket that a client makes is called as a resource.
pub(super) fn urn(stack: &StackId, bucket: &str) -> Result<Urn, BucketError> {
    let name = format!("{PREFIX}{bucket}").parse();
    let name = name.map_err(|_| BucketError::BucketName { bucket: bucket.to_owned() })?;
    Ok(Urn::new(stack.clone(), Kind::Bucket, name))
}

impl Buckets {
    /// # Errors
    /// [`BucketError::NoSuchBucket`].
    pub(super) fn created(&self, bucket: &str) -> Result<Timestamp, BucketError> {
        // The start gives a date to a bucket of a time when none was kept.
        Ok(self.setting::<Created>(bucket)?.map_or(Timestamp::UNIX_EPOCH, |created| created.time))
    }
}
