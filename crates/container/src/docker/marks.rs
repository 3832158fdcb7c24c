//! Which images of the engine came by this cloud, and when they were asked for last: a file each.
//!
//! The engine is shared with whoever else uses it. Only what is marked here is ever taken out of it unasked.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::PathBuf,
    time::SystemTime,
};

use super::Docker;
use crate::{ContainerError, layout::at};

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Built, imported or pulled by this cloud.
    Image,
    /// A step of a build that failed, or the result of one before its last.
    Step,
}

impl Mark {
    const ALL: [Self; 2] = [Self::Image, Self::Step];

    fn folder(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Step => "steps",
        }
    }
}

impl Docker {
    fn mark_file(&self, mark: Mark, digest: &str) -> Option<PathBuf> {
        let hex = digest.strip_prefix("sha256:")?;
        let plain = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| self.folder().join(mark.folder()).join(hex))
    }

    /// Marks an image as this cloud's.
    pub(super) fn mark(&self, mark: Mark, digest: &str) -> Result<(), ContainerError> {
        let Some(path) = self.mark_file(mark, digest) else { return Ok(()) };
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let file = File::options().write(true).create(true).truncate(false).open(&path)?;
            file.set_modified(SystemTime::now())
        };
        write().map_err(at(&path))
    }

    /// Notes that somebody asks for an image just now.
    pub(super) fn ask_for(&self, digest: &str) -> Result<(), ContainerError> {
        match self.asked_for(Mark::Image, digest) {
            Some(_) => self.mark(Mark::Image, digest),
            None => Ok(()),
        }
    }

    /// When an image that is marked was asked for last.
    pub(super) fn asked_for(&self, mark: Mark, digest: &str) -> Option<SystemTime> {
        fs::metadata(self.mark_file(mark, digest)?).and_then(|meta| meta.modified()).ok()
    }

    pub(super) fn unmark(&self, digest: &str) -> Result<(), ContainerError> {
        for path in Mark::ALL.into_iter().filter_map(|mark| self.mark_file(mark, digest)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// All digests with such a mark.
    pub(super) fn marked(&self, mark: Mark) -> Vec<String> {
        let entries = fs::read_dir(self.folder().join(mark.folder())).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let digests = names.map(|hex| format!("sha256:{hex}"));
        digests.filter(|digest| self.mark_file(mark, digest).is_some()).collect()
    }
}
