//! The file under redb, which stops the process when an fsync fails.

use std::{io, ops::Bound};

use redb::{BackendError, StorageBackend};

/// redb's own file, except that a failed fsync is not survived.
#[derive(Debug)]
pub(super) struct Stopping<B> {
    file: B,
}

impl<B: StorageBackend> Stopping<B> {
    pub(super) fn new(file: B) -> Self {
        Self { file }
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
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if let Err(error) = self.file.sync_data() {
            // After a failed fsync the kernel marks pages clean that never reached the disk: a second fsync would
            // succeed, and what we acknowledge next could rest on pages that are gone.
            tracing::error!(%error, "cannot sync the store to disk; stopping, so that nothing is acknowledged that is not there");
            std::process::abort();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
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
