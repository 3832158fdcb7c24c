//! What a crash may leave, removed after the next start.

use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use tandem_store::{Batch, BlobId, ReadError, Snapshot, Store, blobs::Swept};

use super::{
    Buckets,
    error::BucketError,
    store::{Body, Done, Object, Part, Version, decode},
};

/// How long a completed upload's answer is kept for a client that asks again.
const ANSWERS: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How many rows are removed in one commit.
const BATCH: usize = 1000;

impl Buckets {
    /// Removes blobs that nothing refers to, parts of uploads that have ended, and old answers. Call it once after the
    /// start; requests may be served meanwhile.
    ///
    /// # Errors
    /// [`BucketError`] if the store or the blobs cannot be read; the next start tries again.
    pub async fn sweep(&self) -> Result<Swept, BucketError> {
        let store = self.store.clone();
        // Reads every record: beside the requests, not between them.
        let surveyed = tokio::task::spawn_blocking(move || survey(&*store)).await;
        let (referenced, stale) = surveyed.map_err(|stopped| ReadError(Box::new(stopped)))??;
        for rows in stale.chunks(BATCH) {
            let mut batch = Batch::default();
            for row in rows {
                batch.delete(row.clone());
            }
            self.store.commit(batch).await?;
        }
        // A backup may still copy what was deleted after its snapshot.
        Ok(self.blobs.sweep(&|id| referenced.contains(&id) || self.leases.keeps(id)).await?)
    }
}

/// Calls `named` with each blob that something refers to and its size, and `stale` with the rows of parts whose upload
/// has ended. Whatever keeps or copies blobs asks here, so a row that names blobs is told in this one place.
pub(crate) fn references(
    snapshot: &dyn Snapshot,
    named: &mut dyn FnMut(BlobId, u64),
    stale: &mut dyn FnMut(bytes::Bytes),
) -> Result<(), BucketError> {
    let mut of_body = |body: &Body| {
        if let Body::Blobs(pieces) = body {
            pieces.iter().for_each(|piece| named(piece.blob, piece.size));
        }
    };
    for entry in snapshot.prefix(b"object/")? {
        of_body(&decode::<Object>(&entry?.1)?.body);
    }
    for entry in snapshot.prefix(b"version/")? {
        if let Version::Object(object) = decode(&entry?.1)? {
            of_body(&object.body);
        }
    }
    let mut open = HashSet::new();
    for entry in snapshot.prefix(b"upload/")? {
        let row = entry?.0;
        open.extend(row.rsplit(|byte| *byte == 0).next().map(<[u8]>::to_vec));
    }
    for entry in snapshot.prefix(b"part/")? {
        let (row, value) = entry?;
        match row.rsplit(|byte| *byte == b'/').nth(1) {
            Some(upload) if open.contains(upload) => {
                let part = decode::<Part>(&value)?;
                named(part.blob, part.size);
            }
            _ => stale(row),
        }
    }
    Ok(())
}

/// The blobs that something refers to, and the rows that have outlived their use.
///
/// One snapshot is enough, though requests go on: what they add refers to blobs of this start, which no sweep
/// touches, and a completion moves a reference within one commit.
fn survey(store: &dyn Store) -> Result<(HashSet<BlobId>, Vec<bytes::Bytes>), BucketError> {
    let snapshot = store.snapshot()?;
    let mut referenced = HashSet::new();
    let mut stale = Vec::new();
    let mut refer = |blob, _| _ = referenced.insert(blob);
    references(&*snapshot, &mut refer, &mut |row| stale.push(row))?;
    let now = Timestamp::now();
    for entry in snapshot.prefix(b"done/")? {
        let (row, value) = entry?;
        if now.duration_since(decode::<Done>(&value)?.time) > ANSWERS {
            stale.push(row);
        }
    }
    Ok((referenced, stale))
}
