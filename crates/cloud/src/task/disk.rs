//! What happens to a run's log while its container runs: of one that grows the end is kept (see [`crate::log`]), and a full disk
//! costs lines.
//!
//! What a full disk does to runs: those that start wait for room and say so; to those that are under way it costs lines,
//! which is told in their log.
//!
//! A monitor that cannot write a line drops it, and goes on when there is room, without a word. So it is looked, now and
//! then, whether the disk is full: a line about what may be missing is better than a log that only looks complete.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::statvfs::statvfs;
use tandem_failpoint::hit;

use super::{RunId, Shared, store::Record};
use crate::log;

/// How often it is looked.
const LOOK: Duration = log::TEND;
/// A disk with less than this counts as full: a monitor writes pieces of up to 32 KiB.
const LEAST: u64 = 64 << 10;
/// How long it is waited for room to say that a run was cut.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

const CUT: &str = "the disk was full: lines that the container printed meanwhile may be missing";

/// The runs that wait for room on the disk.
#[derive(Debug, Default)]
pub(super) struct Roomless(Mutex<BTreeSet<RunId>>);

impl Roomless {
    fn all(&self) -> MutexGuard<'_, BTreeSet<RunId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, run: &RunId) {
        self.all().insert(run.clone());
    }

    pub(super) fn remove(&self, run: &RunId) {
        self.all().remove(run);
    }

    /// Why the run waits, if it is for that.
    pub(super) fn why(&self, run: &RunId) -> Option<String> {
        self.all().contains(run).then(|| "the disk is full".to_owned())
    }
}

/// Whether the disk of a cloud is full.
#[derive(Debug, Clone)]
struct Disk(PathBuf);

impl Disk {
    fn is_full(&self) -> bool {
        // One that cannot be looked at is not called full.
        statvfs(&self.0).is_ok_and(|stat| {
            let no_inodes = stat.files() > 0 && stat.files_available() == 0;
            no_inodes || stat.blocks_available() * stat.fragment_size() < LEAST
        })
    }

    async fn has_room(&self) {
        while self.is_full() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Waits for the end of a run, tends its log meanwhile, and has it said in the run's log if the disk was full meanwhile.
pub(super) async fn watched<T>(shared: &Arc<Shared>, record: &Record, end: impl Future<Output = T>) -> T {
    let disk = Disk(shared.parts.home.path().to_owned());
    let log = shared.parts.runtime.log_file(&record.container());
    let mut full = false;
    let mut looks = tokio::time::interval(LOOK);
    let mut end = std::pin::pin!(end);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut end => break ended,
            _ = looks.tick() => {
                log::tend(&log, |word| shared.say(record, word));
                let now = disk.is_full();
                if now && !full {
                    hit("task.disk.seen-full");
                }
                if full && !now {
                    shared.say(record, CUT.to_owned());
                }
                full = now;
            }
        }
    };
    if full || disk.is_full() {
        let (shared, record) = (shared.clone(), record.clone());
        // Beside everything else: the run has ended.
        shared.clone().drivers.spawn(async move {
            tokio::select! {
                () = disk.has_room() => {}
                () = tokio::time::sleep(PATIENCE) => {}
                () = shared.closing.cancelled() => {}
            }
            shared.say(&record, CUT.to_owned());
        });
    }
    ended
}
