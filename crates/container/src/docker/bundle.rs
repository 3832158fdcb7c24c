//! The folder of one container, and what it proves. See the tables in [`super`].

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    ContainerError, ContainerId, Exit,
    layout::{Layout, at},
};

/// The paths of one container.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) id: ContainerId,
    pub(super) folder: PathBuf,
    pub(super) log: PathBuf,
}

const STARTING: &str = "starting";
const BEGUN: &str = "begun";
const EXIT: &str = "exit";
const NETWORK: &str = "network";
const FOLLOWED: &str = "followed";

/// What the engine calls a container: no other's has such a name, and it has more than one letter, as the engine wants.
pub(super) fn name(id: &ContainerId) -> String {
    format!("tandem-{}", id.0)
}

fn containers(layout: &Layout) -> PathBuf {
    layout.root().join(super::FOLDER).join("containers")
}

impl Bundle {
    /// # Errors
    /// [`ContainerError::Start`] if the id is none.
    pub(super) fn of(layout: &Layout, id: &ContainerId) -> Result<Self, ContainerError> {
        id.check()?;
        Ok(Self { id: id.clone(), folder: containers(layout).join(&id.0), log: layout.log(id) })
    }

    /// What the engine calls it.
    pub(super) fn name(&self) -> String {
        name(&self.id)
    }

    /// Makes the folder, which appears complete and locked, or not at all; and the log.
    pub(super) fn begin(&self) -> Result<File, ContainerError> {
        for folder in [self.folder.parent(), self.log.parent()].into_iter().flatten() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let unfinished = self.unfinished();
        remove_folder(&unfinished)?;
        fs::create_dir(&unfinished).map_err(at(&unfinished))?;
        OpenOptions::new().append(true).create(true).open(&self.log).map_err(at(&self.log))?;
        let starting = unfinished.join(STARTING);
        let lock = File::create_new(&starting).map_err(at(&starting))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| at(&starting)(errno.into()))?;
        match fs::rename(&unfinished, &self.folder) {
            Ok(()) => Ok(lock),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                remove_folder(&unfinished)?;
                Err(self.taken())
            }
            Err(error) => Err(at(&self.folder)(error)),
        }
    }

    pub(super) fn taken(&self) -> ContainerError {
        ContainerError::Start { reason: format!("there is a container `{}` already", self.id.0) }
    }

    /// A folder that no one looks at: before it has its name, or when it has it no more.
    fn unfinished(&self) -> PathBuf {
        self.folder.with_file_name(format!(".{}", self.id.0))
    }

    /// From here on the command may be executed, so nobody may call it unstarted.
    pub(super) fn mark_begun(&self) -> Result<(), ContainerError> {
        let path = self.folder.join(BEGUN);
        let mark = || {
            File::create(&path)?.sync_all()?;
            File::open(&self.folder)?.sync_all()
        };
        mark().map_err(at(&path))
    }

    /// Takes that back, once it is known that the command was not executed.
    pub(super) fn unmark_begun(&self) -> Result<(), ContainerError> {
        match fs::remove_file(self.folder.join(BEGUN)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(self.folder.join(BEGUN))(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn is_begun(&self) -> bool {
        self.folder.join(BEGUN).exists()
    }

    /// Waits until no start is under way, in this process or another. False if there is no such folder.
    pub(super) fn settle(&self) -> Result<bool, ContainerError> {
        let path = self.folder.join(STARTING);
        match File::open(&path) {
            Ok(file) => {
                flock(&file, FlockOperation::LockShared).map_err(|errno| at(path)(errno.into()))?;
                Ok(self.folder.exists())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(self.folder.exists()),
            Err(error) => Err(at(path)(error)),
        }
    }

    /// The lock of who writes the log; `None` if somebody else does.
    pub(super) fn lock_log(&self) -> Result<Option<File>, ContainerError> {
        let path = self.folder.join(FOLLOWED);
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(at(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(at(path)(errno.into())),
        }
    }

    /// How it ended, if that is written down.
    pub(super) fn exit(&self) -> Option<Exit> {
        serde_json::from_slice(&fs::read(self.folder.join(EXIT)).ok()?).ok()
    }

    /// Commits how it ended.
    pub(super) fn write_exit(&self, exit: Exit) -> Result<(), ContainerError> {
        let (path, new) = (self.folder.join(EXIT), self.folder.join("exit.new"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&exit)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(at(&path))
    }

    /// The name of the network that may have been made for it.
    pub(super) fn network(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(NETWORK)).ok()
    }

    pub(super) fn write_network(&self, name: &str) -> Result<(), ContainerError> {
        fs::write(self.folder.join(NETWORK), name).map_err(at(&self.folder))
    }

    /// Takes the folder away, at once.
    pub(super) fn clear(&self) -> Result<(), ContainerError> {
        let gone = self.unfinished();
        remove_folder(&gone)?;
        match fs::rename(&self.folder, &gone) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(at(&self.folder)(error)),
            _ => remove_folder(&gone),
        }
    }
}

fn remove_folder(path: &Path) -> Result<(), ContainerError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// The ids of which there is a folder, in order.
pub(super) fn list(layout: &Layout) -> Result<Vec<ContainerId>, ContainerError> {
    let folder = containers(layout);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at(folder)(error)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(at(&folder))?.file_name();
        if let Some(id) = name.to_str().map(|name| ContainerId(name.to_owned()))
            && id.check().is_ok()
        {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}
