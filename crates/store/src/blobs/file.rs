//! Blobs as files of one folder, named by their id.
//!
//! Written under the final name at once: the name is unique and nothing refers to it before it is finished, so there is
//! nothing that a rename would protect.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Seek, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use rustix::{
    buffer::spare_capacity,
    fs::{Advice, fadvise},
    io::{Errno, pread},
};
use tandem_failpoint::{hit, try_hit};
use tandem_model::ByteSize;
use tokio::task::{self, JoinHandle};

use super::{BlobError, BlobId, BlobStream, BlobWriter, Blobs, Swept};
use crate::space::Reserve;

/// How much is gathered before a thread writes it.
const WRITE_BYTES: usize = 1 << 20;
/// How much a thread reads at once.
const READ_BYTES: u64 = 256 << 10;

/// Blobs as files of one folder.
#[derive(Debug)]
pub struct FileBlobs {
    folder: Arc<Folder>,
    start: u128,
    next: AtomicU64,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    handle: File,
    reserve: Reserve,
}

impl Folder {
    fn file(&self, id: BlobId) -> PathBuf {
        self.path.join(id.to_string())
    }
}

impl FileBlobs {
    /// Opens the folder, creating it if there is none. `keep_free` is the reserve below which nothing is written.
    /// One process at a time may use a folder: a sweep takes what another process writes for left over.
    ///
    /// # Errors
    /// If the folder cannot be made or opened.
    pub fn open(path: impl Into<PathBuf>, keep_free: ByteSize) -> Result<Self, BlobError> {
        let path = path.into();
        let open = || -> io::Result<File> {
            fs::create_dir_all(&path)?;
            if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
            File::open(&path)
        };
        let handle = open().map_err(|source| BlobError::Io { action: "open the folder for", source })?;
        let reserve = Reserve::new(&path, keep_free);
        let start = uuid::Uuid::now_v7().as_u128();
        Ok(Self { folder: Arc::new(Folder { path, handle, reserve }), start, next: AtomicU64::new(0) })
    }

