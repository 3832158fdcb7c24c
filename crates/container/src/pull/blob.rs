//! Fetches one blob into a folder, and goes on where an earlier attempt stopped.
//!
//! What is fetched is in `<hex>.part`; it gets its name `<hex>` when all of it is on the disk and has that digest. So a file
//! with such a name is whole, whatever was killed.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use futures::StreamExt;
use oci_client::client::BlobResponse;
use sha2::{Digest, Sha256};
use tokio::{fs, io::AsyncWriteExt, task::spawn_blocking};

use super::{access::Access, failure::Failure, manifest::Descriptor};
use crate::layout::at;

/// Where a blob lies when it is whole.
pub(super) fn path(folder: &Path, blob: &Descriptor) -> PathBuf {
    folder.join(blob.hex().unwrap_or_default())
}

/// Fetches a blob, once; `done` counts the bytes that are there.
///
/// # Errors
/// Why that did not succeed. What came stays, unless it was wrong.
pub(super) async fn fetch(
    access: &Access,
    blob: &Descriptor,
    folder: &Path,
    done: &AtomicU64,
) -> Result<(), Failure> {
    let whole = path(folder, blob);
    if fs::metadata(&whole).await.is_ok_and(|file| file.len() == blob.size) {
        done.fetch_add(blob.size, Ordering::Relaxed);
        return Ok(());
    }
    let part = whole.with_extension("part");
    let (mut file, mut hash, mut len) = open(&part, blob.size).await.map_err(own(&part))?;
    let counted = Counted { done, bytes: 0 };
    let mut counted = counted.plus(len);
    if len < blob.size {
        let reference = access.reference(&blob.digest);
        let digest = blob.digest.as_str();
        let mut stream = match len {
            0 => access.client.pull_blob_stream(&reference, digest).await.map_err(Failure::of_registry)?,
            offset => {
                let answer = access.client.pull_blob_stream_partial(&reference, digest, offset, None).await;
                let answer = match answer.map_err(Failure::of_registry) {
                    // It does not want to go on from there.
                    Err(Failure::Final(said)) => return Err(wrong(&part, Failure::Damaged(said)).await),
                    answer => answer?,
                };
                match answer {
                    BlobResponse::Partial(stream) => stream,
                    BlobResponse::Full(stream) => {
                        // It knows no ranges.
                        file.set_len(0).await.map_err(own(&part))?;
                        (hash, len) = (Sha256::new(), 0);
                        counted = Counted { done, bytes: 0 };
                        stream
                    }
                }
            }
        };
        loop {
            let chunk = match stream.next().await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => {
                    flush(&mut file, &part).await?;
                    let failure = Failure::of_stream(&error);
                    if matches!(failure, Failure::Damaged(_)) {
                        return Err(wrong(&part, failure).await);
                    }
                    return Err(failure);
                }
                None => break,
            };
            len += chunk.len() as u64;
            if len > blob.size {
                let said = format!("it announced {} bytes and sends more", blob.size);
                return Err(wrong(&part, Failure::Damaged(said)).await);
            }
            hash.update(&chunk);
            file.write_all(&chunk).await.map_err(own(&part))?;
            counted = counted.plus(chunk.len() as u64);
        }
    }
    flush(&mut file, &part).await?;
    if len < blob.size {
        return Err(Failure::Broken(format!("it ended after {len} of {} bytes", blob.size)));
    }
    let found = format!("sha256:{}", data_encoding::HEXLOWER.encode(&hash.finalize()));
    if found != blob.digest {
        let said = format!("it announced {} and sent {found}", blob.digest);
        return Err(wrong(&part, Failure::Damaged(said)).await);
    }
    file.sync_all().await.map_err(own(&part))?;
    fs::rename(&part, &whole).await.map_err(own(&whole))?;
    counted.keep();
    Ok(())
}

/// Bytes that count as long as this attempt goes on: the next one counts what is there anew.
struct Counted<'a> {
    done: &'a AtomicU64,
    bytes: u64,
}

impl Counted<'_> {
    fn plus(mut self, bytes: u64) -> Self {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        self
    }

    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.done.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Opens what is there of a blob, to be added to, with its hash so far and its length.
async fn open(part: &Path, size: u64) -> io::Result<(fs::File, Sha256, u64)> {
    let path = part.to_owned();
    let opened = spawn_blocking(move || {
        let mut options = std::fs::File::options();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut hash = Sha256::new();
        let mut len = file.metadata()?.len();
        if len > size {
            file.set_len(0)?;
            len = 0;
        }
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok::<_, io::Error>((file, hash, len)),
                n => hash.update(&buffer[..n]),
            }
        }
    });
    let (file, hash, len) = opened.await.map_err(io::Error::other)??;
    Ok((fs::File::from_std(file), hash, len))
}

async fn flush(file: &mut fs::File, part: &Path) -> Result<(), Failure> {
    file.flush().await.map_err(own(part))
}

/// What came is wrong: the next attempt begins anew.
async fn wrong(part: &Path, failure: Failure) -> Failure {
    match fs::remove_file(part).await {
        Ok(()) => failure,
        Err(error) => own(part)(error),
    }
}

fn own(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| Failure::from(at(path)(error))
}
