//! What became of deliveries that left nothing else behind: a line for each attempt that ended, in files of bounded size.
//!
//! It tells people what happened ([`tandem why`](crate::why)); nothing is decided by it. So it is written beside everything
//! else, by a thread of its own, without a sync: a machine that loses power may lose the last of it, and what comes faster
//! than the disk takes it is left out. Events that nobody heard are written if something of ours caused them.
//!
//! The newest [`KEPT`] files of [`LIMIT`] bytes are kept, `<n>.ndjson` each.

use std::{
    fs, io,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::{Event, Report, Urn, event::QUEUE_MESSAGES};
use tokio::sync::oneshot;

use super::Delivery;

/// In bytes.
const LIMIT: u64 = 8 << 20;
const KEPT: usize = 4;
/// How many may wait for the writer.
const QUEUE: usize = 4096;

/// Something that became of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "what")]
pub enum Step {
    /// An attempt has ended. The event is without its data.
    Tried { began: Timestamp, ended: Timestamp, delivery: Box<Delivery>, outcome: Outcome },
    /// A handler or container of ours caused it, and no subscription wanted it.
    Unheard { event: Event },
    /// Something became of a message of a queue that no subscription did.
    Message { time: Timestamp, queue: Urn, id: String, became: Became },
}

/// What a queue did with a message by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Became {
    /// It was older than its queue keeps messages.
    Expired,
    /// It was received too often, and went to its dead-letter queue.
    Dead { to: String },
    /// Somebody had the messages of the queue moved.
    Moved { to: String },
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Handled,
    /// It is tried again after the pause. Without an error it was cut off, and does not count.
    Again {
        pause: Duration,
        error: Option<Report>,
    },
    /// No attempt is left, or none is allowed.
    GivenUp {
        error: Report,
    },
}

enum Request {
    Write(Box<Step>),
    Flush(oneshot::Sender<()>),
}

/// Writes and reads the trail. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trail(Option<Kept>);

#[derive(Debug, Clone)]
struct Kept {
    folder: PathBuf,
    requests: SyncSender<Request>,
}

impl Trail {
    /// A trail in that folder, which is made when there is something to write. Without a thread there is no trail.
    pub fn open(folder: PathBuf) -> Self {
        let (requests, received) = sync_channel(QUEUE);
        let writer = Writer { folder: folder.clone(), file: None, failing: false };
        let writing = std::thread::Builder::new().name("trail".into()).spawn(move || writer.run(&received));
        match writing {
            Ok(_) => Self(Some(Kept { folder, requests })),
            Err(error) => {
                tracing::warn!(%error, "cannot write the trail of events");
                Self(None)
            }
        }
    }

    pub(crate) fn write(&self, mut step: Step) {
        let Some(kept) = &self.0 else { return };
        match &mut step {
            // Of messages the ids are left by who received them.
            Step::Tried { delivery, .. } if delivery.event.kind == QUEUE_MESSAGES => {}
            Step::Tried { delivery, .. } => delivery.event.data = Value::Null,
            Step::Unheard { event } => event.data = Value::Null,
            Step::Message { .. } => {}
        }
        let _ = kept.requests.try_send(Request::Write(Box::new(step)));
    }

    /// Reads what there is, the oldest first. Blocks on the disk; take [`flush`](Self::flush) before.
    ///
    /// # Errors
    /// If a file cannot be read. One that goes meanwhile has no steps; a torn line is skipped.
    pub fn read(&self, mut each: impl FnMut(Step)) -> io::Result<()> {
        let Some(kept) = &self.0 else { return Ok(()) };
        for (_, path) in files(&kept.folder)? {
            let file = match fs::File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            for line in BufReader::new(file).split(b'\n') {
                if let Ok(step) = serde_json::from_slice(&line?) {
                    each(step);
                }
            }
        }
        Ok(())
    }

