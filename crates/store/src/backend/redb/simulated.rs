//! A disk in memory that remembers what was written between two syncs, so that a test can cut the power at any write.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use redb::{Database, StorageBackend};
use tandem_model::ByteSize;

use super::{OpenError, RedbStore, database_on, file::Stopping};
use crate::space::Reserve;

/// What happened to the disk, in order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Write {
        offset: u64,
        bytes: Vec<u8>,
    },
    Length(u64),
    Sync,
    /// Told by the test: so many commits were acknowledged by now.
    Acknowledged(usize),
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
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
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { state: Arc::new(Mutex::new(State { bytes, events: Vec::new() })), ..Self::default() }
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

    fn database(&self) -> Result<Database, OpenError> {
        database_on("disk".as_ref(), Stopping::new(self.clone()), ByteSize::mebibytes(1), self.checked)
    }

    pub(super) fn store(&self) -> Result<RedbStore, OpenError> {
        let disk = self.clone();
        let reserve = Reserve::new("/".as_ref(), ByteSize(0));
        RedbStore::start(std::path::Path::new("disk").into(), reserve, Box::new(move || disk.database()))
    }
}

/// Does to the bytes what a disk does.
pub(super) fn apply(bytes: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Write { offset, bytes: written } => {
            let at = *offset as usize;
            if bytes.len() < at + written.len() {
                bytes.resize(at + written.len(), 0);
            }
            bytes[at..at + written.len()].copy_from_slice(written);
        }
        Event::Length(length) => bytes.resize(*length as usize, 0),
        Event::Sync | Event::Acknowledged(_) => {}
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let at = offset as usize;
        let read = state.bytes.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.state().bytes.len() as u64 {
            self.faults.strike()?;
        }
        let mut state = self.state();
        let event = Event::Length(len);
        apply(&mut state.bytes, &event);
        state.events.push(event);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state().events.push(Event::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.strike()?;
        let mut state = self.state();
        let event = Event::Write { offset, bytes: data.to_vec() };
        apply(&mut state.bytes, &event);
        state.events.push(event);
        Ok(())
    }
}
