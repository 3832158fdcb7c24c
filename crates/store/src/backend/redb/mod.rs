//! The store in one file, by redb: a copy-on-write B-tree with checksums.
//!
//! One thread owns all writing ([`committer`]): concurrent commits become one redb transaction and share its one fsync.
//! Readers take redb's read transactions, which see what was committed when they began.
//!
//! What makes a commit true is the fsync of its record in the [`log`], which redb's file takes in later; of a large one it is
//! redb's switch of its root, which the fsync at the end of the transaction makes durable. A restart after a kill at any point
//! before that finds what was there before; the batch was not acknowledged, and all of it is absent or, if the file happened to
//! reach the disk, all of it is there.
//!
//! When the disk fails:
//! - below the reserve of free space a commit is refused with [`CommitError::Full`](crate::CommitError), and taken
//!   again once there is room;
//! - a write that fails in spite of it fails its group; the file is opened again at once, which returns to the last
//!   commit, and by whoever comes next if that fails. Readers go on: who has read nothing yet, or nothing that a commit
//!   has changed since, begins again where it was; the few others get an error ([`snapshot`]);
//! - a failed fsync stops the process ([`file`]): the kernel may have dropped what it could not write, so nothing that
//!   this process reads afterwards tells what is on disk. The next start reads the file itself;
//! - a page or a row that is not what was written is an error that names it ([`row`], [`damage`]), never an answer.
//!   All pages are checked at the start after a crash, and at every start while the file is small. Until then a damaged
//!   page of a large file can hide rows from a reader who asks for one of them.

mod committer;
mod damage;
mod failure;
mod file;
mod log;
mod row;
mod snapshot;