    /// Waits until what was told before is in the files.
    pub async fn flush(&self) {
        let Some(Kept { requests, .. }) = self.0.clone() else { return };
        let (done, flushed) = oneshot::channel();
        let _ = tokio::task::spawn_blocking(move || requests.send(Request::Flush(done))).await;
        let _ = flushed.await;
    }
}

/// The files, the oldest first.
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        files.extend(number.map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
}

struct Writer {
    folder: PathBuf,
    file: Option<(fs::File, u64)>,
    /// Since the last time, which was said.
    failing: bool,
}

impl Writer {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut lines = Vec::new();
        while let Ok(first) = requests.recv() {
            let mut flushed = Vec::new();
            for request in std::iter::once(first).chain(requests.try_iter().take(QUEUE)) {
                match request {
                    Request::Write(step) => {
                        // Fails for no step: they are structs with string keys.
                        if serde_json::to_writer(&mut lines, &step).is_ok() {
                            lines.push(b'\n');
                        }
                    }
                    Request::Flush(done) => flushed.push(done),
                }
            }
            if !lines.is_empty()
                && let Err(error) = self.append(&lines)
            {
                // Once, not at every event, while the disk is full.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, "cannot write the trail of events");
                }
            }
            lines.clear();
            flushed.into_iter().for_each(|done| _ = done.send(()));
        }
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (mut file, size) = match self.file.take() {
            Some((file, size)) if size < LIMIT => (file, size),
            _ => (self.next()?, 0),
        };
        file.write_all(lines)?;
        self.file = Some((file, size + lines.len() as u64));
        self.failing = false;
        Ok(())
    }

    /// Begins a file, and removes the oldest.
    fn next(&self) -> io::Result<fs::File> {
        fs::create_dir_all(&self.folder)?;
        let mut files = files(&self.folder)?;
        let number = files.last().map_or(0, |(number, _)| number + 1);
        files.truncate(files.len().saturating_sub(KEPT - 1));
        files.iter().try_for_each(|(_, path)| fs::remove_file(path))?;
        fs::OpenOptions::new().append(true).create(true).open(self.folder.join(format!("{number}.ndjson")))
    }
}

#[cfg(test)]
mod tests {
    use tandem_model::event::SpecVersion;

    use super::*;

    fn event(id: &str, size: usize) -> Event {
        Event {
            specversion: SpecVersion::V1,
            id: id.into(),
            source: "s".repeat(size),
            kind: "k".into(),
            subject: None,
            time: Timestamp::UNIX_EPOCH,
            traceparent: None,
            datacontenttype: "application/json".into(),
            data: Value::from("left out"),
        }
    }

    fn read(trail: &Trail) -> Vec<Event> {
        let mut all = Vec::new();
        let each = |step| match step {
            Step::Unheard { event } => all.push(event),
            Step::Tried { .. } | Step::Message { .. } => unreachable!("none was written"),
        };
        trail.read(each).unwrap();
        all
    }

    #[tokio::test]
    async fn the_newest_steps_are_kept_in_so_much_space_and_a_torn_one_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trail");
        let large = (LIMIT / 4) as usize;
        {
            let trail = Trail::open(path.clone());
            assert!(read(&trail).is_empty());
            for n in 0..20 {
                trail.write(Step::Unheard { event: event(&n.to_string(), large) });
                trail.flush().await;
            }
            let kept = read(&trail);
            assert_eq!(kept.last().unwrap().id, "19");
            assert!((12..=16).contains(&kept.len()), "{}", kept.len());
            assert_eq!(kept[0].data, Value::Null);
        }
        let (_, newest) = files(&path).unwrap().pop().unwrap();
        fs::OpenOptions::new().append(true).open(newest).unwrap().write_all(b"{\"what\":\"unhe").unwrap();
        // Another start goes on in a file of its own.
        let trail = Trail::open(path.clone());
        trail.write(Step::Unheard { event: event("20", 1) });
        trail.flush().await;
        assert_eq!(read(&trail).last().unwrap().id, "20");
        assert!(files(&path).unwrap().len() <= KEPT);
    }
}
