//! Logs: what functions and runs printed, kept per resource, bounded, followed live.
//!
//! A function's lines are written here, through [`Sink`], by one thread that appends them to the resource's folder
//! under [`Home::logs`]: `<project>/<stack>/<kind>-<name>/<n>.ndjson`, one JSON [`Line`] each. The newest segments of a
//! resource are kept ([`segment::KEPT`] of [`segment::LIMIT`] bytes), older ones are deleted. A run's lines stay in the
//! file that its monitor writes, and the cloud's own words about the run are written here; reading merges both by time.
//!
//! The log of a resource that was deleted is kept for a while and then goes ([`retention`]).
//!
//! Logs are not acknowledged, so they are not fsynced: a killed cloud loses nothing that it had handed to the kernel,
//! a machine that loses power may lose the last seconds. A line torn by either is skipped.
//!
//! A follower reads the same files from where it stands, and is only woken by the writer (or, for a run's file, by
//! inotify). So the past and the present are one sequence without a seam, a slow follower costs no memory, and one that
//! sleeps through a rotation misses what the bound deleted and nothing else.
//!
//! A reader that asks for the last hour, or the last hundred lines, does not read the rest: lines of a file are in the
//! order of their times but for [`position::SLACK`], so the place where to begin is searched for, not read up to.
//!
//! Start at [`Log::read`], [`Log::replay`] and [`Log::follow`].

mod cursor;
mod follow;
mod line_file;
mod position;
mod replay;
mod retention;
mod run_file;
mod segment;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{ByteSize, Explain, Kind, StackId, Urn};
use tandem_store::ReadError;
use tokio::sync::{broadcast, mpsc, oneshot};

pub use follow::Follow;
pub use replay::Replay;
pub use retention::run as run_retention;

use crate::home::Home;
use cursor::Past;
use line_file::Reach;
use position::Begin;
use retention::Followed;
use run_file::RunFile;
use writer::{Request, Writer};

/// One line that a handler or a container printed, or that the cloud says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub time: Timestamp,
    /// The function or task.
    pub resource: Urn,
    pub stream: Stream,
    /// The request id or run id; empty for lines outside of any (a worker's start).
    #[serde(default)]
    pub id: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Said by the cloud: a failure, a timeout, an outcome.
    System,
}

/// Takes lines. Never blocks and never fails the caller: what cannot be written is counted, and the count logged.
pub trait Sink: Send + Sync {
    fn write(&self, line: Line);
}

/// Which lines to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter {
    pub stack: Option<StackId>,
    /// A resource's name in the stack; none: all.
    pub resource: Option<String>,
    /// Only functions, or only tasks; none: both.
    pub kind: Option<Kind>,
    /// The end of a request id or run id, so that the few digits that people are shown are enough; none: all.
    pub id: Option<String>,
    pub since: Option<Timestamp>,
    /// No line that is younger. Not for following.
    pub until: Option<Timestamp>,
    /// Only the last so many.
    pub tail: Option<usize>,
}

impl Filter {
    /// Whether lines of this resource are asked for.
    pub fn wants(&self, resource: &Urn) -> bool {
        self.stack.as_ref().is_none_or(|stack| *stack == resource.stack)
            && self.resource.as_deref().is_none_or(|name| name == resource.name.as_str())
            && self.kind.is_none_or(|kind| kind == resource.kind)
    }

    /// Whether lines of that time are asked for.
    pub fn wants_time(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }

    /// Whether lines of this request or run are asked for.
    pub fn wants_id(&self, id: &str) -> bool {
        self.id.as_deref().is_none_or(|wanted| id.ends_with(wanted))
    }
}

/// The log of one attempt of a run, in the file that its monitor writes. The file tells it from others of that run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLog {
    pub task: Urn,
    pub id: String,
    /// Kubernetes' format; need not exist.
    pub file: PathBuf,
    /// No line is older.
    pub since: Timestamp,
    /// Set once the file is complete.
    pub ended: Option<Timestamp>,
}

