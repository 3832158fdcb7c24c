//! The file under redb, which stops the process when an fsync fails.
//!
//! The fsync of a commit may happen [later](Later): the commit is in the log, so nobody waits for it. redb goes on as if it had
//! happened, in memory; whatever it writes next waits until it has. So the disk sees what redb asks for in redb's order.

use std::{
    io, mem,
    ops::Bound,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use redb::{BackendError, StorageBackend};

/// Lets the next fsync of a file happen after it was answered.
#[derive(Debug, Default)]
pub(super) struct Later {
    asked: AtomicBool,
    /// Whether one has been answered that has not happened.
    owed: Mutex<bool>,
    happened: Condvar,
    /// For tests: as late as it may be, instead of by a thread.
    last_moment: bool,
}

impl Later {
    /// Runs what ends with an fsync for which nobody has to wait.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.asked.store(true, Ordering::SeqCst);
        let done = work();
        // One that was asked for and did not come (a commit that failed) is not the next one's.
        self.asked.store(false, Ordering::SeqCst);
        done
    }

    fn owed(&self) -> MutexGuard<'_, bool> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// redb's own file, except that a failed fsync is not survived.
#[derive(Debug)]
pub(super) struct Stopping<B> {
    file: Arc<B>,
    later: Arc<Later>,
}

impl<B: StorageBackend> Stopping<B> {
    pub(super) fn new(file: B) -> Self {
        Self { file: Arc::new(file), later: Arc::default() }
    }

    #[cfg(test)]
    pub(super) fn at_the_last_moment(file: B) -> Self {
        let later = Arc::new(Later { last_moment: true, ..Later::default() });
        Self { file: Arc::new(file), later }
    }

    pub(super) fn later(&self) -> Arc<Later> {
        self.later.clone()
    }

    /// Waits until all that was answered has happened.
    fn settle(&self) {
        let mut owed = self.later.owed();
        if self.later.last_moment && mem::take(&mut *owed) {
            sync(&*self.file);
        }
        while *owed {
            owed = self.later.happened.wait(owed).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn sync_later(&self) {
        *self.later.owed() = true;
        if self.later.last_moment {
            return;
        }
        let (file, later) = (self.file.clone(), self.later.clone());
        let work = move || {
            sync(&*file);
            // Who waits may open the file again, which nobody has open then.
            drop(file);
            *later.owed() = false;
            later.happened.notify_all();
        };
        if thread::Builder::new().name("store-sync".to_owned()).spawn(work).is_err() {
            sync(&*self.file);
            *self.later.owed() = false;
            self.later.happened.notify_all();
        }
    }
}

fn sync(file: &impl StorageBackend) {
    if let Err(error) = file.sync_data() {
        // After a failed fsync the kernel marks pages clean that never reached the disk: a second fsync would
        // succeed, and what we acknowledge next could rest on pages that are gone.
        tracing::error!(%error, "cannot sync the store to disk; stopping, so that nothing is acknowledged that is not there");
        std::process::abort();
    }
}

impl<B: StorageBackend> StorageBackend for Stopping<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.settle();
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.settle();
        match self.later.asked.swap(false, Ordering::SeqCst) {
            true => self.sync_later(),
            false => sync(&*self.file),
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.settle();
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.settle();
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
