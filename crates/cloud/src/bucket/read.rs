//! Reading objects.

use std::{io, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, future, stream, stream::BoxStream};
use tandem_store::{BlobError, Blobs, Snapshot};

use super::{
    Buckets,
    error::BucketError,
    history::find,
    lease::Lease,
    store::{Body, Object, Piece, Version, inline_row},
    version::{VersionId, Versioning},
};

/// The bytes of an object, in order.
pub type BodyStream = BoxStream<'static, io::Result<Bytes>>;

/// An object, as it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub object: Object,
    /// What clients are told of its version; nothing if the bucket was never versioned.
    pub version: Option<VersionId>,
}

/// An object with (a range of) its body.
pub struct Found {
    pub object: Object,
    pub version: Option<VersionId>,
    pub range: Range<u64>,
    pub body: BodyStream,
}

impl Found {
    /// The whole body, in memory.
    ///
    /// # Errors
    /// The error of the read that failed.
    pub async fn bytes(self) -> io::Result<Bytes> {
        let pieces: Vec<Bytes> = self.body.try_collect().await?;
        Ok(match <[Bytes; 1]>::try_from(pieces) {
            Ok([only]) => only,
            Err(pieces) => pieces.concat().into(),
        })
    }
}

impl Buckets {
    /// What is known of an object.
    ///
    /// # Errors
    /// [`BucketError::NoSuchBucket`], [`BucketError::NoSuchKey`], [`BucketError::Deleted`].
    pub fn head(&self, bucket: &str, key: &str) -> Result<Object, BucketError> {
        Ok(self.head_version(bucket, key, None)?.object)
    }

    /// What is known of a version, of the current one if none is named.
    ///
    /// # Errors
    /// As for [`head`](Self::head), [`BucketError::NoSuchVersion`], and [`BucketError::IsMarker`] for one that says that
    /// the object was deleted.
    pub fn head_version(
        &self,
        bucket: &str,
        key: &str,
        version: Option<VersionId>,
    ) -> Result<Seen, BucketError> {
        self.require(bucket)?;
        self.see(&*self.store.snapshot()?, bucket, key, version)
    }

    /// An object with its whole body. What is read is the object as it is now, even if it is replaced meanwhile.
    ///
    /// # Errors
    /// As for [`head`](Self::head).
    pub async fn get(&self, bucket: &str, key: &str) -> Result<Found, BucketError> {
        self.get_range(bucket, key, None, |object| Ok(0..object.size)).await
    }

    /// A version with the range of its body that `choose` names, or the error that it answers instead.
    ///
    /// # Errors
    /// As for [`head_version`](Self::head_version), and those of `choose`.
    pub async fn get_range(
        &self,
        bucket: &str,
        key: &str,
        version: Option<VersionId>,
        choose: impl Fn(&Object) -> Result<Range<u64>, BucketError> + Send,
    ) -> Result<Found, BucketError> {
        self.require(bucket)?;
        let mut leased: Option<(Seen, Lease)> = None;
        loop {
            let (seen, inline) = {
                let snapshot = self.store.snapshot()?;
                let seen = self.see(&*snapshot, bucket, key, version)?;
                let inline = match seen.object.body {
                    Body::Inline => snapshot.get(&inline_row(bucket, key, seen.object.version))?,
                    Body::Blobs(_) => None,
                };
                (seen, inline)
            };
            let range = choose(&seen.object)?;
            let Body::Blobs(pieces) = &seen.object.body else {
                let body = inline.unwrap_or_default();
                // A row and its body are written together, so the range lies within.
                let slice = body.slice(clamp(&range, body.len()));
                let Seen { object, version } = seen;
                return Ok(Found {
                    object,
                    version,
                    range,
                    body: stream::once(future::ready(Ok(slice))).boxed(),
                });
            };
            match leased.take() {
                // Seen once more after the lease was taken: nobody deletes these blobs before we are done.
                Some((before, lease)) if before.object == seen.object => {
                    let body = open_pieces(&self.blobs, within(pieces, &range), lease).await?;
                    let Seen { object, version } = seen;
                    return Ok(Found { object, version, range, body });
                }
                _ => {
                    let lease = self.leases.take(seen.object.body.blobs().collect());
                    leased = Some((seen, lease));
                }
            }
        }
    }

    fn see(
        &self,
        snapshot: &dyn Snapshot,
        bucket: &str,
        key: &str,
        version: Option<VersionId>,
    ) -> Result<Seen, BucketError> {
        match find(snapshot, bucket, key, version)? {
            Version::Object(object) => {
                let told = match object.version {
                    Some(_) => true,
                    // An object from before its bucket was versioned is its version `null`.
                    None => self.known_setting::<Versioning>(bucket)?.is_some(),
                };
                Ok(Seen { version: told.then(|| object.version_id()), object: *object })
            }
            Version::Marker(marker) => Err(BucketError::IsMarker {
                key: key.to_owned(),
                version: VersionId::of(Some(marker.version)),
                modified: marker.modified,
            }),
        }
    }
}

fn clamp(range: &Range<u64>, length: usize) -> Range<usize> {
    let end = usize::try_from(range.end).map_or(length, |end| end.min(length));
    usize::try_from(range.start).map_or(end, |start| start.min(end))..end
}

/// The pieces that a range touches, each with the range inside it.
fn within(pieces: &[Piece], range: &Range<u64>) -> Vec<(Piece, Range<u64>)> {
    let mut begin = 0;
    let mut touched = Vec::new();
    for piece in pieces {
        let end = begin + piece.size;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if from < to {
            touched.push((piece.clone(), from - begin..to - begin));
        }
        begin = end;
    }
    touched
}

/// Opens the first piece at once, so that a body that is not there is an answer and not a broken connection.
async fn open_pieces(
    blobs: &Arc<dyn Blobs>,
    pieces: Vec<(Piece, Range<u64>)>,
    lease: Lease,
) -> Result<BodyStream, BlobError> {
    let mut pieces = pieces.into_iter();
    let first = match pieces.next() {
        Some((piece, range)) => blobs.open(piece.blob, range).await?,
        None => stream::empty().boxed(),
    };
    let blobs = blobs.clone();
    let rest = stream::iter(pieces).then(move |(piece, range)| {
        let blobs = blobs.clone();
        async move {
            blobs.open(piece.blob, range).await.map_err(|error| {
                // The answer has begun; all that is left is to end it early, and to say here why.
                tracing::error!(%error, "cannot read a body to its end");
                io::Error::other(error)
            })
        }
    });
    // The lease ends with the stream, read to its end or dropped.
    let body = first.chain(rest.try_flatten()).inspect(move |_| {
        let _ = &lease;
    });
    Ok(body.boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_touches_the_pieces_it_overlaps() {
        let blob = "00000000000000000000000000000001-0".parse().unwrap();
        let pieces: Vec<Piece> = [3, 0, 4, 5].map(|size| Piece { blob, size, checksum: None }).into();
        let touched =
            |range| within(&pieces, &range).into_iter().map(|(p, r)| (p.size, r)).collect::<Vec<_>>();
        assert_eq!(touched(0..12), [(3, 0..3), (4, 0..4), (5, 0..5)]);
        assert_eq!(touched(2..4), [(3, 2..3), (4, 0..1)]);
        assert_eq!(touched(7..8), [(5, 0..1)]);
        assert_eq!(touched(5..5), []);
    }
}
