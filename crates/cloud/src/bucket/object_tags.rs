//! Reading and changing an object's tags. One commit writes its record anew, under the precondition that it is as it was
//! read; the body, the ETag and the time of the last change stay. It is no event.

use tandem_failpoint::hit;
use tandem_store::CommitError;

use super::{
    Buckets,
    change::Change,
    error::BucketError,
    put::Conflicts,
    store::Version,
    tags::Tags,
    version::{VersionId, Versioning},
};

impl Buckets {
    /// Replaces the tags of a version, of the current one if none is named. Answers what clients are told of the version.
    ///
    /// # Errors
    /// As for [`head_version`](Self::head_version), and those of the disk.
    pub async fn put_tags(
        &self,
        bucket: &str,
        key: &str,
        version: Option<VersionId>,
        tags: &Tags,
    ) -> Result<Option<VersionId>, BucketError> {
        self.require(bucket)?;
        let mut conflicts = Conflicts::default();
        loop {
            let mut change = Change::new(self.store.snapshot()?);
            let versioning = change.open(bucket)?;
            let told = change.tag(bucket, key, version, versioning, tags)?;
            let batch = change.batch;
            match self.store.commit(batch).await {
                Ok(()) => {
                    hit("bucket.tags.committed");
                    return Ok(told);
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Change {
    fn tag(
        &mut self,
        bucket: &str,
        key: &str,
        version: Option<VersionId>,
        versioning: Versioning,
        tags: &Tags,
    ) -> Result<Option<VersionId>, BucketError> {
        let current = self.current(bucket, key, versioning)?;
        let current_id = current.as_ref().map(Version::version_id);
        let found = match version {
            Some(id) if current_id != Some(id) => self
                .version(bucket, key, versioning, id)?
                .ok_or_else(|| BucketError::NoSuchVersion { key: key.to_owned(), version: id })?,
            _ => current
                .ok_or_else(|| BucketError::NoSuchKey { bucket: bucket.to_owned(), key: key.to_owned() })?,
        };
        let id = found.version_id();
        match found {
            Version::Marker(_) if version.is_none() => {
                Err(BucketError::Deleted { bucket: bucket.to_owned(), key: key.to_owned(), version: id })
            }
            Version::Marker(marker) => {
                Err(BucketError::IsMarker { key: key.to_owned(), version: id, modified: marker.modified })
            }
            Version::Object(mut object) => {
                object.tags = tags.clone();
                self.rewrite(bucket, key, current_id == Some(id), &Version::Object(object));
                Ok((versioning != Versioning::Never).then_some(id))
            }
        }
    }
}
