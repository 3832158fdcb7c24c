//! A disk of a test's own, which can be filled.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A file system in memory. Make the cloud in it after it, so that it goes first.
pub(crate) struct Disk(TempDir);

impl Disk {
    pub(crate) fn of_mebibytes(size: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("tandem-disk-").tempdir().unwrap();
        let options = format!("size={size}m,mode=755");
        mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(&*options)).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Fills it until so many bytes are free.
    pub(crate) fn fill_up_to(&self, free: u64) {
        let stat = nix::sys::statvfs::statvfs(self.path()).unwrap();
        let left = stat.blocks_available() * stat.fragment_size();
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        let block = vec![7; 4096];
        for _ in 0..left.saturating_sub(free) / 4096 {
            match file.write_all(&block) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return,
                written => written.unwrap(),
            }
        }
    }

    /// Makes room again.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> std::path::PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}
