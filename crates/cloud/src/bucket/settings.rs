//! What a bucket is set to: when it was made, its tags, its CORS rules, its lifecycle, its notifications.
//! One row `setting/<bucket>/<name>` each.
//!
//! Who owns it: each [`Setting`] is written by the module that declares it, through here. One commit makes a setting
//! true, under the precondition that the bucket is open. The commit that deletes a bucket deletes its settings, so a
//! deletion that was cut off leaves them as they were, and none outlives its bucket.
//!
//! A change that depends on a setting reads it with [`expect_setting`], and so commits only while it is what was read.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tandem_failpoint::hit;
use tandem_store::{Batch, CommitError, Snapshot};

use super::{
    Buckets,
    error::BucketError,
    put::Conflicts,
    store::{decode, encode, table},
};

/// One thing that a bucket can be set to; kept as JSON.
pub(super) trait Setting: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its row's last part. Lower-case letters; never changed.
    const NAME: &'static str;
}

pub(super) fn setting_row<T: Setting>(bucket: &str) -> Bytes {
    format!("{}{}", table("setting", bucket), T::NAME).into()
}

/// The setting as the snapshot has it; `None` if it was never put, or deleted.
pub(super) fn setting<T: Setting>(snapshot: &dyn Snapshot, bucket: &str) -> Result<Option<T>, BucketError> {
    snapshot.get(&setting_row::<T>(bucket))?.as_deref().map(decode).transpose()
}

/// As [`setting`], and the batch then requires that it is still so when it commits.
pub(super) fn expect_setting<T: Setting>(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    bucket: &str,
) -> Result<Option<T>, BucketError> {
    let row = snapshot.get(&setting_row::<T>(bucket))?;
    let setting = row.as_deref().map(decode).transpose()?;
    batch.expect(setting_row::<T>(bucket), row);
    Ok(setting)
}

/// Adds the deletion of all settings of a bucket.
pub(super) fn delete_settings(
    snapshot: &dyn Snapshot,
    batch: &mut Batch,
    bucket: &str,
) -> Result<(), BucketError> {
    for entry in snapshot.prefix(table("setting", bucket).as_bytes())? {
        batch.delete(entry?.0);
    }
    Ok(())
}

impl Buckets {
    /// # Errors
    /// [`BucketError::NoSuchBucket`].
    pub(super) fn setting<T: Setting>(&self, bucket: &str) -> Result<Option<T>, BucketError> {
        self.require(bucket)?;
        setting(&*self.store.snapshot()?, bucket)
    }

    /// As [`setting`](Self::setting), for what every request asks: read once, and again after a change.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`].
    pub(super) fn known_setting<T: Setting>(&self, bucket: &str) -> Result<Option<Arc<T>>, BucketError> {
        self.require(bucket)?;
        self.known.get(&*self.store, bucket)
    }

    /// Sets; on disk when it returns. What was set before under the name is replaced as a whole.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], also while the bucket is being deleted, and those of the disk.
    pub(super) async fn put_setting<T: Setting>(&self, bucket: &str, value: &T) -> Result<(), BucketError> {
        self.change_setting::<T>(bucket, Some(encode(value))).await
    }

    /// Takes the setting back; doing so again is harmless.
    ///
    /// # Errors
    /// As [`put_setting`](Self::put_setting).
    pub(super) async fn delete_setting<T: Setting>(&self, bucket: &str) -> Result<(), BucketError> {
        self.change_setting::<T>(bucket, None).await
    }

    async fn change_setting<T: Setting>(
        &self,
        bucket: &str,
        value: Option<Bytes>,
    ) -> Result<(), BucketError> {
        self.require(bucket)?;
        let mut conflicts = Conflicts::default();
        loop {
            let mut batch = Batch::default();
            self.expect_open(&*self.store.snapshot()?, &mut batch, bucket)?;
            match &value {
                Some(value) => batch.put(setting_row::<T>(bucket), value.clone()),
                None => batch.delete(setting_row::<T>(bucket)),
            };
            match self.store.commit(batch).await {
                Ok(()) => {
                    self.known.forget(bucket);
                    hit("bucket.setting.committed");
                    return Ok(());
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{
        super::tests::{BUCKET, Fixture},
        *,
    };

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Colour(String);

    impl Setting for Colour {
        const NAME: &'static str = "colour";
    }

    #[tokio::test]
    async fn a_setting_is_kept_replaced_taken_back_and_goes_with_its_bucket() {
        let f = Fixture::new().await;
        assert_eq!(f.buckets.setting::<Colour>(BUCKET).unwrap(), None);
        f.buckets.put_setting(BUCKET, &Colour("red".into())).await.unwrap();
        f.buckets.put_setting(BUCKET, &Colour("blue".into())).await.unwrap();
        assert_eq!(f.buckets.setting(BUCKET).unwrap(), Some(Colour("blue".into())));
        assert_eq!(f.buckets.known_setting(BUCKET).unwrap(), Some(Arc::new(Colour("blue".into()))));
        f.buckets.delete_setting::<Colour>(BUCKET).await.unwrap();
        assert_eq!(f.buckets.known_setting::<Colour>(BUCKET).unwrap(), None);
        assert_eq!(f.buckets.setting::<Colour>(BUCKET).unwrap(), None);

        f.buckets.put_setting(BUCKET, &Colour("red".into())).await.unwrap();
        f.delete_bucket(BUCKET, false).await.unwrap();
        assert_eq!(f.store.snapshot().unwrap().prefix(b"setting/").unwrap().count(), 0);
        let gone = f.buckets.put_setting(BUCKET, &Colour("red".into())).await;
        assert!(matches!(gone, Err(BucketError::NoSuchBucket { .. })));
    }

    #[tokio::test]
    async fn a_change_that_depends_on_a_setting_fails_once_it_is_another() {
        let f = Fixture::new().await;
        let mut batch = Batch::default();
        let now: Option<Colour> = expect_setting(&*f.store.snapshot().unwrap(), &mut batch, BUCKET).unwrap();
        assert_eq!(now, None);
        f.buckets.put_setting(BUCKET, &Colour("red".into())).await.unwrap();
        assert!(matches!(f.store.commit(batch).await, Err(CommitError::Conflict { .. })));
    }
}
