//! Writing objects: the one commit that makes an object and its event true.

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::event::ObjectData;
use tandem_store::{Batch, CommitError, Snapshot};

use super::{
    Buckets,
    announce::{Happened, Happening, traceparent},
    change::Change,
    checksum::{Algorithm, Checksum},
    error::BucketError,
    receive::{Claims, INLINE, Received, Unstored, receive},
    store::{Body, Description, OPEN, Object, Piece, Version, bucket_row, encode, inline_row, object_row},
    tags::Tags,
    version::VersionId,
};

/// How often a commit is tried again because something else changed underneath.
const CONFLICTS: usize = 1000;
/// The longest key, in bytes of UTF-8.
pub(super) const LONGEST_KEY: usize = 1024;

/// What must be true of the object that is there, for the change to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Always,
    IfAbsent,
    IfPresent,
    /// That it has this ETag, without quotes.
    IfMatch(String),
    /// That it is this very object, and not one that was written since with the same bytes.
    IfUnchanged {
        etag: String,
        modified: Timestamp,
    },
}

impl Condition {
    pub(super) fn holds(&self, now: Option<&Object>) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => now.is_none(),
            Self::IfPresent => now.is_some(),
            Self::IfMatch(etag) => now.is_some_and(|now| now.etag == *etag),
            Self::IfUnchanged { etag, modified } => {
                now.is_some_and(|now| now.etag == *etag && now.modified == *modified)
            }
        }
    }

    /// Decides over writing to a key. A delete marker is as good as nothing.
    fn judge(&self, bucket: &str, key: &str, now: Option<&Version>) -> Result<(), BucketError> {
        let now = match now {
            Some(Version::Object(object)) => Some(&**object),
            _ => None,
        };
        match self {
            _ if self.holds(now) => Ok(()),
            Self::IfMatch(_) if now.is_none() => {
                Err(BucketError::NoSuchKey { bucket: bucket.to_owned(), key: key.to_owned() })
            }
            _ => Err(BucketError::Precondition),
        }
    }
}

/// By which request an object is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Means {
    #[default]
    Put,
    /// A form.
    Post,
    Copy,
    /// The completion of an upload in parts.
    Completion,
}

/// How an object is put.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    pub means: Means,
    pub description: Description,
    pub tags: Tags,
    pub condition: Condition,
    /// The W3C trace context of what causes it; a new trace begins without.
    pub traceparent: Option<String>,
}

/// A body that is durable, and what is known of it; not yet an object.
pub(super) struct Stored {
    pub(super) size: u64,
    pub(super) etag: String,
    pub(super) checksum: Checksum,
    pub(super) body: Body,
    pub(super) inline: Option<Bytes>,
}