/// Knows the logs of runs, which are not written through [`Sink`].
pub trait RunLogs: Send + Sync {
    /// The logs of runs that may hold lines which the filter asks for. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError`] if the runs cannot be read.
    fn run_logs(&self, filter: &Filter) -> Result<Vec<RunLog>, ReadError>;

    /// Tells of every run that starts or ends from now on. A run that ended was told to the [`Sink`] before.
    fn run_changes(&self) -> broadcast::Receiver<RunLog>;
}

/// Logs that could not be kept, read or followed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot use the logs in `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot read which runs there are")]
    Runs(#[from] ReadError),
    #[error("cannot watch the logs of runs")]
    Watch(#[source] io::Error),
}

impl Explain for LogError {
    fn code(&self) -> &'static str {
        "E0708"
    }
    fn help(&self) -> String {
        match self {
            Self::Io { path, .. } => format!("check space and permissions at `{}`", path.display()),
            Self::Runs(_) => "run `tandem serve` in the foreground to see more".into(),
            Self::Watch(_) => {
                "end other programs that follow logs, or raise fs.inotify.max_user_instances".into()
            }
        }
    }
}

/// How many lines may wait for the writer.
const QUEUE: usize = 8192;
/// How many bytes of text may wait for the writer.
const QUEUE_BYTES: usize = 16 << 20;
/// Longer lines are cut.
const TEXT_LIMIT: usize = 64 << 10;

/// Keeps and reads logs. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    requests: mpsc::Sender<Request>,
    /// Bytes of text that wait for the writer.
    waiting: Arc<AtomicUsize>,
    dropped: Arc<writer::Dropped>,
    /// Tells followers which resource has new lines.
    written: broadcast::Sender<Urn>,
    followed: Arc<Followed>,
    runs: OnceLock<Weak<dyn RunLogs>>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("root", &self.shared.root).finish_non_exhaustive()
    }
}

