//! The thread that appends lines to segments.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use jiff::Timestamp;
use tandem_model::Urn;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::{
    Line, Stream,
    retention::Followed,
    segment::{self, Tip},
};

/// What the thread is asked to do, in order.
#[derive(Debug)]
pub(super) enum Request {
    Line(Line),
    /// Answered when everything before is in the files.
    Flush(oneshot::Sender<()>),
    /// Answered with whether it was done: not while somebody follows the resource.
    Forget(Urn, oneshot::Sender<bool>),
}

/// Lines that could not be kept, counted until it can be said, by resource and by the id that they had.
#[derive(Debug, Default)]
pub(super) struct Dropped(Mutex<BTreeMap<(Urn, String), u64>>);

/// Lines of so many ids are counted apart; those of further ones together, without an id.
const IDS: usize = 1000;

impl Dropped {
    pub(super) fn count(&self, resource: Urn, id: String, lines: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = if counts.len() < IDS || counts.contains_key(&(resource.clone(), id.clone())) {
            id
        } else {
            String::new()
        };
        *counts.entry((resource, id)).or_default() += lines;
    }

    fn take(&self) -> BTreeMap<(Urn, String), u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How many requests are taken together.
const BATCH: usize = 1024;
/// How many segments are kept open.
const OPEN: usize = 128;

pub(super) struct Writer {
    root: PathBuf,
    limit: u64,
    waiting: Arc<AtomicUsize>,
    dropped: Arc<Dropped>,
    written: broadcast::Sender<Urn>,
    followed: Arc<Followed>,
    tips: HashMap<Urn, Tip>,
}

/// Lines that are written together.
#[derive(Debug, Default)]
struct Encoded {
    bytes: Vec<u8>,
    lines: u64,
}

impl Encoded {
    fn add(&mut self, line: &Line) {
        serde_json::to_writer(&mut self.bytes, line).expect("a line is text, and a Vec takes all of it");
        self.bytes.push(b'\n');
        self.lines += 1;
    }
}

impl Writer {
    pub(super) fn new(
        root: PathBuf,
        limit: u64,
        waiting: Arc<AtomicUsize>,
        dropped: Arc<Dropped>,
        written: broadcast::Sender<Urn>,
        followed: Arc<Followed>,
    ) -> Self {
        Self { root, limit, waiting, dropped, written, followed, tips: HashMap::new() }
    }

    /// Writes until every [`Log`](super::Log) is gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut requests = Vec::with_capacity(BATCH);
        while queue.blocking_recv_many(&mut requests, BATCH) > 0 {
            let mut batch = BTreeMap::<Urn, Encoded>::new();
            for request in requests.drain(..) {
                match request {
                    Request::Line(line) => {
                        self.waiting.fetch_sub(line.text.len(), Ordering::Relaxed);
                        batch.entry(line.resource.clone()).or_default().add(&line);
                    }
                    Request::Flush(done) => {
                        self.write(std::mem::take(&mut batch));
                        let _ = done.send(());
                    }
                    Request::Forget(resource, done) => {
                        self.write(std::mem::take(&mut batch));
                        let _ = done.send(self.forget(&resource));
                    }
                }
            }
            self.write(batch);
        }
    }

    fn write(&mut self, mut batch: BTreeMap<Urn, Encoded>) {
        for ((resource, id), lines) in self.dropped.take() {
            let text = format!(
                "{lines} lines were dropped: they came faster than they could be written, or the disk was full"
            );
            let line = Line { time: Timestamp::now(), resource, stream: Stream::System, id, text };
            batch.entry(line.resource.clone()).or_default().add(&line);
        }
        for (resource, encoded) in batch {
            match self.append(&resource, &encoded.bytes) {
                // Fails if nobody follows.
                Ok(()) => _ = self.written.send(resource),
                Err(error) => {
                    tracing::warn!(%resource, %error, lines = encoded.lines, "cannot write to a log");
                    self.tips.remove(&resource);
                    // Of whichever requests: there may be many in a batch.
                    self.dropped.count(resource, String::new(), encoded.lines);
                }
            }
        }
    }

    fn append(&mut self, resource: &Urn, lines: &[u8]) -> io::Result<()> {
        if let Some(tip) = self.tips.get_mut(resource) {
            return tip.append(lines);
        }
        if self.tips.len() >= OPEN {
            self.tips.clear();
        }
        let mut tip = Tip::open(segment::folder(&self.root, resource), self.limit)?;
        tip.append(lines)?;
        self.tips.insert(resource.clone(), tip);
        Ok(())
    }

    fn forget(&mut self, resource: &Urn) -> bool {
        let folder = segment::folder(&self.root, resource);
        let tips = &mut self.tips;
        self.followed.unless(resource, || {
            tips.remove(resource);
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%resource, %error, "cannot delete a log");
                }
                // The folders of its stack and project, unless they have others.
                _ => folder.ancestors().skip(1).take(2).for_each(|empty| drop(std::fs::remove_dir(empty))),
            }
        })
    }
}