impl Buckets {
    /// Puts an object. When this returns `Ok`, object and event are on disk. The event happens once for each `Ok`.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], [`BucketError::KeyLength`], [`BucketError::Precondition`], those of the body's
    /// stream, and those of the disk. The object is unchanged on every error.
    pub async fn put<S, E>(
        &self,
        bucket: &str,
        key: &str,
        body: S,
        options: &PutOptions,
    ) -> Result<Object, BucketError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.put_checked(bucket, key, body, &[Algorithm::DEFAULT], || Ok(Claims::default()), options).await
    }

    /// Puts an object whose body must be as `claims` answers once it has arrived: a checksum may come behind it.
    pub(super) async fn put_checked<S, E>(
        &self,
        bucket: &str,
        key: &str,
        body: S,
        algorithms: &[Algorithm],
        claims: impl FnOnce() -> Result<Claims, BucketError> + Send,
        options: &PutOptions,
    ) -> Result<Object, BucketError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.require(bucket)?;
        check_key(key)?;
        let received = receive(&*self.blobs, body, algorithms, INLINE).await?;
        received.verify(&claims()?)?;
        let stored = received.store().await?;
        let blobs: Vec<_> = stored.body.blobs().collect();
        hit("bucket.put.stored");
        let put = self.commit_put(bucket, key, &stored, options, |_, _| Ok(())).await;
        if put.is_err() {
            self.leases.delete(blobs).await;
        }
        hit("bucket.put.committed");
        put
    }

    /// Makes the object true, with its event and with what `also` adds, in one commit; then deletes the body that it
    /// replaced, unless that is kept as a version. `also` may run again.
    pub(super) async fn commit_put(
        &self,
        bucket: &str,
        key: &str,
        stored: &Stored,
        options: &PutOptions,
        also: impl Fn(&mut Change, &Object) -> Result<(), BucketError> + Send + Sync,
    ) -> Result<Object, BucketError> {
        let traceparent = traceparent(options.traceparent.as_deref());
        let mut conflicts = Conflicts::default();
        loop {
            let urn = self.urn(bucket)?;
            let mut change = Change::new(self.store.snapshot()?);
            let versioning = change.open(bucket)?;
            let current = change.current(bucket, key, versioning)?;
            options.condition.judge(bucket, key, current.as_ref())?;
            let version = change.displace(bucket, key, versioning, current.as_ref())?;
            let object = Object {
                size: stored.size,
                etag: stored.etag.clone(),
                modified: Timestamp::now(),
                checksum: stored.checksum.clone(),
                body: stored.body.clone(),
                version,
                tags: options.tags.clone(),
                description: options.description.clone(),
            };
            change.put(object_row(bucket, key), encode(&object));
            if let Some(bytes) = &stored.inline {
                change.put(inline_row(bucket, key, version), bytes.clone());
            }
            also(&mut change, &object)?;
            let notifications = change.notifications(bucket)?;
            let Change { mut batch, gone, .. } = change;
            let data = ObjectData {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
                size: object.size,
                etag: Some(object.etag.clone()),
                event_time: object.modified,
                version_id: version.map(|stamp| VersionId::of(Some(stamp)).to_string()),
                delete_marker: false,
            };
            let what = Happening::Written(options.means);
            let happened = Happened { source: &urn, traceparent: &traceparent, what, data };
            let enqueued = self.announce(&mut batch, &notifications, happened);
            match self.outbox.commit(&self.store, batch, enqueued).await {
                Ok(()) => {
                    // The disk takes its time over the name of a large file, and nobody has to wait for that.
                    self.leases.delete_later(gone);
                    return Ok(object);
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Requires that the bucket takes changes, now and when the batch commits.
    pub(super) fn expect_open(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        bucket: &str,
    ) -> Result<(), BucketError> {
        match snapshot.get(&bucket_row(bucket))? {
            Some(state) if state == OPEN => {
                batch.expect(bucket_row(bucket), Some(state));
                Ok(())
            }
            _ => Err(BucketError::NoSuchBucket { bucket: bucket.to_owned() }),
        }
    }
}

impl Received {
    /// Makes the body durable.
    ///
    /// # Errors
    /// [`BucketError::Blob`] if the disk refuses.
    pub(super) async fn store(self) -> Result<Stored, BucketError> {
        let (body, inline) = match self.body {
            Unstored::Inline(bytes) => (Body::Inline, Some(bytes)),
            Unstored::Blob(writer) => {
                let blob = writer.finish().await?;
                (Body::Blobs(vec![Piece { blob, size: self.size, checksum: None }]), None)
            }
        };
        let checksum = self.checksums.into_iter().next().expect("every body is received with a checksum");
        Ok(Stored { size: self.size, etag: self.etag, checksum, body, inline })
    }
}

/// # Errors
/// [`BucketError::KeyLength`] for an empty key or one above 1,024 bytes. Any other text is a key; none is a path.
pub(super) fn check_key(key: &str) -> Result<(), BucketError> {
    let allowed = 1..=LONGEST_KEY;
    match allowed.contains(&key.len()) {
        true => Ok(()),
        false => Err(BucketError::KeyLength { length: key.len(), allowed }),
    }
}

/// Counts the attempts of one change.
#[derive(Debug, Default)]
pub(super) struct Conflicts(usize);

impl Conflicts {
    /// Waits a little before the next attempt: the change that was in the way must also reach what is kept in memory.
    pub(super) async fn again(&mut self) -> Result<(), BucketError> {
        self.0 += 1;
        match self.0 {
            0..10 => tokio::task::yield_now().await,
            10..CONFLICTS => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            _ => return Err(BucketError::Contended),
        }
        Ok(())
    }
}
