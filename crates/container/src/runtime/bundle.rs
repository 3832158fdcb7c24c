//! The folder of one container, and what it proves. See the tables in [`super`].

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tandem_failpoint::{hit, try_hit};

use super::{cgroup, disk, exchange, monitor, network::Networks, rootfs, seccomp, spec, user};
use crate::{
    ContainerError, ContainerId, Exit, Networking, Spec,
    layout::{Layout, at},
    prepared::{IMAGE_OF_BUNDLE, Prepared},
};

/// The paths of one container.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) id: ContainerId,
    pub(super) folder: PathBuf,
    pub(super) exit_file: PathBuf,
    pub(super) log: PathBuf,
    networks: Networks,
}

/// What the files say.
#[derive(Debug)]
pub(super) enum Verdict {
    Absent,
    /// Its command was never executed, and nobody is about to.
    Unstarted,
    /// A monitor lives, and the command may have been executed.
    Begun(monitor::Monitor),
    Exited(Exit),
}

/// Held by who starts a container, and handed on: see the table in [`super`].
///
/// Dropping these closes our descriptors only. A lock that was handed on stays, which is why there is no explicit
/// unlocking here.
pub(super) struct Locks {
    pub(super) starting: Arc<OwnedFd>,
    pub(super) monitor: Arc<OwnedFd>,
}

const STARTING: &str = "starting";
const MONITOR: &str = "monitor";
const BEGUN: &str = "begun";
const CGROUP: &str = "cgroup";
/// A disk with less than this, in bytes, has no room for an exit code: a block, and one for the folder.
const LEAST_ROOM: u64 = 64 << 10;

impl Bundle {
    /// # Errors
    /// [`ContainerError::Start`] if the id cannot be the name of a file and of a control group.
    pub(super) fn of(layout: &Layout, id: &ContainerId) -> Result<Self, ContainerError> {
        id.check()?;
        Ok(Self {
            id: id.clone(),
            folder: layout.bundle(id),
            exit_file: layout.exit(id),
            log: layout.log(id),
            networks: Networks::new(layout.names()),
        })
    }

    /// The folder of another container.
    pub(super) fn of_neighbour(&self, other: &ContainerId) -> PathBuf {
        self.folder.with_file_name(&other.0)
    }
    pub(super) fn rootfs(&self) -> PathBuf {
        self.folder.join("rootfs")
    }
    pub(super) fn persist(&self) -> PathBuf {
        self.folder.join("persist")
    }
    pub(super) fn monitor_pid_file(&self) -> PathBuf {
        self.folder.join("conmon.pid")
    }
    pub(super) fn container_pid_file(&self) -> PathBuf {
        self.folder.join("container.pid")
    }

