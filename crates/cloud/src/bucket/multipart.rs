//! Uploads in parts: begun, filled part by part in any order, and completed into one object without copying a byte.
//!
//! An upload's row is there from its beginning to its completion or abortion, and every commit of a part requires it;
//! so no part joins an upload that has ended. Completing moves the parts' blobs into the object's record and leaves the
//! answer in a row of its own, in the same commit.

use std::collections::HashSet;

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_store::{Batch, BlobId, CommitError, Snapshot};
use uuid::Uuid;

use super::{
    Buckets,
    checksum::{Algorithm, Checksum, etag_of_parts, of_parts},
    error::BucketError,
    put::{Conflicts, Means, PutOptions, Stored, check_key},
    receive::{Claims, receive},
    store::{Body, Done, Part, Piece, Upload, decode, done_row, encode, part_prefix, part_row, upload_row},
    version::Stamp,
};

/// The smallest part that is not the last one: S3's limit of 5 MiB.
const SMALLEST: u64 = 5 << 20;
const PARTS: std::ops::RangeInclusive<i32> = 1..=10_000;

/// A part as the completion names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartClaim {
    pub number: i32,
    /// Without quotes.
    pub etag: Option<String>,
    /// In base 64.
    pub checksum: Option<(Algorithm, String)>,
}

/// What completing an upload answers, the first time and each time it is asked again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    pub etag: String,
    pub checksum: Checksum,
    pub version: Option<Stamp>,
}

/// # Errors
/// [`BucketError::PartNumber`] outside of 1 to 10,000.
fn part_number(number: i32) -> Result<u16, BucketError> {
    PARTS
        .contains(&number)
        .then(|| u16::try_from(number).ok())
        .flatten()
        .ok_or(BucketError::PartNumber { number })
}

