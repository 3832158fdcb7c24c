//! Where a log is kept: a file beside the store's.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::PathBuf,
};

use redb::{StorageBackend, backends::FileBackend};

use super::super::{file::Stopping, folder_of};

/// Finds, makes and removes the file of a log.
pub(in super::super) trait Place: fmt::Debug + Send + Sync {
    /// Named in errors.
    fn name(&self) -> String;

    /// `None` if there is none.
    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>>;

    /// An empty one, whose name is on disk. If there is one, it is of no use to anybody.
    fn create(&self) -> io::Result<Box<dyn StorageBackend>>;

    fn remove(&self) -> io::Result<()>;
}

#[derive(Debug)]
pub(in super::super) struct OnDisk(pub(in super::super) PathBuf);

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    let file = FileBackend::new(file).map_err(io::Error::other)?;
    Ok(Box::new(Stopping::new(file)))
}

impl Place for OnDisk {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn open(&self) -> io::Result<Option<Box<dyn StorageBackend>>> {
        match File::options().read(true).write(true).open(&self.0) {
            Ok(file) => {
                // What another process could not sync, the kernel shows all the same: only what is on disk counts.
                file.sync_data()?;
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
                backend(file).map(Some)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&self.0)?;
        File::open(folder_of(&self.0))?.sync_all()?;
        backend(file)
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
