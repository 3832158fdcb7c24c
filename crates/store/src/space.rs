//! The reserve of free space: writes are refused while there is still room to delete.

use std::{
    io,
    path::{Path, PathBuf},
};

use tandem_model::ByteSize;

/// Watches the file system that holds a folder.
#[derive(Debug, Clone)]
pub struct Reserve {
    folder: PathBuf,
    keep_free: ByteSize,
}

impl Reserve {
    pub fn new(folder: &Path, keep_free: ByteSize) -> Self {
        Self { folder: folder.to_owned(), keep_free }
    }

    /// Whether so many bytes may be written without touching the reserve.
    ///
    /// # Errors
    /// If the file system cannot be asked.
    pub fn allows(&self, bytes: u64) -> io::Result<bool> {
        let stat = nix::sys::statvfs::statvfs(&self.folder)?;
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        Ok(free >= self.keep_free.bytes().saturating_add(bytes))
    }
}
