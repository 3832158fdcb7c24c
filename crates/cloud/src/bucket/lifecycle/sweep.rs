//! The sweep: what the rules say is due goes.
//!
//! Who owns it: nothing of its own. Each object, version, marker or upload goes by the commit that a client's deletion
//! would make, with its events, under the precondition that it still is what was judged. So a sweep that is cut off has
//! done a part, the next one does the rest, and two at once do no harm. It reads a page at a time: its memory does not
//! grow with the bucket.

use std::{future::Future, sync::Weak, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use tandem_model::Kind;

use super::rules::{Lifecycle, Subject};
use crate::bucket::{
    BucketError, Buckets, Condition, Deletion, ListedVersion, Object, Only, UploadQuery, Version, VersionId,
    VersionQuery,
};

/// How many versions or uploads are read at once.
const PAGE: usize = 1000;
/// How many deletions are under way at once: they share their commits.
const AT_ONCE: usize = 16;
/// How often it is looked whether something is due. Rules count in days; a start may come at any hour.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Current versions of objects.
    pub objects: u64,
    /// Versions that were not current, and delete markers.
    pub versions: u64,
    /// Uploads in parts.
    pub uploads: u64,
}

/// Sweeps at once and then every hour, until it is dropped or the buckets are gone.
pub async fn run<S: Future<Output = ()>>(
    buckets: Weak<Buckets>,
    now: impl Fn() -> Timestamp,
    sleep: impl Fn(Duration) -> S,
) {
    loop {
        {
            let Some(buckets) = buckets.upgrade() else { return };
            match buckets.expire(now()).await {
                Ok(Expired { objects: 0, versions: 0, uploads: 0 }) => {}
                Ok(Expired { objects, versions, uploads }) => {
                    tracing::info!(objects, versions, uploads, "removed what lifecycle rules say is due");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot apply the lifecycle rules; the next hour tries again")
                }
            }
        }
        sleep(EVERY).await;
    }
}

/// What is due.
struct Due {
    key: String,
    version: Option<VersionId>,
    condition: Condition,
    only: Only,
}

/// The place in a key's versions, newest first, that the walk has come to.
#[derive(Default)]
struct Walk {
    key: Option<String>,
    /// How many versions of the key are no longer current, so far.
    noncurrent: u32,
    /// The delete marker that is the key's current version, until another version is seen.
    marker: Option<(VersionId, Timestamp)>,
}

impl Walk {
    /// What the rules say of the next version; and of the marker before it, if that turned out to be the only one.
    fn step(&mut self, lifecycle: &Lifecycle, listed: Option<&ListedVersion>, now: Timestamp) -> Vec<Due> {
        let mut due = Vec::new();
        let same = listed.is_some_and(|listed| self.key.as_ref() == Some(&listed.key));
        if !same {
            if let (Some(key), Some((id, modified))) = (self.key.take(), self.marker.take())
                && lifecycle.marker_expiry(&key, modified).is_some_and(|time| time <= now)
            {
                due.push(Due { key, version: Some(id), condition: Condition::Always, only: Only::Alone });
            }
            *self = Self { key: listed.map(|listed| listed.key.clone()), ..Self::default() };
        }
        let Some(listed) = listed else { return due };
        if same {
            self.marker = None;
        }
        let key = &listed.key;
        match (&listed.version, listed.replaced) {
            (Version::Object(object), None) => {
                if lifecycle.expiry(&subject(key, object, &tags(object))).is_some_and(|(time, _)| time <= now)
                {
                    let condition =
                        Condition::IfUnchanged { etag: object.etag.clone(), modified: object.modified };
                    due.push(Due { key: key.clone(), version: None, condition, only: Only::Always });
                }
            }
            (Version::Marker(marker), None) => {
                self.marker = Some((listed.version.version_id(), marker.modified));
            }
            (version, Some(replaced)) => {
                let tags;
                let subject = match version {
                    Version::Object(object) => {
                        tags = self::tags(object);
                        subject(key, object, &tags)
                    }
                    Version::Marker(marker) => Subject { key, size: 0, tags: &[], modified: marker.modified },
                };
                let expiry = lifecycle.noncurrent_expiry(&subject, replaced, self.noncurrent);
                if expiry.is_some_and(|time| time <= now) {
                    let id = version.version_id();
                    let (condition, only) = (Condition::Always, Only::Replaced);
                    due.push(Due { key: key.clone(), version: Some(id), condition, only });
                }
                self.noncurrent += 1;
            }
        }
        due
    }
}

