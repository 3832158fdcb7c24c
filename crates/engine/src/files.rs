//! States as files: `<root>/<project>/<stack>/{state.json, journal.ndjson, lock}`.
//!
//! The process that holds the [`Lock`] of a stack owns its folder; a reader needs no lock. An operation is true once
//! its line in the journal is on disk; `state.json` only shortens the journal. What a restart finds, and does:
//!
//! | killed | it finds | it does |
//! |---|---|---|
//! | before `begin` is on disk | at most a torn line | cuts it off: the target was not asked |
//! | between `begin` and `done` | an operation without an end | asks again with the same id: the target answers the first result |
//! | after `done`, before the end | the result in the journal | folds it in |
//! | while `state.json` is written | a `state.json.new` beside it | ignores it: the next save overwrites it |
//! | after `state.json`, before the journal is emptied | results that are in both | folds them in again, which changes nothing |
//! | before the operations are acknowledged | the journal | acknowledges them again |

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tandem_failpoint::{hit, try_hit};
use tandem_model::StackId;
use tokio::{sync::OnceCell, task};

use crate::{
    error::StateError,
    journal::{self, Damage, Entry, Writer},
    lock::Lock,
    port::{StateStore, Stored},
    state::{self, Folded, State},
};

/// All stacks of one home.
#[derive(Debug, Clone)]
pub struct Stacks {
    root: PathBuf,
}

impl Stacks {
    /// What a stack's folder holds that is worth keeping, the journal first.
    pub const FILES: [&str; 2] = [JOURNAL, STATE];

    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn folder(&self, stack: &StackId) -> PathBuf {
        self.root.join(stack.project.as_str()).join(stack.stack.as_str())
    }

    /// What is known of a stack, without locking it: an update may be under way. An unknown stack is empty.
    ///
    /// # Errors
    /// [`StateError`] if it cannot be read.
    pub fn read(&self, stack: &StackId) -> Result<Folded, StateError> {
        let (Stored { state, journal }, _) = read(&self.folder(stack), stack)?;
        Ok(state::fold(state, journal))
    }

    /// Whether the stack has ever been opened for writing.
    pub fn exists(&self, stack: &StackId) -> bool {
        self.folder(stack).is_dir()
    }

    /// The files that a stack consists of, in the order in which they must be copied while an update may be under way
    /// (see [`read`]): a copy is then what a kill at that moment would have left. A file that is not there is left out.
    ///
    /// # Errors
    /// [`StateError::Io`] if one cannot be read.
    pub fn copy(&self, stack: &StackId) -> Result<Vec<(&'static str, Vec<u8>)>, StateError> {
        let folder = self.folder(stack);
        let mut files = Vec::new();
        for name in Self::FILES {
            if let (_, Some(bytes)) = contents(folder.join(name))? {
                files.push((name, bytes));
            }
        }
        Ok(files)
    }

    /// Opens a stack for writing; makes its folder if there is none. `command` is shown to whoever waits.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another process writes to it.
    pub fn lock(&self, stack: &StackId, command: &str) -> Result<StackFiles, StateError> {
        let folder = self.folder(stack);
        make(&folder).map_err(|source| StateError::Io { verb: "make", path: folder.clone(), source })?;
        let lock = Lock::take(&folder.join("lock"), stack, command, Timestamp::now())?;
        Ok(StackFiles { folder: folder.into(), stack: stack.clone(), journal: OnceCell::new(), _lock: lock })
    }

    /// The stacks of which there is a folder, ordered.
    ///
    /// # Errors
    /// [`StateError::Io`] if a folder cannot be read.
    pub fn list(&self) -> Result<Vec<StackId>, StateError> {
        let mut stacks = Vec::new();
        for project in names(&self.root)? {
            for stack in names(&self.root.join(&project))? {
                // What is not named like a stack is not ours.
                if let Ok(id) = format!("{project}/{stack}").parse() {
                    stacks.push(id);
                }
            }
        }
        stacks.sort();
        Ok(stacks)
    }
}

fn names(folder: &Path) -> Result<Vec<String>, StateError> {
    let failed = |source| StateError::Io { verb: "read", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let names = entries.map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()));
    names.collect::<io::Result<_>>().map_err(failed)
}

/// The files of one stack, held by its only writer until dropped.
#[derive(Debug)]
pub struct StackFiles {
    folder: Arc<Path>,
    stack: StackId,
    journal: OnceCell<Writer>,
    _lock: Lock,
}

impl StackFiles {
    pub fn stack(&self) -> &StackId {
        &self.stack
    }

