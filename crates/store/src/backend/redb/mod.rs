//! The store in one file, by redb: a copy-on-write B-tree with checksums.
//!
//! One thread owns all writing ([`committer`]): concurrent commits become one redb transaction and share its one fsync.
//! Readers take redb's read transactions, which see what was committed when they began.
//!
//! What makes a commit true is redb's switch of its root, which the fsync at the end of the transaction makes durable.
//! A restart after a kill at any point before that finds the former root; the batch was not acknowledged, and all of it
//! is absent or, if the file happened to reach the disk, all of it is there.
//!
//! When the disk fails:
//! - below the reserve of free space a commit is refused with [`CommitError::Full`](crate::CommitError), and taken
//!   again once there is room;
//! - a write that fails in spite of it fails its group; the file is opened again at once, which returns to the last
//!   commit, and by whoever comes next if that fails;
//! - a failed fsync stops the process ([`file`]): the kernel may have dropped what it could not write, so nothing that
//!   this process reads afterwards tells what is on disk. The next start reads the file itself.

mod committer;
mod file;
mod snapshot;

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use async_trait::async_trait;
use redb::{Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition};
use tandem_model::{ByteSize, Explain};
use tokio::sync::{mpsc, oneshot};

use crate::{
    port::{Batch, CommitError, ReadError, Snapshot, Store},
    space::Reserve,
};
use committer::{Committer, Request};
use file::StoppingFile;
use snapshot::RedbSnapshot;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tandem");

/// How many commits may wait for the committer before a caller waits to hand its own over.
const QUEUE: usize = 1024;

/// How a store is kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Commits are refused while less than this is free on the file system.
    pub keep_free: ByteSize,
    /// Upper bound of the memory that keeps pages of the file.
    pub cache: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_free: ByteSize::mebibytes(64), cache: ByteSize::mebibytes(32) }
    }
}

/// A store that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the store `{}` is in use by another process", path.display())]
    InUse { path: PathBuf },
    #[error("the store `{}` is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot open the store `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot open the store `{}`", path.display())]
    Backend { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Explain for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "E0901",
            Self::Damaged { .. } => "E0902",
            Self::Io { .. } | Self::Backend { .. } => "E0903",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::InUse { .. } => {
                "stop the other cloud with `tandem serve --stop`, or use another TANDEM_HOME".to_owned()
            }
            Self::Damaged { path, .. } => {
                format!("restore `{}` from a backup, or move it away to start empty", path.display())
            }
            Self::Io { path, .. } | Self::Backend { path, .. } => {
                format!(
                    "check that `{}` is on a mounted file system and can be read and written",
                    path.display()
                )
            }
        }
    }
}

/// What the committer and the readers share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    options: Options,
    /// `None` once closed, and after a failed write until the file could be opened again.
    database: RwLock<Option<Database>>,
    /// For good.
    closed: AtomicBool,
}

impl Shared {
    /// Opens the file again if a failed write closed it.
    fn reopen(&self) -> Result<(), OpenError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() && !self.closed.load(Ordering::SeqCst) {
            *database = Some(open_database(&self.path, &self.options)?);
            tracing::warn!(path = %self.path.display(), "opened the store again after a failed write");
        }
        Ok(())
    }

    /// Closes it for good, or after a failed write: redb refuses everything then.
    fn close(&self, for_good: bool) {
        self.closed.fetch_or(for_good, Ordering::SeqCst);
        self.database.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn begin_read(&self) -> Result<RedbSnapshot, ReadError> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            // Who only reads must not wait for somebody who writes.
            self.reopen().map_err(|e| ReadError(Box::new(e)))?;
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| ReadError(Box::new(StorageError::DatabaseClosed)))?;
        let transaction = database.begin_read().map_err(|e| ReadError(Box::new(e)))?;
        let table = transaction.open_table(TABLE).map_err(|e| ReadError(Box::new(e)))?;
        Ok(RedbSnapshot::new(table))
    }
}

/// The store in one file.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl RedbStore {
    /// Opens the file, creating it if there is none. After a crash this reads the whole file once, to find the last
    /// commit that is complete.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it open, or if it is no store or a damaged one.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let database = open_database(path, &options)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            options: options.clone(),
            database: RwLock::new(Some(database)),
            closed: AtomicBool::new(false),
        });
        let (requests, queue) = mpsc::channel(QUEUE);
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let committer = Committer::new(shared.clone(), Reserve::new(folder, options.keep_free), queue);
        thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self { shared, requests })
    }
}

#[async_trait]
impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        Ok(Box::new(self.shared.begin_read()?))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Commit { batch, answer }).await.map_err(|_| CommitError::Closed)?;
        answered.await.map_err(|_| CommitError::Closed)?
    }

    async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        // Either failure means that it is closed already.
        if self.requests.send(Request::Close { answer }).await.is_ok() {
            let _ = answered.await;
        }
    }
}

/// Opens the file and makes sure that it has its table and that its name is on disk.
fn open_database(path: &Path, options: &Options) -> Result<Database, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let refused = |e: DatabaseError| match e {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Corrupted(reason)) => {
            OpenError::Damaged { path: path.to_owned(), reason }
        }
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::Damaged { path: path.to_owned(), reason: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => io(source),
        other => OpenError::Backend { path: path.to_owned(), source: Box::new(other) },
    };
    let fresh = !path.exists();
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    let database = redb::Builder::new()
        .set_cache_size(usize::try_from(options.cache.bytes()).unwrap_or(usize::MAX))
        .create_with_backend(StoppingFile::new(file).map_err(refused)?)
        .map_err(refused)?;
    if fresh {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    create_table(&database)
        .map_err(|source| OpenError::Backend { path: path.to_owned(), source: source.into() })?;
    Ok(database)
}

fn create_table(database: &Database) -> Result<(), redb::Error> {
    if database.begin_read()?.open_table(TABLE).is_ok() {
        return Ok(());
    }
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
