//! A disk in memory, with the store's file and its log, that remembers what was written between two syncs, so that a test can
//! cut the power at any write.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use redb::{Database, StorageBackend};
use tandem_model::ByteSize;

use super::{
    OpenError, RedbStore, database_on,
    file::Stopping,
    log::{Limits, Log, Place},
};
use crate::space::Reserve;

/// The content of the store's file, and of its log.
pub(super) type Image = [Vec<u8>; 2];

pub(super) const STORE: usize = 0;
pub(super) const LOG: usize = 1;

/// So small that a load of some commits fills it again and again.
const LIMITS: Limits = Limits { size: 48 << 10, step: 16 << 10, largest: 12 << 10 };

/// What happened to the disk, in order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    Length {
        file: usize,
        length: u64,
    },
    Sync {
        file: usize,
    },
    /// Told by the test: so many commits were acknowledged by now.
    Acknowledged(usize),
}

impl Event {
    /// The one that is written to.
    pub(super) fn file(&self) -> Option<usize> {
        match self {
            Self::Write { file, .. } | Self::Length { file, .. } | Self::Sync { file } => Some(*file),
            Self::Acknowledged(_) => None,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    files: Image,
    events: Vec<Event>,
}

/// Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    faults: Arc<Faults>,
    /// Whether all of it is checked when a store is opened on it.
    checked: bool,
}

/// Writes and growth that fail: from the `after`-th on, as many as `left`.
#[derive(Debug, Default)]
struct Faults {
    after: AtomicI64,
    left: AtomicI64,
}

impl Faults {
    fn strike(&self) -> io::Result<()> {
        if self.after.fetch_sub(1, Ordering::SeqCst) > 0 || self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Ok(());
        }
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
}

impl Disk {
    /// A disk as the power cut left it.
    pub(super) fn of(files: Image) -> Self {
        Self { state: Arc::new(Mutex::new(State { files, events: Vec::new() })), ..Self::default() }
    }

    pub(super) fn checked(self) -> Self {
        Self { checked: true, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn acknowledged(&self, commits: usize) {
        self.state().events.push(Event::Acknowledged(commits));
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// Lets `count` writes fail for want of space, after the next `after`.
    pub(super) fn fill_up(&self, after: i64, count: i64) {
        self.faults.after.store(after, Ordering::SeqCst);
        self.faults.left.store(count, Ordering::SeqCst);
    }

    fn file(&self, file: usize) -> Stopping<SimulatedFile> {
        Stopping::at_the_last_moment(SimulatedFile { disk: self.clone(), file })
    }

    fn open(&self) -> Result<(Database, Log), OpenError> {
        let path = "disk".as_ref();
        let log = |database: &_, later| Log::recover(path, database, later, Arc::new(self.clone()), LIMITS);
        database_on(path, self.file(STORE), ByteSize::mebibytes(1), self.checked, log)
    }

    pub(super) fn store(&self) -> Result<RedbStore, OpenError> {
        let disk = self.clone();
        let reserve = Reserve::new("/".as_ref(), ByteSize(0));
        RedbStore::start(std::path::Path::new("disk").into(), reserve, Box::new(move || disk.open()))
    }
}

/// Does to the files what a disk does.
pub(super) fn apply(files: &mut Image, event: &Event) {
    match event {
        Event::Write { file, offset, bytes: written } => {
            let (bytes, at) = (&mut files[*file], *offset as usize);
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[at..at + written.len()].copy_from_slice(written);
        }
        Event::Length { file, length } => files[*file].resize(*length as usize, 0),
        Event::Sync { .. } | Event::Acknowledged(_) => {}
    }
}

/// One of the files on a disk.
#[derive(Debug)]
struct SimulatedFile {
    disk: Disk,
    file: usize,
}

impl SimulatedFile {
    fn happens(&self, event: Event) {
        let mut state = self.disk.state();
        apply(&mut state.files, &event);
        state.events.push(event);
    }
}

impl StorageBackend for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.disk.state();
        let at = offset as usize;
        let read = state.files[self.file].get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if length > self.len()? {
            self.disk.faults.strike()?;
        }
        self.happens(Event::Length { file: self.file, length });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.happens(Event::Sync { file: self.file });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.faults.strike()?;
        self.happens(Event::Write { file: self.file, offset, bytes: data.to_vec() });
        Ok(())
    }
}

/// A log that is empty is none.
impl Place for Disk {
    fn name(&self) -> String {
        "log".to_owned()
    }

    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        let there = !self.state().files[LOG].is_empty();
        Ok(there.then(|| Box::new(self.file(LOG)) as Box<dyn StorageBackend>))
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.file(LOG);
        file.set_len(0)?;
        Ok(Box::new(file))
    }

    fn remove(&self) -> io::Result<()> {
        self.file(LOG).set_len(0)
    }
}