    /// Deletes the folder. The caller has seen that nothing of the stack exists.
    ///
    /// # Errors
    /// [`StateError::Io`] if something of it may be left.
    pub fn remove(self) -> Result<(), StateError> {
        fs::remove_dir_all(&self.folder).map_err(|source| StateError::Io {
            verb: "delete",
            path: self.folder.to_path_buf(),
            source,
        })
    }

    /// Forgets all resources, and what was begun, without asking any target. Exports go, too.
    ///
    /// # Errors
    /// [`StateError::Io`] if the old state may still be there.
    pub async fn reset(&self) -> Result<(), StateError> {
        // The journal goes first: folded into an empty state it would bring back resources. Between the two, the
        // older snapshot is the state, and a reset that is repeated ends it.
        self.clear().await?;
        self.save(&State::empty(self.stack.clone())).await
    }

    async fn writer(&self) -> Result<&Writer, StateError> {
        self.journal
            .get_or_try_init(|| {
                let (folder, stack) = (self.folder.clone(), self.stack.clone());
                blocking(move || open_journal(&folder, &stack))
            })
            .await
    }
}

#[async_trait]
impl StateStore for StackFiles {
    async fn load(&self) -> Result<Stored, StateError> {
        let (folder, stack) = (self.folder.clone(), self.stack.clone());
        blocking(move || Ok(read(&folder, &stack)?.0)).await
    }

    async fn append(&self, entry: Entry) -> Result<(), StateError> {
        let appended = self.writer().await?.append(&entry).await;
        appended.map_err(|source| StateError::Io { verb: "write", path: journal_path(&self.folder), source })
    }

    async fn save(&self, state: &State) -> Result<(), StateError> {
        let folder = self.folder.clone();
        let path = state_path(&folder);
        let failed = |path: PathBuf| move |source| StateError::Io { verb: "write", path, source };
        let text = serde_json::to_vec_pretty(state).map_err(|e| failed(path.clone())(e.into()))?;
        blocking(move || replace(&folder, &text).map_err(failed(path))).await
    }

