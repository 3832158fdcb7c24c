//! Taking a backup: one pass, with the memory of one entry of rows.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Read, Seek, Write},
    ops::ControlFlow,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use jiff::Timestamp;
use tandem_engine::Stacks;
use tandem_failpoint::hit;
use tandem_store::{
    BlobError, BlobId, Blobs, Direction, FileBlobs, Options, RedbStore, Snapshot, Store, blobs::BlobStream,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedRwLockWriteGuard, RwLock},
};

use super::{
    ADDRESS, BackupError, FORMAT, MANIFEST, Manifest, NAMED, Progress, ROOT_KEY, Summary, format, rows,
};
use crate::{archive::Archives, bucket, home::Home, target};

/// What a backup copies.
#[derive(Debug)]
pub struct Sources {
    pub home: Home,
    pub store: Arc<dyn Store>,
    pub blobs: Arc<dyn Blobs>,
    /// `None`: no cloud runs, and none can start meanwhile.
    pub live: Option<Live>,
}

/// What keeps a running cloud's records together while they are copied.
#[derive(Debug)]
pub struct Live {
    /// See [`CloudTarget::commits`](target::CloudTarget::commits).
    pub target: Arc<RwLock<()>>,
    pub hold: bucket::Hold,
}

impl Sources {
    /// Those of a cloud that does not run. The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`BackupError::Nothing`] if there is none; those of the store if it cannot be opened.
    pub fn at_rest(home: Home) -> Result<Self, BackupError> {
        if home.restoring().exists() || !home.store().exists() {
            return Err(BackupError::Nothing { home: home.path().to_owned() });
        }
        let options = Options::default();
        let blobs = Arc::new(FileBlobs::open(home.blobs(), options.keep_free)?);
        let store = Arc::new(RedbStore::open(home.store(), options)?);
        Ok(Self { home, store, blobs, live: None })
    }
}

