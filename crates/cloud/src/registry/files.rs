//! Blobs as files named by their digest: `blobs/sha256/<hex>`, as an OCI image layout has them, so that an image is
//! taken into the image store by a layout that only links to this folder.
//!
//! A file under such a name is whole and durable: it is synced under a name in `uploads/`, renamed, and the folder is
//! synced before anyone is told. So a blob needs no row.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tandem_failpoint::{hit, try_hit};
use tandem_model::ByteSize;
use tandem_store::Reserve;
use tokio::task::spawn_blocking;

use super::{RegistryError, name::Digest};

/// For so long a client may count on a blob of which it heard that it is here, before its manifest comes.
const PROMISED: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    reserve: Reserve,
    /// Which blobs clients that push were told of, and when.
    promised: Mutex<HashMap<Digest, Instant>>,
}

impl Files {
    /// Opens the folder, making it if need be. Uploads of an earlier start are removed: their clients were told, and
    /// begin again.
    pub(super) fn open(folder: &Path, keep_free: ByteSize) -> io::Result<Self> {
        let files = Self {
            folder: folder.to_owned(),
            reserve: Reserve::new(folder, keep_free),
            promised: Mutex::default(),
        };
        if !files.blobs().exists() {
            fs::create_dir_all(files.blobs())?;
            let parent = folder.parent().filter(|p| !p.as_os_str().is_empty());
            for made in [Some(&*files.folder.join("blobs")), Some(folder), parent].into_iter().flatten() {
                File::open(made)?.sync_all()?;
            }
        }
        fs::create_dir_all(files.uploads())?;
        for entry in fs::read_dir(files.uploads())? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(&path)? } else { fs::remove_file(&path)? }
        }
        Ok(files)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs/sha256")
    }

    fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// A new name for what is on its way in.
    pub(super) fn incoming(&self) -> PathBuf {
        self.uploads().join(uuid::Uuid::new_v4().simple().to_string())
    }

    pub(super) fn reserve(&self) -> Reserve {
        self.reserve.clone()
    }

    pub(super) async fn size(&self, digest: &Digest) -> Result<Option<u64>, RegistryError> {
        match tokio::fs::metadata(self.blob(digest)).await {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn read(&self, digest: &Digest) -> Result<Vec<u8>, RegistryError> {
        Ok(tokio::fs::read(self.blob(digest)).await?)
    }

    /// Makes a complete file a blob. Its content must have this digest.
    pub(super) async fn adopt(
        &self,
        file: File,
        path: PathBuf,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        self.promise(digest);
        let (to, folder) = (self.blob(digest), self.blobs());
        blocking(move || {
            try_hit("registry.blob.written")?;
            file.sync_all()?;
            hit("registry.blob.synced");
            fs::rename(&path, &to)?;
            sync_folder(&folder);
            hit("registry.blob.named");
            Ok(())
        })
        .await
    }

    /// Keeps a small content.
    pub(super) async fn put(&self, content: Vec<u8>, digest: &Digest) -> Result<(), RegistryError> {
        if self.size(digest).await?.is_some() {
            return Ok(());
        }
        let (path, reserve) = (self.incoming(), self.reserve());
        let written = path.clone();
        let file = blocking(move || {
            if !reserve.allows(content.len() as u64)? {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let mut file = File::create_new(&written)?;
            file.write_all(&content)?;
            Ok(file)
        });
        let adopted = match file.await {
            Ok(file) => self.adopt(file, path.clone(), digest).await,
            Err(error) => Err(error),
        };
        if adopted.is_err() {
            // What is left goes at the next start at the latest.
            let _ = tokio::fs::remove_file(path).await;
        }
        adopted
    }

    /// Removes a blob that nothing refers to, unless somebody was promised it. Answers whether it is gone by this.
    ///
    /// Not synced: a blob that a crash brings back is one that nothing refers to, and a sweep takes it.
    pub(super) async fn remove(&self, digest: &Digest) -> bool {
        let doomed = self.incoming();
        let renamed = {
            let promised = self.promised();
            if promised.get(digest).is_some_and(|since| since.elapsed() < PROMISED) {
                return false;
            }
            // Under the lock: whoever is promised it after this will not find it.
            fs::rename(self.blob(digest), &doomed)
        };
        let removed = match renamed {
            Ok(()) => tokio::fs::remove_file(doomed).await,
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%digest, %error, "cannot remove a blob that nothing refers to; a sweep will");
                false
            }
            result => result.is_ok(),
        }
    }

    /// All blobs, and how long each has been here.
    pub(super) async fn list(&self) -> Result<Vec<(Digest, Duration)>, RegistryError> {
        let folder = self.blobs();
        blocking(move || {
            let now = SystemTime::now();
            let mut found = Vec::new();
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let Some(digest) = entry.file_name().to_str().and_then(Digest::from_hex) else { continue };
                let written = entry.metadata()?.modified()?;
                found.push((digest, now.duration_since(written).unwrap_or_default()));
            }
            Ok(found)
        })
        .await
    }

    fn promised(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that pushes was told that this is here: it will not send it.
    pub(super) fn promise(&self, digest: &Digest) {
        self.promised().insert(digest.clone(), Instant::now());
    }

    /// The manifest has come.
    pub(super) fn redeem<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        let mut promised = self.promised();
        digests.into_iter().for_each(|digest| _ = promised.remove(digest));
    }

    pub(super) fn forget_old_promises(&self) {
        self.promised().retain(|_, since| since.elapsed() < PROMISED);
    }
}

/// Runs file work on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, RegistryError> {
    Ok(spawn_blocking(work).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))?)
}

/// Makes names durable, or stops the process: the kernel tells of a failure once, and others share this folder.
fn sync_folder(folder: &Path) {
    let synced = try_hit("registry.folder.syncing").and_then(|()| File::open(folder)?.sync_all());
    if let Err(error) = synced {
        tracing::error!(%error, "cannot sync the folder of the registry's blobs to disk; stopping, so that nothing is acknowledged that is not there");
        std::process::abort();
    }
}