use std::{
    fmt,
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use async_trait::async_trait;
use redb::{
    Database, DatabaseError, ReadOnlyTable, ReadableDatabase, StorageBackend, StorageError, TableDefinition,
    TableError, backends::FileBackend,
};
use tandem_model::{ByteSize, Explain};
use tokio::sync::{mpsc, oneshot};

use crate::{
    port::{Batch, CommitError, ReadError, Snapshot, Store},
    space::Reserve,
};
use committer::{Committer, Request};
use file::{Later, Stopping};
use log::{Limits, Log, OnDisk};
use snapshot::RedbSnapshot;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tandem");

/// A file of at most so many bytes is checked whole at each start: some 10 ms.
const CHECKED_BYTES: u64 = 16 << 20;

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
                format!(
                    "restore a backup (`tandem restore`) into an empty TANDEM_HOME, or move `{}` and the log `{}`, if there is one, away to start empty",
                    path.display(),
                    path.with_extension("wal").display()
                )
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
struct Shared {
    /// Named in errors.
    path: Arc<Path>,
    /// Opens what is written to; also after a failed write.
    open: Box<Open>,
    opened: RwLock<Opened>,
    /// For good.
    closed: AtomicBool,
    /// Counts the beginning and the end of each commit that happens. While it is even and stays the same, all readers
    /// that begin see the same.
    commits: AtomicU64,
}

type Open = dyn Fn() -> Result<(Database, Log), OpenError> + Send + Sync;

struct Opened {
    /// `None` once closed, and after a failed write until the file could be opened again.
    files: Option<Files>,
    /// How often it was opened again.
    generation: u64,
}

struct Files {
    database: Database,
    /// The committer's.
    log: Mutex<Log>,
}

impl From<(Database, Log)> for Files {
    fn from((database, log): (Database, Log)) -> Self {
        Self { database, log: Mutex::new(log) }
    }
}

/// What a reader begins with.
struct Begun {
    table: ReadOnlyTable<&'static [u8], &'static [u8]>,
    generation: u64,
    /// What [`Shared::commits`] was before.
    commits: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Shared {
    fn opened(&self) -> RwLockReadGuard<'_, Opened> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file again after a failed write, because redb refuses everything then, reads too. `generation` is what
    /// the caller saw fail: whoever is first does it, and all others wait until it is done.
    fn renew(&self, generation: u64) -> Result<(), OpenError> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        let done = opened.generation != generation && opened.files.is_some();
        if done || self.closed.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.let_go(&mut opened);
        opened.files = Some((self.open)()?.into());
        opened.generation += 1;
        tracing::warn!(path = %self.path.display(), "opened the store again after a failed write");
        Ok(())
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.let_go(&mut self.opened.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Within the lock: until redb has let go of the file, nobody can open it.
    fn let_go(&self, opened: &mut Opened) {
        let files = opened.files.take();
        if let Err(damage) = damage::caught(&self.path, || drop(files)) {
            tracing::error!(%damage, "closing the store");
        }
    }

    fn begin_read(&self) -> Result<Begun, ReadError> {
        loop {
            let generation = match self.try_begin_read() {
                Ok(begun) => return Ok(begun),
                Err((generation, error)) if self.is_outdated(&error) => generation,
                Err((_, error)) => return Err(error),
            };
            // Who only reads must not wait for somebody who writes.
            self.renew(generation).map_err(|error| match error {
                OpenError::Damaged { path, reason } => {
                    ReadError(Box::new(crate::port::Damage { path, what: reason }))
                }
                other => ReadError(Box::new(other)),
            })?;
        }
    }

    fn try_begin_read(&self) -> Result<Begun, (u64, ReadError)> {
        let commits = self.commits.load(Ordering::SeqCst);
        let opened = self.opened();
        let generation = opened.generation;
        let table = damage::read(&self.path, || {
            let files = opened.files.as_ref().ok_or(StorageError::DatabaseClosed)?;
            files.database.begin_read()?.open_table(TABLE).map_err(redb::Error::from)
        });
        match table {
            Ok(table) => Ok(Begun { table, generation, commits }),
            Err(error) => Err((generation, error)),
        }
    }

    /// Whether this is what redb says to everybody after a failed write.
    fn is_outdated(&self, error: &ReadError) -> bool {
        let refused =
            matches!(error.0.downcast_ref(), Some(redb::Error::PreviousIo | redb::Error::DatabaseClosed));
        refused && !self.closed.load(Ordering::SeqCst)
    }
}

/// The store in one file.
#[derive(Debug)]
pub struct RedbStore {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl RedbStore {
    /// Opens the file, creating it if there is none. While it is open there is a log beside it, with the ending `wal`. After a
    /// crash this reads the whole file once, to find the last commit that is complete, and what the log has beyond it; a small
    /// file is read and checked each time.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it open, or if it is no store or a damaged one.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path: Arc<Path> = path.as_ref().into();
        let reserve = Reserve::new(folder_of(&path), options.keep_free);
        let file = path.clone();
        Self::start(path, reserve, Box::new(move || open_database(&file, &options)))
    }

    /// Starts on what `open` opens.
    fn start(path: Arc<Path>, reserve: Reserve, open: Box<Open>) -> Result<Self, OpenError> {
        let opened = RwLock::new(Opened { files: Some(open()?.into()), generation: 0 });
        let (closed, commits) = (AtomicBool::new(false), AtomicU64::new(0));
        let shared = Arc::new(Shared { path, open, opened, closed, commits });
        let (requests, queue) = mpsc::channel(QUEUE);
        let committer = Committer::new(shared.clone(), reserve, queue);
        thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| OpenError::Io { path: shared.path.to_path_buf(), source })?;
        Ok(Self { shared, requests })
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[async_trait]
impl Store for RedbStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        Ok(Box::new(RedbSnapshot::begin(self.shared.clone())?))
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
fn open_database(path: &Path, options: &Options) -> Result<(Database, Log), OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let fresh = !path.exists();
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
    let small = file.metadata().map_err(io)?.len() <= CHECKED_BYTES;
    let file = FileBackend::new(file).map_err(|e| refused(path, e))?;
    let place = Arc::new(OnDisk(path.with_extension("wal")));
    let log = move |database: &_, later| Log::recover(path, database, later, place, Limits::default());
    let files = database_on(path, Stopping::new(file), options.cache, small, log)?;
    if fresh {
        File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(io)?;
    }
    Ok(files)
}

/// Opens what is in `backend`, and checks all of it if `check`; and its `log`. `path` is its name in errors.
fn database_on(
    path: &Path,
    backend: Stopping<impl StorageBackend>,
    cache: ByteSize,
    check: bool,
    log: impl FnOnce(&Database, Arc<Later>) -> Result<Log, OpenError>,
) -> Result<(Database, Log), OpenError> {
    // What a process that was killed has written, and nobody has synced, must be there also after a power cut once it was read.
    backend.sync_data().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let later = backend.later();
    let opened = damage::caught(path, || {
        let database = redb::Builder::new()
            .set_cache_size(usize::try_from(cache.bytes()).unwrap_or(usize::MAX))
            .set_check_integrity_on_open(check)
            .create_with_backend(backend)
            .map_err(|e| refused(path, e))?;
        create_table(&database).map_err(|e| match e {
            redb::Error::Corrupted(reason) => OpenError::Damaged { path: path.to_owned(), reason },
            redb::Error::Io(source) => OpenError::Io { path: path.to_owned(), source },
            other => OpenError::Backend { path: path.to_owned(), source: other.into() },
        })?;
        let log = log(&database, later)?;
        Ok((database, log))
    });
    opened.unwrap_or_else(|damage| Err(OpenError::Damaged { path: damage.path, reason: damage.what }))
}

fn refused(path: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: path.to_owned() },
        DatabaseError::Storage(StorageError::Corrupted(reason)) => {
            OpenError::Damaged { path: path.to_owned(), reason }
        }
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() == io::ErrorKind::InvalidData => {
            OpenError::Damaged { path: path.to_owned(), reason: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Io { path: path.to_owned(), source },
        other => OpenError::Backend { path: path.to_owned(), source: Box::new(other) },
    }
}

fn create_table(database: &Database) -> Result<(), redb::Error> {
    match database.begin_read()?.open_table(TABLE) {
        Err(TableError::TableDoesNotExist(_)) => {}
        other => return other.map(drop).map_err(redb::Error::from),
    }
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