/// Writes a backup to `file`, which others than its owner cannot read: it has the root key. `told` hears how far it is,
/// often, and may break it off.
///
/// # Errors
/// [`BackupError::Exists`] if the file is there, unless `force`. On every error `file` is as it was.
pub async fn take(
    sources: Sources,
    file: &Path,
    force: bool,
    told: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
) -> Result<Summary, BackupError> {
    let file = file.to_owned();
    refuse_existing(&file, force)?;
    let pause = match &sources.live {
        Some(live) => Some(live.target.clone().write_owned().await),
        None => None,
    };
    let work = move || {
        let partial = Partial::create(&file)?;
        let summary = write(&sources, pause, &partial, told)?;
        refuse_existing(&file, force)?;
        partial.finish(&file)?;
        Ok(summary)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn refuse_existing(file: &Path, force: bool) -> Result<(), BackupError> {
    match fs::symlink_metadata(file) {
        Ok(_) if !force => Err(BackupError::Exists { file: file.to_owned() }),
        Ok(meta) if meta.is_dir() => Err(BackupError::Write {
            path: file.to_owned(),
            source: io::Error::from(io::ErrorKind::IsADirectory),
        }),
        _ => Ok(()),
    }
}

/// The file while it is written; removed unless finished.
struct Partial {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Partial {
    fn create(file: &Path) -> Result<Self, BackupError> {
        let mut name = file.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = file.with_file_name(name);
        let failed = |source| BackupError::Write { path: path.clone(), source };
        // What an earlier one left may be open to others: only a new file is surely ours.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(failed)?;
        Ok(Self { path, file, finished: false })
    }

    fn finish(mut self, file: &Path) -> Result<(), BackupError> {
        let failed = |source| BackupError::Write { path: file.to_owned(), source };
        self.file.sync_all().map_err(failed)?;
        hit("backup.file.synced");
        fs::rename(&self.path, file).map_err(failed)?;
        self.finished = true;
        let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes to the file, and leaves the cloud the room that it keeps free if it shares its disk.
struct Sparing<'a> {
    file: &'a File,
    /// How much stays free; `None`: it is another disk.
    reserve: Option<u64>,
    unchecked: u64,
}

impl<'a> Sparing<'a> {
    const STEP: u64 = 8 << 20;

    fn new(file: &'a File, home: &Home) -> io::Result<Self> {
        let shared = file.metadata()?.dev() == fs::metadata(home.path())?.dev();
        let reserve = shared.then(|| Options::default().keep_free.bytes());
        Ok(Self { file, reserve, unchecked: Self::STEP })
    }
}

impl Write for Sparing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(reserve) = self.reserve
            && self.unchecked >= Self::STEP
        {
            let stat = nix::sys::statvfs::fstatvfs(self.file)?;
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            if free < reserve.saturating_add(Self::STEP) {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.unchecked = 0;
        }
        let written = self.file.write(bytes)?;
        self.unchecked += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

type Out<'a> = format::Writer<BufWriter<Sparing<'a>>>;

/// The pass: what must be of one moment first, then what stays as it is.
fn write(
    sources: &Sources,
    pause: Option<OwnedRwLockWriteGuard<()>>,
    to: &Partial,
    mut told: impl FnMut(Progress) -> ControlFlow<()>,
) -> Result<Summary, BackupError> {
    let home = &sources.home;
    let failed = |source| BackupError::Write { path: to.path.clone(), source };
    let sparing = Sparing::new(&to.file, home).map_err(failed)?;
    let taken = Timestamp::now();
    let mut out = Out::new(
        BufWriter::with_capacity(256 << 10, sparing),
        u64::try_from(taken.as_second()).unwrap_or_default(),
    );
    let mut summary = Summary::default();

    let snapshot = sources.store.snapshot()?;
    summary.cloud = target::identity(&*snapshot)
        .map_err(|source| BackupError::Damaged { file: home.store(), what: source.to_string() })?;
    let manifest = Manifest {
        format: FORMAT,
        tandem: env!("CARGO_PKG_VERSION").to_owned(),
        cloud: summary.cloud.clone(),
        taken,
    };
    let add = |out: &mut Out<'_>, name: &str, bytes: &[u8]| {
        out.add(name, bytes.len() as u64, &mut &bytes[..]).map_err(failed)
    };
    add(&mut out, MANIFEST, &serde_json::to_vec_pretty(&manifest).expect("a manifest is strings"))?;
    for (name, path) in [(ROOT_KEY, home.root_key()), (ADDRESS, home.address())] {
        match fs::read(&path) {
            Ok(bytes) => add(&mut out, name, &bytes)?,
            // A cloud that never came so far has neither.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BackupError::Read { path, source }),
        }
    }
    let stacks = Stacks::new(home.stacks());
    for stack in stacks.list()? {
        for (name, bytes) in stacks.copy(&stack)? {
            add(&mut out, &format!("stacks/{stack}/{name}"), &bytes)?;
        }
        summary.stacks += 1;
    }
    // Both records are ours: changes may go on.
    drop(pause);
    hit("backup.moment.passed");

    let told = &mut told;
    let mut tell = |out: &Out<'_>, of: Option<u64>| match told(Progress { bytes: out.bytes(), of }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(BackupError::GivenUp),
    };
    let mut chunk = Vec::with_capacity(rows::ENTRY_BYTES + (64 << 10));
    let mut entries = 0;
    let mut last: Option<Bytes> = None;
    // All keys: they begin with a letter.
    for row in snapshot.range(&[], &[u8::MAX], Direction::Ascending)? {
        let (key, value) = row?;
        if last.as_ref().is_some_and(|last| *last >= key) {
            let what = format!("the row `{}` is out of its order", key.escape_ascii());
            return Err(BackupError::Damaged { file: home.store(), what });
        }
        rows::encode(&key, &value, &mut chunk).map_err(failed)?;
        summary.rows += 1;
        last = Some(key);
        if chunk.len() >= rows::ENTRY_BYTES {
            add(&mut out, &rows::name(entries), &chunk)?;
            entries += 1;
            chunk.clear();
            tell(&out, None)?;
        }
    }
    if !chunk.is_empty() {
        add(&mut out, &rows::name(entries), &chunk)?;
    }
    drop(chunk);
    // From here on the snapshot is not needed: while it lives the store's file cannot use its pages again.
    let mut named = Named::spool(&*snapshot, home)?;
    drop(snapshot);

    let archives = Archives::new(home.archives());
    let folder = |source| BackupError::Read { path: home.archives(), source };
    let mut of = out.bytes() + named.bytes;
    let files = archives.list().map_err(folder)?;
    for (_, path) in &files {
        of += fs::metadata(path).map_err(folder)?.len();
    }
    for (hash, path) in files {
        let mut archive = File::open(&path).map_err(folder)?;
        let size = archive.metadata().map_err(folder)?.len();
        out.add(&format!("archives/{hash}"), size, &mut archive).map_err(failed)?;
        summary.archives += 1;
        tell(&out, Some(of))?;
    }
    let runtime = Handle::current();
    while let Some((id, size)) = named.next().map_err(failed)? {
        match runtime.block_on(sources.blobs.open(id, 0..size)) {
            Ok(stream) => {
                let mut body = Body { runtime: &runtime, stream, piece: Bytes::new(), failed: false };
                let added = out.add(&format!("blobs/{id}"), size, &mut body);
                added.map_err(|source| match body.failed {
                    true => BackupError::Read { path: home.blobs().join(id.to_string()), source },
                    false => failed(source),
                })?;
                summary.bodies += 1;
            }
            // Gone before: the backup keeps what there is, and says what there is not.
            Err(error @ (BlobError::Missing { .. } | BlobError::Short { .. })) => {
                tracing::warn!(%error, "not in the backup");
                summary.lost_bodies += 1;
                if summary.lost.len() < NAMED {
                    summary.lost.push(error.to_string());
                }
            }
            Err(error) => return Err(error.into()),
        }
        tell(&out, Some(of))?;
    }
    summary.bytes = out.bytes();
    let mut buffered = out.finish(summary.clone()).map_err(failed)?;
    buffered.flush().map_err(failed)?;
    drop(buffered);
    summary.bytes = to.file.metadata().map_err(failed)?.len();
    Ok(summary)
}

/// The blobs that a snapshot's rows name, in a nameless file: there may be millions.
struct Named {
    list: io::BufReader<File>,
    bytes: u64,
}

impl Named {
    fn spool(snapshot: &dyn Snapshot, home: &Home) -> Result<Self, BackupError> {
        let failed = |source| BackupError::Write { path: home.path().to_owned(), source };
        let mut file = tempfile::tempfile_in(home.path()).map_err(failed)?;
        let mut to = BufWriter::new(&mut file);
        let (mut bytes, mut written) = (0, Ok(()));
        let mut name = |id: BlobId, size: u64| {
            bytes += size;
            if written.is_ok() {
                written = writeln!(to, "{id} {size}");
            }
        };
        bucket::references(snapshot, &mut name, &mut |_| {})?;
        written.and_then(|()| to.flush()).map_err(failed)?;
        drop(to);
        file.rewind().map_err(failed)?;
        Ok(Self { list: io::BufReader::new(file), bytes })
    }

    fn next(&mut self) -> io::Result<Option<(BlobId, u64)>> {
        let mut line = String::new();
        if io::BufRead::read_line(&mut self.list, &mut line)? == 0 {
            return Ok(None);
        }
        let parsed = line
            .trim_end()
            .split_once(' ')
            .and_then(|(id, size)| Some((id.parse().ok()?, size.parse().ok()?)));
        parsed.map(Some).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }
}

/// The bytes of a blob, for a reader that blocks.
struct Body<'a> {
    runtime: &'a Handle,
    stream: BlobStream,
    piece: Bytes,
    failed: bool,
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