impl Buckets {
    /// Begins an upload, and answers its id.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], [`BucketError::KeyLength`].
    pub async fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &Upload,
    ) -> Result<String, BucketError> {
        check_key(key)?;
        let id = Uuid::now_v7().simple().to_string();
        let mut conflicts = Conflicts::default();
        loop {
            let mut batch = Batch::default();
            self.require(bucket)?;
            self.expect_open(&*self.store.snapshot()?, &mut batch, bucket)?;
            batch.put(upload_row(bucket, key, &id), encode(upload));
            match self.store.commit(batch).await {
                Ok(()) => return Ok(id),
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The upload of that id.
    ///
    /// # Errors
    /// [`BucketError::NoSuchUpload`].
    pub fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Upload, BucketError> {
        self.require(bucket)?;
        Ok(find(&*self.store.snapshot()?, bucket, key, id)?.1)
    }

    /// Takes in a part, replacing an earlier one of the same number.
    pub(super) async fn put_part<S, E>(
        &self,
        (bucket, key, id): (&str, &str, &str),
        number: i32,
        body: S,
        algorithms: &[Algorithm],
        claims: impl FnOnce() -> Result<Claims, BucketError> + Send,
    ) -> Result<Part, BucketError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let number = part_number(number)?;
        self.upload(bucket, key, id)?;
        // Always a blob, so that completing copies nothing.
        let received = receive(&*self.blobs, body, algorithms, 0).await?;
        received.verify(&claims()?)?;
        let stored = received.store().await?;
        let Some(blob) = stored.body.blobs().next() else { return Err(BucketError::NoParts) };
        let part = Part {
            size: stored.size,
            etag: stored.etag,
            modified: Timestamp::now(),
            checksum: stored.checksum,
            blob,
        };
        hit("bucket.part.stored");
        let replaced = self.commit_part((bucket, key, id), number, &part).await;
        match replaced {
            Ok(replaced) => {
                self.leases.delete(replaced).await;
                Ok(part)
            }
            Err(error) => {
                self.leases.delete([blob]).await;
                Err(error)
            }
        }
    }

    async fn commit_part(
        &self,
        (bucket, key, id): (&str, &str, &str),
        number: u16,
        part: &Part,
    ) -> Result<Option<BlobId>, BucketError> {
        let mut conflicts = Conflicts::default();
        loop {
            let mut batch = Batch::default();
            let replaced = {
                let snapshot = self.store.snapshot()?;
                self.expect_open(&*snapshot, &mut batch, bucket)?;
                let (row, _) = find(&*snapshot, bucket, key, id)?;
                batch.expect(upload_row(bucket, key, id), Some(row));
                let replaced = snapshot.get(&part_row(bucket, id, number))?;
                batch.expect(part_row(bucket, id, number), replaced.clone());
                replaced
            };
            batch.put(part_row(bucket, id, number), encode(part));
            match self.store.commit(batch).await {
                Ok(()) => {
                    return Ok(replaced.map(|row| decode::<Part>(&row)).transpose()?.map(|part| part.blob));
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes the object of its parts, with one event. Asked again, it answers what it answered first, and there is no
    /// second event.
    ///
    /// # Errors
    /// [`BucketError::NoSuchUpload`], and those that name a part that is missing, out of order, too small or another
    /// one than was uploaded; [`BucketError::Digest`] if `claimed` is not the object's checksum. The upload is
    /// unchanged on every error.
    pub async fn complete_upload(
        &self,
        (bucket, key, id): (&str, &str, &str),
        claims: &[PartClaim],
        claimed: Option<&Checksum>,
        options: &PutOptions,
    ) -> Result<Completed, BucketError> {
        self.require(bucket)?;
        if let Some(done) = self.completed(bucket, key, id)? {
            return Ok(done);
        }
        let (upload, named, unnamed) = {
            let snapshot = self.store.snapshot()?;
            let (_, upload) = find(&*snapshot, bucket, key, id)?;
            let (named, unnamed) = judge(&parts(&*snapshot, bucket, id)?, claims)?;
            (upload, named, unnamed)
        };
        let sums = named.iter().map(|(_, part)| (&part.checksum, part.size));
        let checksum = of_parts(upload.algorithm, upload.composite, sums)?;
        if let Some(claimed) = claimed.filter(|claimed| claimed.value != checksum.value) {
            let (expected, actual) = (claimed.value.clone(), checksum.value);
            return Err(BucketError::Digest { algorithm: Some(claimed.algorithm), expected, actual });
        }
        let stored = Stored {
            size: named.iter().map(|(_, part)| part.size).sum(),
            etag: etag_of_parts(named.iter().map(|(_, part)| part.etag.as_str())),
            checksum: checksum.clone(),
            body: Body::Blobs(named.iter().map(|(_, part)| piece(part)).collect()),
            inline: None,
        };
        let options = PutOptions {
            means: Means::Completion,
            description: upload.description,
            tags: upload.tags.clone(),
            ..options.clone()
        };
        hit("bucket.complete.judged");
        let put = self
            .commit_put(bucket, key, &stored, &options, |change, object| {
                if change.get(upload_row(bucket, key, id))?.is_none() {
                    return Err(BucketError::NoSuchUpload { upload: id.to_owned(), key: key.to_owned() });
                }
                change.delete(upload_row(bucket, key, id));
                for (number, part) in named.iter().chain(&unnamed) {
                    // A part that was uploaded again meanwhile is another one.
                    let row = part_row(bucket, id, *number);
                    if change.get(row.clone())? != Some(encode(part)) {
                        return Err(BucketError::Part { number: *number });
                    }
                    change.delete(row);
                }
                let done = Done {
                    key: key.to_owned(),
                    time: object.modified,
                    etag: object.etag.clone(),
                    checksum: object.checksum.clone(),
                    version: object.version,
                };
                change.put(done_row(bucket, id), encode(&done));
                Ok(())
            })
            .await;
        hit("bucket.complete.committed");
        match put {
            Ok(object) => {
                self.leases.delete(unnamed.iter().map(|(_, part)| part.blob)).await;
                Ok(Completed { etag: object.etag, checksum: object.checksum, version: object.version })
            }
            // Another completion of the same upload was faster.
            Err(BucketError::NoSuchUpload { upload, key: of }) => {
                self.completed(bucket, key, id)?.ok_or(BucketError::NoSuchUpload { upload, key: of })
            }
            Err(error) => Err(error),
        }
    }

    fn completed(&self, bucket: &str, key: &str, id: &str) -> Result<Option<Completed>, BucketError> {
        let row = self.store.snapshot()?.get(&done_row(bucket, id))?;
        let done: Option<Done> = row.map(|row| decode(&row)).transpose()?;
        let completed = |d: Done| Completed { etag: d.etag, checksum: d.checksum, version: d.version };
        Ok(done.filter(|d| d.key == key).map(completed))
    }

    /// Ends an upload, and deletes its parts.
    ///
    /// # Errors
    /// [`BucketError::NoSuchUpload`], also if it was completed.
    pub async fn abort_upload(&self, bucket: &str, key: &str, id: &str) -> Result<(), BucketError> {
        self.require(bucket)?;
        let mut conflicts = Conflicts::default();
        loop {
            let mut batch = Batch::default();
            let parts = {
                let snapshot = self.store.snapshot()?;
                let (row, _) = find(&*snapshot, bucket, key, id)?;
                batch.expect(upload_row(bucket, key, id), Some(row)).delete(upload_row(bucket, key, id));
                parts(&*snapshot, bucket, id)?
            };
            for (number, part) in &parts {
                let row = part_row(bucket, id, *number);
                batch.expect(row.clone(), Some(encode(part))).delete(row);
            }
            match self.store.commit(batch).await {
                Ok(()) => {
                    hit("bucket.abort.committed");
                    self.leases.delete(parts.iter().map(|(_, part)| part.blob)).await;
                    return Ok(());
                }
                Err(CommitError::Conflict { .. }) => conflicts.again().await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The parts of an upload after number `after`, at most `limit`, and whether there are more.
    ///
    /// # Errors
    /// [`BucketError::NoSuchUpload`].
    pub fn list_parts(
        &self,
        (bucket, key, id): (&str, &str, &str),
        after: u16,
        limit: usize,
    ) -> Result<(Vec<(u16, Part)>, bool), BucketError> {
        self.require(bucket)?;
        let snapshot = self.store.snapshot()?;
        find(&*snapshot, bucket, key, id)?;
        let mut parts = parts(&*snapshot, bucket, id)?;
        parts.retain(|(number, _)| *number > after);
        let more = parts.len() > limit;
        parts.truncate(limit);
        Ok((parts, more))
    }
}

fn piece(part: &Part) -> Piece {
    Piece { blob: part.blob, size: part.size, checksum: Some(part.checksum.value.clone()) }
}

fn find(snapshot: &dyn Snapshot, bucket: &str, key: &str, id: &str) -> Result<(Bytes, Upload), BucketError> {
    let row = snapshot.get(&upload_row(bucket, key, id))?;
    let row = row.ok_or_else(|| BucketError::NoSuchUpload { upload: id.to_owned(), key: key.to_owned() })?;
    let upload = decode(&row)?;
    Ok((row, upload))
}

/// All parts of an upload, in order.
pub(super) fn parts(
    snapshot: &dyn Snapshot,
    bucket: &str,
    id: &str,
) -> Result<Vec<(u16, Part)>, BucketError> {
    let prefix = part_prefix(bucket, id);
    let mut parts = Vec::new();
    for entry in snapshot.prefix(prefix.as_bytes())? {
        let (key, value) = entry?;
        let number = std::str::from_utf8(&key[prefix.len()..]).ok().and_then(|digits| digits.parse().ok());
        if let Some(number) = number {
            parts.push((number, decode(&value)?));
        }
    }
    Ok(parts)
}

type Numbered = Vec<(u16, Part)>;

/// The parts that the completion names, and those that it leaves out.
fn judge(parts: &[(u16, Part)], claims: &[PartClaim]) -> Result<(Numbered, Numbered), BucketError> {
    if claims.is_empty() {
        return Err(BucketError::NoParts);
    }
    if !claims.is_sorted_by(|one, next| one.number < next.number) {
        return Err(BucketError::PartOrder);
    }
    // A number that no part can have is told before a part that was not uploaded.
    let numbers: Vec<u16> = claims.iter().map(|claim| part_number(claim.number)).collect::<Result<_, _>>()?;
    let mut named: Numbered = Vec::with_capacity(claims.len());
    for (index, (claim, number)) in claims.iter().zip(numbers).enumerate() {
        let found = parts.binary_search_by_key(&number, |(n, _)| *n).ok().map(|at| &parts[at].1);
        let part = found.ok_or(BucketError::Part { number })?;
        let same_etag = claim.etag.as_ref().is_none_or(|etag| *etag == part.etag);
        let same_checksum = claim.checksum.as_ref().is_none_or(|(algorithm, value)| {
            part.checksum.algorithm == *algorithm && part.checksum.value == *value
        });
        if !same_etag || !same_checksum {
            return Err(BucketError::Part { number });
        }
        if part.size < SMALLEST && index + 1 < claims.len() {
            return Err(BucketError::PartSize { number, size: part.size, least: SMALLEST });
        }
        named.push((number, part.clone()));
    }
    let numbers: HashSet<u16> = named.iter().map(|(number, _)| *number).collect();
    let unnamed = parts.iter().filter(|(number, _)| !numbers.contains(number)).cloned().collect();
    Ok((named, unnamed))
}
