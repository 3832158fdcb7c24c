//! Blobs: found, read, sent in. A blob that is here is here for every repository.

use std::{io::SeekFrom, ops::Range};

use bytes::Bytes;
use futures::Stream;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{
    Registry, RegistryError,
    files::Files,
    name::{Digest, Repository},
    upload::Upload,
};

/// How much is read at once.
const PIECE: usize = 256 << 10;

impl Registry {
    /// The size of a blob, for a client that may push what needs it.
    ///
    /// # Errors
    /// [`RegistryError::BlobUnknown`]
    pub(super) async fn blob(&self, digest: &Digest) -> Result<u64, RegistryError> {
        // First, so that no sweep comes between.
        self.files.promise(digest);
        let size = self.size(digest).await;
        if size.is_err() {
            self.files.redeem([digest]);
        }
        size
    }

    /// The size of a blob.
    ///
    /// # Errors
    /// [`RegistryError::BlobUnknown`]
    pub(super) async fn size(&self, digest: &Digest) -> Result<u64, RegistryError> {
        self.files.size(digest).await?.ok_or_else(|| RegistryError::BlobUnknown(digest.clone()))
    }

    /// The bytes of a blob, all of them or a range within. One that is removed meanwhile is read to its end.
    pub(super) async fn read(
        &self,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = std::io::Result<Bytes>> + Send + use<>, RegistryError> {
        let mut file = match tokio::fs::File::open(self.files.blob(digest)).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RegistryError::BlobUnknown(digest.clone()));
            }
            opened => opened?,
        };
        file.seek(SeekFrom::Start(range.start)).await?;
        Ok(ReaderStream::with_capacity(file.take(range.end - range.start), PIECE))
    }

    pub(super) async fn begin_upload(
        &self,
        repository: &Repository,
        owner: &str,
    ) -> Result<std::sync::Arc<Upload>, RegistryError> {
        self.uploads.begin(&self.files, repository, owner).await
    }

    pub(super) fn upload(
        &self,
        id: &str,
        repository: &Repository,
        owner: &str,
    ) -> Result<std::sync::Arc<Upload>, RegistryError> {
        self.uploads.find(id, repository, owner)
    }

    /// Appends to an upload, which is over if that cannot be kept. See [`Upload::append`].
    ///
    /// # Errors
    /// [`RegistryError::OutOfOrder`] if it does not begin where the upload is.
    pub(super) async fn append_upload<S, E>(
        &self,
        upload: &Upload,
        body: S,
        from: Option<u64>,
    ) -> Result<u64, RegistryError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send,
        E: std::fmt::Display,
    {
        let appended = upload.append(body, from).await;
        if matches!(appended, Err(RegistryError::Full | RegistryError::Io(_))) {
            self.uploads.end(upload);
        }
        appended
    }

    /// Makes a blob of an upload, which is over then, whatever the answer.
    ///
    /// # Errors
    /// [`RegistryError::DigestInvalid`] if what came is something else.
    pub(super) async fn finish_upload(&self, upload: &Upload, digest: &Digest) -> Result<(), RegistryError> {
        // Also if its client goes away meanwhile.
        let _over = Over { registry: self, upload };
        upload.finish(&self.files, digest).await
    }

    pub(super) fn cancel_upload(&self, upload: &Upload) {
        self.uploads.end(upload);
    }

    /// Removes a blob that no manifest names.
    ///
    /// # Errors
    /// [`RegistryError::BlobUnknown`]; [`RegistryError::InUse`]
    pub(super) async fn delete_blob(&self, digest: &Digest) -> Result<(), RegistryError> {
        let _changes = self.changes.lock().await;
        if self.files.size(digest).await?.is_none() {
            return Err(RegistryError::BlobUnknown(digest.clone()));
        }
        if self.referenced()?.contains(digest) {
            return Err(RegistryError::InUse("a manifest names this blob; delete the manifest".to_owned()));
        }
        self.files.redeem([digest]);
        self.files.remove(digest).await;
        Ok(())
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }
}

struct Over<'a> {
    registry: &'a Registry,
    upload: &'a Upload,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.registry.uploads.end(self.upload);
    }
}