    /// Makes the folder, which appears complete and locked, or not at all.
    pub(super) fn begin(&self, image: &str) -> Result<Locks, ContainerError> {
        let unfinished = self.unfinished();
        remove_folder(&unfinished)?;
        try_hit("container.bundle.writing").map_err(at(&unfinished))?;
        fs::create_dir(&unfinished).map_err(at(&unfinished))?;
        fs::write(unfinished.join(IMAGE_OF_BUNDLE), image).map_err(at(&unfinished))?;
        fs::write(unfinished.join(CGROUP), cgroup::name(&self.folder, &self.id)).map_err(at(&unfinished))?;
        let locks = Locks {
            starting: Arc::new(locked(&unfinished.join(STARTING))?),
            monitor: Arc::new(locked(&unfinished.join(MONITOR))?),
        };
        for folder in ["rootfs", "persist"] {
            fs::create_dir(unfinished.join(folder)).map_err(at(&unfinished))?;
        }
        if self.exit_file.exists() {
            return Err(self.taken());
        }
        match fs::rename(&unfinished, &self.folder) {
            Ok(()) => Ok(locks),
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                remove_folder(&unfinished)?;
                Err(self.taken())
            }
            Err(error) => Err(at(&self.folder)(error)),
        }
    }

    fn taken(&self) -> ContainerError {
        ContainerError::Start { reason: format!("there is a container `{}` already", self.id.0) }
    }

    /// A folder that no one looks at before it is renamed.
    fn unfinished(&self) -> PathBuf {
        self.folder.with_file_name(format!(".{}", self.id.0))
    }

    /// Mounts the root file system, makes the network if it has one, and writes the OCI configuration.
    pub(super) fn prepare(&self, spec: &Spec, prepared: &Prepared) -> Result<(), ContainerError> {
        try_hit("container.start.prepared").map_err(at(&self.folder))?;
        let own = match spec.storage {
            Some(size) => {
                let own = disk::make(&self.folder, size)?;
                hit("container.start.disk");
                own
            }
            None => self.folder.clone(),
        };
        rootfs::mount(&self.folder, &prepared.layers, &own)?;
        try_hit("container.start.mounted").map_err(at(&self.folder))?;
        match &spec.network {
            Some(Networking::Own(network)) => {
                self.networks.connect(&self.folder, &self.id.0, network)?;
                try_hit("container.start.connected").map_err(at(&self.folder))?;
            }
            Some(Networking::Of(other)) => self.networks.expect(&self.of_neighbour(other), &other.0)?,
            None => {}
        }
        let who = user::resolve(&self.rootfs(), &spec.user)?;
        let cgroup = cgroup::name(&self.folder, &self.id);
        if let Some(given) = &spec.exchange {
            exchange::prepare(&self.folder, given)?;
        }
        let config = spec::configuration(self, spec, &who, &cgroup, seccomp::profile()?)?;
        let path = self.folder.join("config.json");
        fs::write(&path, config).map_err(at(path))
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

    /// Waits until no start is under way. False if there is no such folder.
    pub(super) fn settle(&self) -> Result<bool, ContainerError> {
        let path = self.folder.join(STARTING);
        match File::open(&path) {
            Ok(file) => {
                flock(&file, FlockOperation::LockShared).map_err(|errno| at(path)(errno.into()))?;
                Ok(true)
            }
            // A removal that was interrupted may have taken the lock file first.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(self.folder.exists()),
            Err(error) => Err(at(path)(error)),
        }
    }

    /// Whether somebody holds the monitor's lock: the starter, or the monitor.
    pub(super) fn is_monitored(&self) -> Result<bool, ContainerError> {
        let path = self.folder.join(MONITOR);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(at(path)(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(at(path)(errno.into())),
        }
    }

    /// What the files say. Waits for a start that is under way, in this process or another.
    pub(super) fn judge(&self) -> Result<Verdict, ContainerError> {
        if !self.settle()? {
            return Ok(self.exit().map_or(Verdict::Absent, Verdict::Exited));
        }
        if let Some(exit) = self.exit() {
            return Ok(Verdict::Exited(exit));
        }
        let begun = self.folder.join(BEGUN).exists();
        if let Some(monitor) = monitor::find(self)? {
            return Ok(if begun { Verdict::Begun(monitor) } else { Verdict::Unstarted });
        }
        // The monitor writes the code before it goes, so this order misses nothing.
        Ok(match self.exit() {
            Some(exit) => Verdict::Exited(exit),
            None if begun => Verdict::Exited(Exit::Lost { full: self.has_no_room() }),
            None if self.folder.exists() => Verdict::Unstarted,
            None => Verdict::Absent,
        })
    }

    /// How it ended, if it has.
    pub(super) fn exit(&self) -> Option<Exit> {
        let code = fs::read_to_string(&self.exit_file).ok()?.trim().parse().ok()?;
        // A container that the kernel killed in and that still ended well has done what it was asked.
        let out_of_memory = code != 0 && (self.persist().join("oom").exists() || self.oom_kills() > 0);
        Some(if out_of_memory { Exit::OutOfMemory { code } } else { Exit::Code { code } })
    }

    /// Whether the disk that exit codes are written to is full.
    fn has_no_room(&self) -> bool {
        let stat = self.exit_file.parent().and_then(|folder| rustix::fs::statvfs(folder).ok());
        // Some file systems have no number of inodes.
        stat.is_some_and(|stat| {
            stat.f_bavail * stat.f_frsize < LEAST_ROOM || stat.f_files > 0 && stat.f_favail == 0
        })
    }

    fn oom_kills(&self) -> u64 {
        self.cgroup().map_or(0, |name| cgroup::oom_kills(&name))
    }

    /// What its processes have used of the processors. `None` if there is no such container.
    pub(super) fn cpu_time(&self) -> Result<Option<Duration>, ContainerError> {
        Ok(self.cgroup().and_then(|name| cgroup::cpu_time(&name)))
    }

    fn cgroup(&self) -> Option<String> {
        fs::read_to_string(self.folder.join(CGROUP)).ok()
    }

    /// Takes back the promise of [`Self::mark_begun`], once it is known that the command was not executed.
    pub(super) fn unmark_begun(&self) -> Result<(), ContainerError> {
        remove_file(&self.folder.join(BEGUN))
    }

    /// Removes control groups, mount, network and folder; then the exit code, which speaks for the container until the end.
    pub(super) fn clear(&self) -> Result<(), ContainerError> {
        if let Some(name) = self.cgroup() {
            cgroup::remove(&name)?;
        }
        rootfs::unmount(&self.rootfs())?;
        disk::unmount(&self.folder)?;
        hit("container.remove.unmounted");
        self.networks.disconnect(&self.folder)?;
        hit("container.remove.disconnected");
        remove_folder(&self.folder)?;
        remove_folder(&self.unfinished())?;
        hit("container.remove.cleared");
        remove_file(&self.exit_file)
    }
}

fn locked(path: &Path) -> Result<OwnedFd, ContainerError> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(at(path))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| at(path)(errno.into()))?;
    Ok(file.into())
}

fn remove_folder(path: &Path) -> Result<(), ContainerError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

fn remove_file(path: &Path) -> Result<(), ContainerError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}

/// The ids of which anything is left, in order.
pub(super) fn list(layout: &Layout) -> Result<Vec<ContainerId>, ContainerError> {
    let mut ids = Vec::new();
    for folder in [layout.bundles(), layout.exits()] {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(at(folder)(error)),
        };
        for entry in entries {
            let name = entry.map_err(at(&folder))?.file_name();
            // What is not an id is unfinished: a folder before its rename, an exit file before its own.
            if let Some(id) = name.to_str().map(|name| ContainerId(name.to_owned()))
                && Bundle::of(layout, &id).is_ok()
            {
                ids.push(id);
            }
        }
    }
    ids.sort();
    ids.dedup();
    Ok(ids)
}