    /// Puts a blob back under the name that it had in a backup. Not synced: whoever restores syncs all of it at once,
    /// before a store refers to it. One that is there already is read over and left as it is.
    ///
    /// # Errors
    /// [`io::Error`] if the content cannot be read to its end or written.
    pub fn put_back(folder: &Path, id: BlobId, content: &mut dyn io::Read) -> io::Result<()> {
        match File::create_new(folder.join(id.to_string())) {
            Ok(mut file) => io::copy(content, &mut file)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => io::copy(content, &mut io::sink())?,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    fn ids(folder: &Path) -> io::Result<Vec<BlobId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(folder)? {
            if let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

/// Runs file work on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    joined(task::spawn_blocking(work)).await
}

async fn joined<T>(handle: JoinHandle<io::Result<T>>) -> io::Result<T> {
    handle.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

fn failed(action: &'static str) -> impl Fn(io::Error) -> BlobError {
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => BlobError::Full,
        _ => BlobError::Io { action, source },
    }
}

#[async_trait]
impl Blobs for FileBlobs {
    async fn create(&self) -> Result<Box<dyn BlobWriter>, BlobError> {
        let id = BlobId { start: self.start, number: self.next.fetch_add(1, Ordering::Relaxed) };
        let folder = self.folder.clone();
        let writer = blocking(move || {
            if !folder.reserve.allows(0)? {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            try_hit("blob.file.creating")?;
            let file = File::create_new(folder.file(id))?;
            // Made here, so that a file which nobody waits for any more is removed as well.
            Ok(FileWriter {
                id,
                folder,
                state: State::Idle(file),
                gathered: Vec::new(),
                bytes: 0,
                finished: false,
            })
        });
        Ok(Box::new(writer.await.map_err(failed("create"))?))
    }

    async fn open(&self, id: BlobId, range: Range<u64>) -> Result<BlobStream, BlobError> {
        let path = self.folder.file(id);
        let opened = blocking(move || {
            let file = File::open(path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        });
        let (file, found) = opened.await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { id },
            _ => failed("open")(e),
        })?;
        if found < range.end {
            return Err(BlobError::Short { id, found, needed: range.end });
        }
        let file = Arc::new(file);
        let pieces = stream::iter(pieces(range)).map(move |piece| {
            let file = file.clone();
            blocking(move || read(&file, piece))
        });
        // One piece is read while the last one is sent.
        Ok(pieces.buffered(2).boxed())
    }

    async fn delete(&self, id: BlobId) -> Result<(), BlobError> {
        let path = self.folder.file(id);
        match blocking(move || fs::remove_file(path)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("delete")(error)),
            // Not synced: a blob that a crash brings back is one that nothing refers to, and the sweep takes it.
            _ => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<BlobId>, BlobError> {
        let folder = self.folder.clone();
        blocking(move || Self::ids(&folder.path)).await.map_err(failed("list"))
    }

    async fn sweep(&self, referenced: &(dyn Fn(BlobId) -> bool + Send + Sync)) -> Result<Swept, BlobError> {
        let mut ids = self.list().await?;
        ids.retain(|id| id.start != self.start && !referenced(*id));
        let folder = self.folder.clone();
        let sweep = move || {
            let mut swept = Swept::default();
            for id in ids {
                let path = folder.file(id);
                let bytes = fs::metadata(&path).map_or(0, |meta| meta.len());
                match fs::remove_file(&path) {
                    Ok(()) => {
                        swept.blobs += 1;
                        swept.bytes += bytes;
                    }
                    Err(error) => tracing::warn!(%id, %error, "cannot remove a blob that nothing refers to"),
                }
            }
            Ok(swept)
        };
        blocking(sweep).await.map_err(failed("sweep"))
    }
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        (at < range.end).then(|| {
            let from = at;
            at = range.end.min(from.saturating_add(READ_BYTES));
            from..at
        })
    })
}

fn read(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    // At most READ_BYTES, which any usize holds. Not zeroed first: that took a tenth of the time of a large GET.
    let length = (range.end - range.start) as usize;
    let mut buffer = Vec::with_capacity(length);
    while buffer.len() < length {
        let at = range.start + buffer.len() as u64;
        match pread(file, spare_capacity(&mut buffer), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(length);
    Ok(buffer.into())
}

/// The file, or the thread that has it.
enum State {
    Idle(File),
    Writing(JoinHandle<io::Result<File>>),
    Failed,
}

struct FileWriter {
    id: BlobId,
    folder: Arc<Folder>,
    state: State,
    gathered: Vec<Bytes>,
    bytes: usize,
    finished: bool,
}

impl FileWriter {
    /// Takes the file back from the thread that writes. An error leaves the writer failed.
    async fn idle(&mut self) -> io::Result<File> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(file) => Ok(file),
            State::Writing(handle) => joined(handle).await,
            State::Failed => Err(io::Error::other("an earlier write of this blob failed")),
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.gathered)
    }
}

#[async_trait]
impl BlobWriter for FileWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.bytes += bytes.len();
        self.gathered.push(bytes);
        if self.bytes >= WRITE_BYTES {
            let mut file = self.idle().await.map_err(failed("write"))?;
            let (pieces, folder, size) = (self.take(), self.folder.clone(), WRITE_BYTES as u64);
            self.state = State::Writing(task::spawn_blocking(move || {
                if !folder.reserve.allows(size)? {
                    return Err(io::Error::from(io::ErrorKind::StorageFull));
                }
                let from = file.stream_position()?;
                write_all(&mut file, &pieces)?;
                begin_to_sync(&file, from);
                Ok(file)
            }));
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobId, BlobError> {
        let mut file = self.idle().await.map_err(failed("write"))?;
        let (pieces, folder) = (self.take(), self.folder.clone());
        blocking(move || {
            write_all(&mut file, &pieces)?;
            // What a failed sync may have lost is this body alone, and no other handle wrote to it: it is given up.
            try_hit("blob.file.written")?;
            file.sync_all()?;
            sync_folder(&folder.handle);
            hit("blob.file.synced");
            Ok(())
        })
        .await
        .map_err(failed("write"))?;
        self.finished = true;
        Ok(self.id)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.finished {
            // A thread may still write to the file; it then writes to one that has no name any more.
            if let Err(error) = fs::remove_file(self.folder.file(self.id)) {
                tracing::warn!(id = %self.id, %error, "cannot remove an unfinished blob; the next start will");
            }
        }
    }
}

fn write_all(file: &mut File, pieces: &[Bytes]) -> io::Result<()> {
    try_hit("blob.file.writing")?;
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut left = &mut slices[..];
    // Empty pieces at the end would look like a disk that takes nothing.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match file.write_vectored(left) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(written) => IoSlice::advance_slices(&mut left, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lets the disk begin with what was just written, so that little is left to wait for at the end. It only asks: the
/// sync at the end is what counts, and tells of failures. The advice begins to write what is dirty, and forgets what is
/// clean, which nothing is yet. (`sync_file_range`, which is meant for this, has no safe wrapper.)
fn begin_to_sync(file: &File, from: u64) {
    let _ = fadvise(file, from, None, Advice::DontNeed);
}

/// Makes names durable, or stops the process. The kernel reports a failure once, and the bodies that are written at the
/// same time share this folder: they would be acknowledged without their names. See the [store](crate::backend), too.
fn sync_folder(folder: &File) {
    if let Err(error) = try_hit("blob.folder.syncing").and_then(|()| folder.sync_all()) {
        tracing::error!(%error, "cannot sync the folder of blobs to disk; stopping, so that nothing is acknowledged that is not there");
        std::process::abort();
    }
}