fn tags(object: &Object) -> Vec<(&str, &str)> {
    object.tags.iter().collect()
}

fn subject<'a>(key: &'a str, object: &Object, tags: &'a [(&'a str, &'a str)]) -> Subject<'a> {
    Subject { key, size: object.size, tags, modified: object.modified }
}

impl Buckets {
    /// Removes what the lifecycle rules of all buckets say is due at `now`.
    ///
    /// # Errors
    /// [`BucketError`] if the store or the disk refuses. What was removed before stays removed.
    pub async fn expire(&self, now: Timestamp) -> Result<Expired, BucketError> {
        let mut expired = Expired::default();
        let all = self.resources.list(None);
        for bucket in all.iter().filter(|resource| resource.urn.kind == Kind::Bucket) {
            let bucket = &bucket.id.0;
            match self.expire_in(bucket, now, &mut expired).await {
                // Deleted meanwhile.
                Err(BucketError::NoSuchBucket { .. }) => {}
                result => result?,
            }
        }
        Ok(expired)
    }

    async fn expire_in(
        &self,
        bucket: &str,
        now: Timestamp,
        expired: &mut Expired,
    ) -> Result<(), BucketError> {
        let Some(lifecycle) = self.setting::<Lifecycle>(bucket)? else { return Ok(()) };
        let mut walk = Walk::default();
        let mut query = VersionQuery { limit: PAGE, ..VersionQuery::default() };
        loop {
            let page = self.list_versions(bucket, &query)?;
            let listed = page.versions.iter().map(Some).chain(page.next.is_none().then_some(None));
            let due: Vec<Due> = listed.flat_map(|listed| walk.step(&lifecycle, listed, now)).collect();
            self.remove_due(bucket, due, expired).await?;
            let Some(next) = page.next else { break };
            query.after = Some(next);
        }
        let mut query = UploadQuery { limit: PAGE, ..UploadQuery::default() };
        loop {
            let page = self.list_uploads(bucket, &query)?;
            for listed in &page.uploads {
                if lifecycle.abortion(&listed.key, listed.upload.begun).is_none_or(|(time, _)| time > now) {
                    continue;
                }
                match self.abort_upload(bucket, &listed.key, &listed.id).await {
                    Ok(()) => expired.uploads += 1,
                    // Completed or aborted meanwhile.
                    Err(BucketError::NoSuchUpload { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            let Some(next) = page.next else { return Ok(()) };
            query.after = Some(next);
        }
    }

    async fn remove_due(
        &self,
        bucket: &str,
        due: Vec<Due>,
        expired: &mut Expired,
    ) -> Result<(), BucketError> {
        let removed = stream::iter(due).map(|due| async move {
            let Due { key, version, condition, only } = due;
            let deletion = Deletion { key: &key, version, condition, only, expired: true };
            let mut done = self.delete_each(bucket, &[deletion], None).await?;
            Ok::<_, BucketError>((version, done.pop()))
        });
        let mut removed = std::pin::pin!(removed.buffer_unordered(AT_ONCE));
        while let Some(removed) = removed.next().await {
            match removed? {
                (None, Some(Ok(_))) => expired.objects += 1,
                (Some(_), Some(Ok(_))) => expired.versions += 1,
                // It is no longer what was judged: the next sweep judges anew.
                _ => {}
            }
        }
        Ok(())
    }
}