impl Sink for Log {
    fn write(&self, mut line: Line) {
        cut(&mut line.text);
        let Shared { waiting, requests, dropped, .. } = &*self.shared;
        let size = line.text.len();
        if waiting.fetch_add(size, Ordering::Relaxed) + size <= QUEUE_BYTES {
            match requests.try_send(Request::Line(line)) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    if let Request::Line(line) = back {
                        dropped.count(line.resource, line.id, 1);
                    }
                }
            }
        } else {
            dropped.count(line.resource, line.id, 1);
        }
        waiting.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Log {
    /// Opens the logs under [`Home::logs`]; reads nothing yet.
    ///
    /// # Errors
    /// [`LogError::Io`] if the folder cannot be made.
    pub fn open(home: &Home) -> Result<Self, LogError> {
        Self::with_segments(home, segment::LIMIT)
    }

    fn with_segments(home: &Home, limit: u64) -> Result<Self, LogError> {
        let root = home.logs();
        let failed = |source| LogError::Io { path: root.clone(), source };
        std::fs::create_dir_all(&root).map_err(failed)?;
        let (requests, queue) = mpsc::channel(QUEUE);
        let waiting = Arc::new(AtomicUsize::new(0));
        let dropped = Arc::new(writer::Dropped::default());
        let written = broadcast::Sender::new(1024);
        let followed = Arc::<Followed>::default();
        let writer = Writer::new(
            root.clone(),
            limit,
            waiting.clone(),
            dropped.clone(),
            written.clone(),
            followed.clone(),
        );
        std::thread::Builder::new().name("log".into()).spawn(move || writer.run(queue)).map_err(failed)?;
        let shared = Shared { root, requests, waiting, dropped, written, followed, runs: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// From now on the logs of runs are read and followed too. Only the first call counts.
    pub fn attach_runs(&self, runs: Weak<dyn RunLogs>) {
        let _ = self.shared.runs.set(runs);
    }

    /// The lines that the filter asks for and that were written before this call, in the order of their times. Memory
    /// is bounded by `tail`; without it, by what is kept.
    ///
    /// # Errors
    /// [`LogError`] if a log cannot be read.
    pub async fn read(&self, filter: &Filter) -> Result<Vec<Line>, LogError> {
        self.flush().await;
        let (log, filter) = (self.clone(), filter.clone());
        blocking(move || {
            let mut past = Past::new(filter.tail);
            log.cursors(&filter, Reach::Now)?.merge(|line| {
                past.push(line);
                ControlFlow::Continue(())
            })?;
            Ok(past.into_lines())
        })
        .await
    }

    /// As [`Log::read`], but a line at a time: memory is bounded by `tail`, or without it by little.
    ///
    /// # Errors
    /// [`LogError`] if a log cannot be opened; one that cannot be read on is an item.
    pub async fn replay(&self, filter: Filter) -> Result<Replay, LogError> {
        Replay::begin(self.clone(), filter).await
    }

    /// The lines that the filter asks for: those of the past (with `tail` only the last so many, with `tail` 0 none)
    /// in the order of their times, and then each new one as it comes. No line is lost or doubled in between.
    ///
    /// Ends when the filter names a run and the run has ended; otherwise never.
    ///
    /// # Errors
    /// [`LogError`] if a log cannot be read, or the run's files not be watched.
    pub async fn follow(&self, filter: Filter) -> Result<Follow, LogError> {
        Follow::begin(self.clone(), filter).await
    }

    /// Waits until everything that was written so far is in the files.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        // The writer lives as long as we do; if it died, there is nothing to wait for.
        let _ = self.shared.requests.send(Request::Flush(done)).await;
        let _ = flushed.await;
    }

    fn runs(&self) -> Option<Arc<dyn RunLogs>> {
        self.shared.runs.get()?.upgrade()
    }
}

/// What has lines of its own in the logs of a stack, resources among them that were deleted since. Reads folders' names
/// only, and needs no cloud that runs.
///
/// # Errors
/// [`LogError::Io`] if a folder cannot be read.
pub fn kept(home: &Home, stack: &StackId) -> Result<Vec<Urn>, LogError> {
    let root = home.logs();
    segment::resources(&root, |urn| urn.stack == *stack).map_err(|source| LogError::Io { path: root, source })
}

/// Cuts a text that is too long to keep, and says so.
fn cut(text: &mut String) {
    if text.len() > TEXT_LIMIT {
        let more = text.len() - TEXT_LIMIT;
        text.truncate(text.floor_char_boundary(TEXT_LIMIT));
        text.push_str(&format!("… ({more} more bytes were cut)"));
    }
}

/// How often the log of a container that runs is tended.
pub(crate) const TEND: Duration = Duration::from_millis(500);

/// Keeps the end of a container's log, and has it said when older lines are gone for it.
pub(crate) fn tend(log: &Path, say: impl FnOnce(String)) {
    match tandem_container::log::tend(log) {
        Ok(false) => {}
        Ok(true) => say(format!(
            "the log has grown: of what the container printed, the last {} are kept",
            kept_of_container()
        )),
        Err(error) => tracing::warn!(log = %log.display(), %error, "cannot keep the end of a log"),
    }
}

fn kept_of_container() -> ByteSize {
    ByteSize(tandem_container::log::PART)
}

/// The last lines of a run that has ended. Blocks.
///
/// # Errors
/// [`io::Error`] if its file cannot be read; one that does not exist has no lines.
pub fn tail_of_run(run: RunLog, lines: usize) -> io::Result<Vec<String>> {
    let mut past = Past::new(Some(lines));
    let mut file = RunFile::new(run, Reach::Now, Begin { last: Some(lines), since: None });
    while let Some(line) = file.next()? {
        past.push(line);
    }
    Ok(past.into_lines().into_iter().map(|line| line.text).collect())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