    async fn clear(&self) -> Result<(), StateError> {
        let path = journal_path(&self.folder);
        blocking(move || {
            let cleared = try_hit("engine.journal.clearing")
                .and_then(|()| OpenOptions::new().write(true).create(true).truncate(true).open(&path));
            cleared.and_then(|file| file.sync_all()).map_err(|source| StateError::Io {
                verb: "write",
                path,
                source,
            })
        })
        .await
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await {
        Ok(answer) => answer,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

const STATE: &str = "state.json";
const JOURNAL: &str = "journal.ndjson";

fn state_path(folder: &Path) -> PathBuf {
    folder.join(STATE)
}

fn journal_path(folder: &Path) -> PathBuf {
    folder.join(JOURNAL)
}

/// Reads both files, and how much of the journal is intact.
fn read(folder: &Path, stack: &StackId) -> Result<(Stored, usize), StateError> {
    // The journal first: a writer saves the snapshot before it empties the journal, so what is missed here is in the
    // snapshot, and what is in both is folded in twice without harm.
    let (path, bytes) = contents(journal_path(folder))?;
    let bytes = bytes.unwrap_or_default();
    let damaged =
        |path: &Path, Damage { line, reason }| StateError::Damaged { path: path.to_owned(), line, reason };
    let (journal, intact) = journal::decode(&bytes).map_err(|damage| damaged(&path, damage))?;

    let (path, bytes) = contents(state_path(folder))?;
    let state = match bytes {
        Some(bytes) => decode_state(&path, &bytes)?,
        None => State::empty(stack.clone()),
    };
    Ok((Stored { state, journal }, intact))
}

fn decode_state(path: &Path, bytes: &[u8]) -> Result<State, StateError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u64,
    }
    let damaged = |e: serde_json::Error| StateError::Damaged {
        path: path.to_owned(),
        line: e.line(),
        reason: e.to_string(),
    };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version > state::VERSION {
        return Err(StateError::Newer { path: path.to_owned(), found: version, known: state::VERSION });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// The bytes of a file; none if it does not exist.
fn contents(path: PathBuf) -> Result<(PathBuf, Option<Vec<u8>>), StateError> {
    match fs::read(&path) {
        Ok(bytes) => Ok((path, Some(bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((path, None)),
        Err(source) => Err(StateError::Io { verb: "read", path, source }),
    }
}

/// Opens the journal for appending, behind its last intact line.
fn open_journal(folder: &Path, stack: &StackId) -> Result<Writer, StateError> {
    let path = journal_path(folder);
    let (_, intact) = read(folder, stack)?;
    let opened = try_hit("engine.journal.opening");
    let opened = opened.and_then(|()| OpenOptions::new().append(true).create(true).open(&path));
    let opened = opened.and_then(|file| {
        file.set_len(intact as u64)?;
        file.sync_all()?;
        sync_folder(folder)?;
        Writer::new(file)
    });
    opened.map_err(|source| StateError::Io { verb: "write", path, source })
}

/// Replaces `state.json`: write beside it, fsync, rename over it, fsync the folder.
fn replace(folder: &Path, text: &[u8]) -> io::Result<()> {
    try_hit("engine.state.writing")?;
    let fresh = folder.join("state.json.new");
    let mut file = File::create(&fresh)?;
    file.write_all(text)?;
    file.sync_all()?;
    try_hit("engine.state.written")?;
    fs::rename(&fresh, state_path(folder))?;
    sync_folder(folder)?;
    hit("engine.state.saved");
    Ok(())
}

/// Makes a folder and those above it, so that a crash does not forget them.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make(parent)?;
    }
    try_hit("engine.folder.making")?;
    match fs::create_dir(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    folder.parent().map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tandem_model::{OpId, PhysicalId, plan::Change};

    use super::*;
    use crate::journal::Begin;

    fn begin(op: &str) -> Entry {
        let change = Change::Delete {
            urn: "urn:tandem:shop:dev:bucket:a".parse().unwrap(),
            id: PhysicalId("a-1".into()),
            force: false,
        };
        Entry::Begin(Begin { op: OpId(op.into()), change, depends_on: vec![], replaces: None })
    }

    fn stack() -> StackId {
        "shop/dev".parse().unwrap()
    }

    #[tokio::test]
    async fn what_was_appended_and_saved_is_there_for_the_next_process() {
        let root = tempfile::tempdir().unwrap();
        let stacks = Stacks::new(root.path());
        let mut state = State::empty(stack());
        state.cloud = Some(crate::CloudId("c".into()));
        let files = stacks.lock(&stack(), "test").unwrap();
        files.save(&state).await.unwrap();
        let entries = ["1", "2", "3"].map(begin);
        futures::future::try_join_all(entries.iter().map(|entry| files.append(entry.clone()))).await.unwrap();
        drop(files);

        let files = stacks.lock(&stack(), "test").unwrap();
        assert_eq!(files.load().await.unwrap(), Stored { state, journal: entries.to_vec() });
        files.clear().await.unwrap();
        assert_eq!(files.load().await.unwrap().journal, []);
        assert_eq!(stacks.list().unwrap(), [stack()]);
    }

    #[tokio::test]
    async fn an_append_after_a_torn_line_does_not_join_it() {
        let root = tempfile::tempdir().unwrap();
        let stacks = Stacks::new(root.path());
        let files = stacks.lock(&stack(), "test").unwrap();
        files.append(begin("1")).await.unwrap();
        drop(files);
        let path = journal_path(&stacks.folder(&stack()));
        let torn = [fs::read(&path).unwrap(), b"{\"begin\": {\"op".to_vec()].concat();
        fs::write(&path, torn).unwrap();

        let files = stacks.lock(&stack(), "test").unwrap();
        files.append(begin("2")).await.unwrap();
        assert_eq!(files.load().await.unwrap().journal, [begin("1"), begin("2")]);
    }

    #[test]
    fn damage_is_refused_naming_file_and_line() {
        let root = tempfile::tempdir().unwrap();
        let stacks = Stacks::new(root.path());
        drop(stacks.lock(&stack(), "test").unwrap());
        let folder = stacks.folder(&stack());
        fs::write(state_path(&folder), "{\n  \"version\": 1,\n  \"stack\": 7\n}").unwrap();
        let error = stacks.read(&stack()).unwrap_err().to_string();
        assert!(error.contains("state.json` is damaged at line 3"), "{error}");
        fs::write(journal_path(&folder), "nonsense\n{}\n").unwrap();
        let error = stacks.read(&stack()).unwrap_err().to_string();
        assert!(error.contains("journal.ndjson` is damaged at line 1"), "{error}");
    }

    #[test]
    fn a_later_format_is_not_misread() {
        let root = tempfile::tempdir().unwrap();
        let stacks = Stacks::new(root.path());
        drop(stacks.lock(&stack(), "test").unwrap());
        fs::write(state_path(&stacks.folder(&stack())), "{\"version\": 9, \"shape\": \"new\"}").unwrap();
        assert!(matches!(stacks.read(&stack()), Err(StateError::Newer { found: 9, .. })));
    }

    #[tokio::test]
    async fn a_reset_forgets_even_what_cannot_be_read() {
        let root = tempfile::tempdir().unwrap();
        let stacks = Stacks::new(root.path());
        let files = stacks.lock(&stack(), "test").unwrap();
        fs::write(journal_path(&stacks.folder(&stack())), "nonsense\n{}\n").unwrap();
        files.reset().await.unwrap();
        assert_eq!(stacks.read(&stack()).unwrap().state, State::empty(stack()));
    }
}
