//! Deleting objects.

use tandem_failpoint::hit;
use tandem_model::event::OBJECT_DELETED;
use tandem_store::{Batch, CommitError};

use super::{
    Buckets,
    error::BucketError,
    put::{Condition, Conflicts, event, expect_object, traceparent},
    store::{body_row, object_row},
};

impl Buckets {
    /// Deletes objects, all in one commit, with one event for each that was there. One that is not there is deleted
    /// already, and makes no event.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], and those of the disk. Nothing was deleted on every error.
    pub async fn delete<'a>(
        &self,
        bucket: &str,
        keys: impl IntoIterator<Item = &'a str> + Clone + Send,
        cause: Option<&str>,
    ) -> Result<(), BucketError> {
        self.delete_if(bucket, keys, &Condition::Always, cause).await
    }

    /// Deletes objects of which each meets the condition.
    ///
    /// # Errors
    /// As for [`delete`](Self::delete), and [`BucketError::Precondition`].
    pub async fn delete_if<'a>(
        &self,
        bucket: &str,
        keys: impl IntoIterator<Item = &'a str> + Clone + Send,
        condition: &Condition,
        cause: Option<&str>,
    ) -> Result<(), BucketError> {
        let traceparent = traceparent(cause);
        let mut conflicts = Conflicts::default();
        loop {
            let source = self.urn(bucket)?.to_string();
            let mut batch = Batch::default();
            // With the events that it makes: a full disk can be emptied by its clients.
            batch.frees();
            let mut deleted = Vec::new();
            let mut enqueued = Vec::new();
            {
                let snapshot = self.store.snapshot()?;
                self.expect_open(&*snapshot, &mut batch, bucket)?;
                for key in keys.clone() {
                    let object = expect_object(&*snapshot, &mut batch, bucket, key)?;
                    if !condition.holds(object.as_ref()) {
                        return Err(BucketError::Precondition);
                    }
                    let Some(object) = object else { continue };
                    batch.delete(object_row(bucket, key)).delete(body_row(bucket, key));
                    let event = event(OBJECT_DELETED, source.clone(), bucket, key, None, traceparent.clone());
                    enqueued.push(self.outbox.enqueue(&mut batch, &event));
                    deleted.push(object);
                }
            }
            if deleted.is_empty() {
                return Ok(());
            }
            match self.outbox.commit(&self.store, batch, enqueued).await {
                Ok(()) => {
                    hit("bucket.delete.committed");
                    self.leases.delete(deleted.iter().flat_map(|object| object.body.blobs())).await;
                    return Ok(());
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
