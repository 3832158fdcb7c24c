//! Restoring a backup: everything is checked and on disk, out of the way, before anything is moved to its place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read},
    ops::ControlFlow,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tandem_engine::Stacks;
use tandem_failpoint::{hit, try_hit};
use tandem_model::StackId;
use tandem_store::{Batch, BlobId, CommitError, FileBlobs, OpenError, Options, RedbStore, Store};
use tokio::runtime::Handle;

use super::{
    ADDRESS, BackupError, FORMAT, MANIFEST, Manifest, Progress, ROOT_KEY, Summary,
    format::{self, Fault},
    rows,
};
use crate::{archive::Archives, home::Home, image, registry};

/// What an empty home may have all the same: the lock that the caller holds, its settings, what a cloud left that could not start, and
/// what file systems put into their root.
const NOTHING: [&str; 5] = ["cloud.lock", "config.yaml", "control.sock", "serve.log", "lost+found"];

/// Restores the cloud that is in `file` into `home`, which must be empty. The caller holds the folder's lock. `told`
/// hears how far it is, and may break it off.
///
/// # Errors
/// [`BackupError::NotEmpty`]; [`BackupError::Damaged`] names the entry. `home` is as empty as it was on every error but
/// a [`BackupError::Restore`] at the very end, after which a cloud refuses to start there until a restore went through.
pub async fn restore(
    home: &Home,
    file: &Path,
    told: impl FnMut(Progress) -> ControlFlow<()> + Send + 'static,
) -> Result<Summary, BackupError> {
    let (home, file) = (home.clone(), file.to_owned());
    let work = move || {
        let unreadable = |source| BackupError::Read { path: file.clone(), source };
        let source = File::open(&file).map_err(unreadable)?;
        let size = source.metadata().map_err(unreadable)?.len();
        let mut staging = Staging::begin(&home)?;
        let mut summary =
            staging.fill(&file, Told { from: source, told, read: 0, of: size, given_up: false })?;
        staging.publish()?;
        summary.bytes = size;
        Ok(summary)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The folder in which a restored cloud is put together; the same names as in its home.
struct Staging {
    home: Home,
    inside: Home,
    /// What is removed when it is dropped.
    state: State,
}

#[derive(PartialEq)]
enum State {
    Filling,
    /// Something may have been moved to its place: only another restore may clear that.
    Moving,
}

impl Staging {
    fn begin(home: &Home) -> Result<Self, BackupError> {
        let failed = failed(home);
        let folder = home.restoring();
        if folder.exists() {
            // Whatever else is here came out of it: it was made in an empty folder, and no cloud starts beside it.
            for path in places(home) {
                remove(&path).map_err(&failed)?;
            }
            remove(&folder).map_err(&failed)?;
        }
        for entry in fs::read_dir(home.path()).map_err(&failed)? {
            let found = entry.map_err(&failed)?.file_name().to_string_lossy().into_owned();
            if !NOTHING.contains(&found.as_str()) {
                return Err(BackupError::NotEmpty { home: home.path().to_owned(), found });
            }
        }
        try_hit("restore.home.marking").and_then(|()| fs::create_dir(&folder)).map_err(&failed)?;
        // From here on it is removed again if this fails.
        let staging = Self { home: home.clone(), inside: Home::new(folder), state: State::Filling };
        sync(home.path()).map_err(failed)?;
        hit("restore.home.marked");
        Ok(staging)
    }

    fn fill(
        &mut self,
        file: &Path,
        mut from: Told<impl FnMut(Progress) -> ControlFlow<()>>,
    ) -> Result<Summary, BackupError> {
        let inside = &self.inside;
        let failed = failed(&self.home);
        fs::create_dir_all(inside.blobs()).map_err(&failed)?;
        // The space is checked by the disk itself: what does not fit fails, and leaves nothing.
        let options = Options { keep_free: tandem_model::ByteSize(0), ..Options::default() };
        let store = RedbStore::open(inside.store(), options).map_err(|error| match error {
            OpenError::Io { source, .. } => failed(source),
            other => other.into(),
        })?;
        let mut content =
            Content { inside, store: &store, recognised: false, error: None, summary: Summary::default() };
        let read = format::read(BufReader::with_capacity(256 << 10, &mut from), &mut |name, size, entry| {
            content.put(name, size, entry)
        });
        let Content { recognised, error, summary, .. } = content;
        Handle::current().block_on(store.close());
        drop(store);
        if from.given_up {
            return Err(BackupError::GivenUp);
        }
        let damaged = |what| BackupError::Damaged { file: file.to_owned(), what };
        let end = match read {
            Ok(end) => end,
            // Whatever is wrong with a file that never said what it is.
            Err(_) if !recognised => return Err(BackupError::Foreign { file: file.to_owned() }),
            Err(Fault::Damaged(what)) => return Err(damaged(what)),
            Err(Fault::Sink(source)) => {
                return Err(match error {
                    Some(Problem::Format(format)) => {
                        BackupError::Newer { file: file.to_owned(), format, known: FORMAT }
                    }
                    Some(Problem::Unknown(what)) => damaged(what),
                    Some(Problem::Commit(CommitError::Full)) => failed(nix::errno::Errno::ENOSPC.into()),
                    Some(Problem::Commit(error)) => error.into(),
                    None => failed(source),
                });
            }
        };
        if (summary.rows, summary.bodies) != (end.summary.rows, end.summary.bodies) {
            let what = format!("{} of {} rows are in it", summary.rows, end.summary.rows);
            return Err(damaged(what));
        }
        // Everything at once; a sync for each of many small files would take hours.
        try_hit("restore.content.syncing")
            .and_then(|()| File::open(inside.path()))
            .and_then(|folder| nix::unistd::syncfs(&folder).map_err(io::Error::from))
            .map_err(failed)?;
        hit("restore.content.synced");
        Ok(end.summary)
    }

    /// Moves everything to its place. What makes it true is the removal of the folder at the end.
    fn publish(mut self) -> Result<(), BackupError> {
        self.state = State::Moving;
        let failed = failed(&self.home);
        for (from, to) in places(&self.inside).into_iter().zip(places(&self.home)) {
            match try_hit("restore.entry.moving").and_then(|()| fs::rename(&from, &to)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => hit("restore.entry.moved"),
            }
        }
        sync(self.home.path()).map_err(&failed)?;
        hit("restore.entries.synced");
        try_hit("restore.mark.removing")
            .and_then(|()| fs::remove_dir(self.inside.path()))
            .and_then(|()| sync(self.home.path()))
            .map_err(failed)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.state == State::Filling {
            let _ = remove(self.inside.path());
        }
    }
}

/// An error of the disk under a home that is being restored.
fn failed(home: &Home) -> impl Fn(io::Error) -> BackupError {
    let home = home.path().to_owned();
    move |source| BackupError::Restore { home: home.clone(), source }
}

/// What a restored home has, in the order in which it is moved.
fn places(home: &Home) -> [PathBuf; 5] {
    [home.data(), home.archives(), home.stacks(), home.root_key(), home.address()]
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Puts entries to their place.
struct Content<'a> {
    inside: &'a Home,
    store: &'a RedbStore,
    /// Whether it begins as a backup does.
    recognised: bool,
    error: Option<Problem>,
    summary: Summary,
}

/// What else than the disk can be in the way.
enum Problem {
    Format(u32),
    Unknown(String),
    Commit(CommitError),
}

impl Content<'_> {
    fn put(&mut self, name: &str, size: u64, entry: &mut dyn Read) -> io::Result<()> {
        self.recognised |= name == MANIFEST;
        if !self.recognised {
            return self.fail(Problem::Unknown(format!("it begins with `{name}`")));
        }
        let (kind, rest) = name.split_once('/').unwrap_or((name, ""));
        match (kind, rest) {
            (MANIFEST, "") => self.manifest(size, entry),
            (ROOT_KEY, "") => write_new(&self.inside.root_key(), entry),
            (ADDRESS, "") => write_new(&self.inside.address(), entry),
            ("rows", _) => self.rows(name, entry),
            ("stacks", of) => match stack_file(of) {
                Some((stack, file)) => {
                    let folder = self.inside.stacks().join(stack.project.as_str()).join(stack.stack.as_str());
                    fs::create_dir_all(&folder)?;
                    write_new(&folder.join(file), entry)
                }
                None => self.unknown(name),
            },
            ("archives", hash) => {
                match Archives::new(self.inside.archives()).path(&format!("sha256:{hash}")) {
                    Ok(path) => {
                        fs::create_dir_all(self.inside.archives())?;
                        write_new(&path, entry)
                    }
                    Err(_) => self.unknown(name),
                }
            }
            ("blobs", id) => match id.parse::<BlobId>() {
                Ok(id) => {
                    self.summary.bodies += 1;
                    FileBlobs::put_back(&self.inside.blobs(), id, entry)
                }
                Err(_) => self.unknown(name),
            },
            _ => self.unknown(name),
        }
    }

    fn fail(&mut self, problem: Problem) -> io::Result<()> {
        self.error = Some(problem);
        Err(io::Error::from(io::ErrorKind::InvalidData))
    }

    fn unknown(&mut self, name: &str) -> io::Result<()> {
        self.fail(Problem::Unknown(format!("`{name}` does not belong into a backup")))
    }

    fn manifest(&mut self, size: u64, entry: &mut dyn Read) -> io::Result<()> {
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let mut text = Vec::new();
        entry.take(size.min(64 << 10)).read_to_end(&mut text)?;
        // The format alone first: a later one may say other things.
        match serde_json::from_slice(&text)? {
            Format { format } if format > FORMAT => self.fail(Problem::Format(format)),
            _ => serde_json::from_slice::<Manifest>(&text).map(drop).map_err(io::Error::from),
        }
    }

    fn rows(&mut self, name: &str, entry: &mut dyn Read) -> io::Result<()> {
        let mut batch = Batch::default();
        loop {
            let (key, value) = match rows::decode(entry) {
                Ok(Some(row)) => row,
                Ok(None) => break,
                Err(_) => return self.fail(Problem::Unknown(format!("`{name}` ends within a row"))),
            };
            if !image::is_of_this_machine(&key) && !registry::is_of_this_machine(&key) {
                batch.put(key, value);
            }
            self.summary.rows += 1;
        }
        match Handle::current().block_on(self.store.commit(batch)) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(Problem::Commit(error)),
        }
    }
}

/// `<project>/<stack>/<file>`.
fn stack_file(path: &str) -> Option<(StackId, &'static str)> {
    let (stack, file) = path.rsplit_once('/')?;
    let file = Stacks::FILES.into_iter().find(|known| *known == file)?;
    Some((stack.parse().ok()?, file))
}

fn write_new(path: &Path, content: &mut dyn Read) -> io::Result<()> {
    try_hit("restore.file.writing")?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::copy(content, &mut file)?;
    Ok(())
}

/// The file, which tells how far it was read.
struct Told<F> {
    from: File,
    told: F,
    read: u64,
    of: u64,
    given_up: bool,
}

impl<F: FnMut(Progress) -> ControlFlow<()>> Read for Told<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.told)(Progress { bytes: self.read, of: Some(self.of) }).is_break() {
            self.given_up = true;
            return Err(io::Error::other("given up"));
        }
        let read = self.from.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}
