//! Taking in a body: small ones stay in memory and go into the store, others are written to a blob as they come.
//!
//! What was received means nothing yet: dropped before it is committed, it leaves nothing.

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures::{Stream, StreamExt};
use tandem_store::{BlobWriter, Blobs};

use super::{
    checksum::{Algorithm, Checksum},
    error::BucketError,
    hashing::Hashing,
};

/// Bodies up to this size are kept inline in the store.
pub(super) const INLINE: usize = 32 << 10;
/// The largest body of one request: S3's limit of 5 GiB.
pub(super) const LARGEST: u64 = 5 << 30;

/// A body that arrived, not yet part of anything.
pub(super) struct Received {
    pub(super) body: Unstored,
    pub(super) size: u64,
    /// The MD5, in hexadecimal.
    pub(super) etag: String,
    /// In the order in which they were asked for: the first is kept.
    pub(super) checksums: Vec<Checksum>,
}

pub(super) enum Unstored {
    Inline(Bytes),
    Blob(Box<dyn BlobWriter>),
}

/// What a request says about the body that it carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    pub length: Option<u64>,
    /// The MD5, in hexadecimal.
    pub md5: Option<String>,
    pub checksum: Option<Checksum>,
}

/// Reads a body to its end. `inline` is how large it may be to stay in memory.
///
/// # Errors
/// [`BucketError::Body`] if the stream fails, [`BucketError::TooLarge`] beyond 5 GiB, [`BucketError::Blob`] if the disk
/// does.
pub(super) async fn receive<S, E>(
    blobs: &dyn Blobs,
    body: S,
    algorithms: &[Algorithm],
    inline: usize,
) -> Result<Received, BucketError>
where
    S: Stream<Item = Result<Bytes, E>> + Send,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let mut hashing = Hashing::new(algorithms);
    let mut size = 0;
    let mut gathered = Gathered::Nothing;
    let mut writer: Option<Box<dyn BlobWriter>> = None;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| BucketError::Body(e.into()))?;
        size += piece.len() as u64;
        if size > LARGEST {
            return Err(BucketError::TooLarge { limit: LARGEST });
        }
        hashing.take(piece.clone()).await?;
        match &mut writer {
            Some(writer) => writer.write(piece).await?,
            None => {
                gathered.push(piece);
                if size > inline as u64 {
                    let mut begun = blobs.create().await?;
                    begun.write(gathered.take()).await?;
                    writer = Some(begun);
                }
            }
        }
    }
    let body = match writer {
        Some(writer) => Unstored::Blob(writer),
        None if size > inline as u64 || inline == 0 => Unstored::Blob(blobs.create().await?),
        None => Unstored::Inline(gathered.take()),
    };
    let (md5, checksums) = hashing.finish().await?;
    Ok(Received { body, size, etag: HEXLOWER.encode(&md5), checksums })
}

/// Most small bodies come in one piece, which then needs no copy.
enum Gathered {
    Nothing,
    One(Bytes),
    Many(BytesMut),
}

impl Gathered {
    fn push(&mut self, piece: Bytes) {
        *self = match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => Self::One(piece),
            Self::One(first) => {
                let mut many = BytesMut::from(&first[..]);
                many.extend_from_slice(&piece);
                Self::Many(many)
            }
            Self::Many(mut many) => {
                many.extend_from_slice(&piece);
                Self::Many(many)
            }
        };
    }

    fn take(&mut self) -> Bytes {
        match std::mem::replace(self, Self::Nothing) {
            Self::Nothing => Bytes::new(),
            Self::One(only) => only,
            Self::Many(many) => many.freeze(),
        }
    }
}

impl Received {
    /// Compares with what the request says.
    ///
    /// # Errors
    /// [`BucketError::Length`] or [`BucketError::Digest`] naming what differs.
    pub(super) fn verify(&self, claims: &Claims) -> Result<(), BucketError> {
        if let Some(expected) = claims.length.filter(|length| *length != self.size) {
            return Err(BucketError::Length { expected, actual: self.size });
        }
        if let Some(md5) = claims.md5.as_ref().filter(|md5| **md5 != self.etag) {
            let actual = self.etag.clone();
            return Err(BucketError::Digest { algorithm: None, expected: md5.clone(), actual });
        }
        let Some(claimed) = &claims.checksum else { return Ok(()) };
        let computed = self.checksums.iter().find(|computed| computed.algorithm == claimed.algorithm);
        match computed {
            Some(computed) if computed.value == claimed.value => Ok(()),
            other => Err(BucketError::Digest {
                algorithm: Some(claimed.algorithm),
                expected: claimed.value.clone(),
                actual: other.map_or_else(String::new, |computed| computed.value.clone()),
            }),
        }
    }
}
