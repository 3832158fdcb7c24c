//! Deleting objects, and versions of them.
//!
//! Deleting an object of a versioned bucket makes a delete marker its current version, and loses nothing. Deleting a
//! version by its id is for good. Both happen in one commit with their events: one says of each object or version that
//! went, and of each marker that was made. That a marker goes is no event, because no object does.

use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::event::ObjectData;
use tandem_store::CommitError;

use super::{
    Buckets,
    announce::{Happened, Happening, traceparent},
    change::Change,
    error::BucketError,
    put::{Condition, Conflicts},
    store::{Marker, Version, encode, marker_row},
    version::{VersionId, Versioning},
};

/// What to delete.
#[derive(Debug, Clone)]
pub struct Deletion<'a> {
    pub key: &'a str,
    /// For good, this version. Without, the object.
    pub version: Option<VersionId>,
    /// What must be true of the version, or of the current one.
    pub condition: Condition,
    pub only: Only,
    /// A rule of the bucket's lifecycle deletes it, not a client.
    pub expired: bool,
}

/// When a version is deleted at all: what expires it looked at it some time before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Only {
    #[default]
    Always,
    /// While it is not the current one.
    Replaced,
    /// While there is no other, as for a delete marker of which everything else has gone.
    Alone,
}

impl<'a> Deletion<'a> {
    pub fn of(key: &'a str) -> Self {
        Self { key, version: None, condition: Condition::Always, only: Only::Always, expired: false }
    }

    pub fn of_version(key: &'a str, version: VersionId) -> Self {
        Self { version: Some(version), ..Self::of(key) }
    }
}

/// What a deletion did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version that is gone, or the marker that was made.
    pub version: Option<VersionId>,
    /// Whether that is a delete marker.
    pub marker: bool,
}

/// What goes into an event.
struct Removed<'a> {
    key: &'a str,
    deleted: Deleted,
    expired: bool,
}

impl Buckets {
    /// Deletes objects, all in one commit, with one event for each that was there. One that is not there is deleted
    /// already, and makes no event, unless the bucket is versioned: a delete marker is made of any key.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], and those of the disk. Nothing was deleted on every error.
    pub async fn delete<'a>(
        &self,
        bucket: &str,
        keys: impl IntoIterator<Item = &'a str> + Send,
        cause: Option<&str>,
    ) -> Result<(), BucketError> {
        let deletions: Vec<Deletion<'a>> = keys.into_iter().map(Deletion::of).collect();
        self.delete_each(bucket, &deletions, cause).await.map(|_| ())
    }

    /// Deletes objects and versions, in the order given and all in one commit, and answers for each what was done. A
    /// version that is not there is deleted already.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], and those of the disk: nothing was deleted. For one of them
    /// [`BucketError::Precondition`]: this one was not, the others were.
    pub async fn delete_each<'a>(
        &self,
        bucket: &str,
        deletions: &[Deletion<'a>],
        cause: Option<&str>,
    ) -> Result<Vec<Result<Deleted, BucketError>>, BucketError> {
        let traceparent = traceparent(cause);
        let mut conflicts = Conflicts::default();
        loop {
            let source = self.urn(bucket)?;
            let mut change = Change::new(self.store.snapshot()?);
            let versioning = change.open(bucket)?;
            let time = Timestamp::now();
            let mut done = Vec::with_capacity(deletions.len());
            let mut removed: Vec<Removed<'a>> = Vec::new();
            for deletion in deletions {
                done.push(change.delete_one(bucket, deletion, versioning, time, &mut removed)?);
            }
            let notifications = change.notifications(bucket)?;
            let Change { mut batch, gone, .. } = change;
            if batch.writes.is_empty() {
                return Ok(done);
            }
            if versioning == Versioning::Never || deletions.iter().any(|deletion| deletion.version.is_some())
            {
                // With the events that it makes: a full disk can be emptied by its clients. A delete marker frees nothing.
                batch.frees();
            }
            let mut enqueued = Vec::with_capacity(removed.len());
            for Removed { key, deleted, expired } in removed {
                let data = ObjectData {
                    bucket: bucket.to_owned(),
                    key: key.to_owned(),
                    size: 0,
                    etag: None,
                    event_time: time,
                    version_id: deleted.version.map(|version| version.to_string()),
                    delete_marker: deleted.marker,
                };
                let what = Happening::Removed { expired, marker: deleted.marker };
                let happened = Happened { source: &source, traceparent: &traceparent, what, data };
                enqueued.extend(self.announce(&mut batch, &notifications, happened));
            }
            match self.outbox.commit(&self.store, batch, enqueued).await {
                Ok(()) => {
                    hit("bucket.delete.committed");
                    self.leases.delete(gone).await;
                    return Ok(done);
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Change {
    fn allows(
        &mut self,
        bucket: &str,
        deletion: &Deletion<'_>,
        versioning: Versioning,
    ) -> Result<bool, BucketError> {
        let Deletion { key, version, only, .. } = deletion;
        if *only == Only::Always {
            return Ok(true);
        }
        let current = self.current(bucket, key, versioning)?.map(|current| current.version_id());
        Ok(match only {
            Only::Always => true,
            Only::Replaced => current != *version,
            // One that comes to it meanwhile is the current one, and so a conflict.
            Only::Alone => current == *version && !self.has_replaced(bucket, key)?,
        })
    }

    fn delete_one<'a>(
        &mut self,
        bucket: &str,
        deletion: &Deletion<'a>,
        versioning: Versioning,
        time: Timestamp,
        removed: &mut Vec<Removed<'a>>,
    ) -> Result<Result<Deleted, BucketError>, BucketError> {
        let Deletion { key, expired, .. } = *deletion;
        let now = match deletion.version {
            _ if deletion.condition == Condition::Always && deletion.version.is_some() => None,
            None => self.current(bucket, key, versioning)?,
            Some(id) => self.version(bucket, key, versioning, id)?,
        };
        let object = match &now {
            Some(Version::Object(object)) => Some(&**object),
            _ => None,
        };
        if !deletion.condition.holds(object) || !self.allows(bucket, deletion, versioning)? {
            return Ok(Err(BucketError::Precondition));
        }
        if let Some(id) = deletion.version {
            let gone = self.remove(bucket, key, versioning, id)?;
            let marker = matches!(gone, Some(Version::Marker(_)));
            let deleted = Deleted { version: Some(id), marker };
            if let Some(Version::Object(_)) = gone {
                removed.push(Removed { key, deleted, expired });
            }
            return Ok(Ok(deleted));
        }
        if versioning == Versioning::Never {
            if self.remove(bucket, key, versioning, VersionId::Null)?.is_some() {
                removed.push(Removed { key, deleted: Deleted::default(), expired });
            }
            return Ok(Ok(Deleted::default()));
        }
        let Some(version) = self.displace(bucket, key, versioning, now.as_ref())? else {
            return Ok(Ok(Deleted::default()));
        };
        self.put(marker_row(bucket, key), encode(&Marker { modified: time, version }));
        let deleted = Deleted { version: Some(VersionId::of(Some(version))), marker: true };
        removed.push(Removed { key, deleted, expired });
        Ok(Ok(deleted))
    }
}
