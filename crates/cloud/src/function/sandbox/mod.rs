//! What keeps a worker in: a root of its own, namespaces, a memory limit, an unprivileged user, few system calls.
//!
//! In the order of a worker's life:
//! 1. Once for all workers, [`root::enter`] gives the spawner a mount namespace whose only file system is a small
//!    read-only one. Nothing of the host's is in it, so there is nothing to hide from its children.
//! 2. A worker is born in a [`seat::Seat`], a cgroup of its own, and in a new process namespace.
//! 3. [`enclose`] gives it its own mounts, IPC, host name and `/tmp`, and takes from it for good what no function needs:
//!    capabilities of whatever it executes, and most system calls. That takes the longest, so a spare has it behind it.
//! 4. [`confine`], once it knows its function and before any user code: limits, and the function's user.
//!
//! The network is the host's: a worker can connect to addresses, but not to Unix sockets, so neither to the control
//! API nor to anything that listens on an abstract name.

mod privileges;
pub(super) mod root;
pub(super) mod seat;
pub(super) mod syscalls;

use std::io;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};

use seat::Seat;
use syscalls::Filters;

/// What a function's worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Allowance {
    /// The function's own unprivileged user and group.
    pub(super) user: u32,
    /// In bytes.
    pub(super) memory: u64,
}

/// The smallest limit under which a worker can start.
pub(super) const LEAST_MEMORY: u64 = 16 << 20;
const OPEN_FILES: u64 = 1024;
const LARGEST_FILE: u64 = 512 << 20;
/// Where no seat counts the processes and threads of each worker.
const PROCESSES: u64 = 256;

/// Gives a new worker its own mounts, IPC objects and host name, and bounds what it can ever do. The process namespace
/// is its parent's business.
///
/// # Errors
/// Of the system calls; the worker must not go on.
pub(super) fn enclose(filters: &Filters) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)?;
    nix::unistd::sethostname("worker")?;
    // Its pages count against the worker's memory.
    mount(
        Some("tmp"),
        "/tmp",
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("size=512m,nr_inodes=64k,mode=1777"),
    )?;
    privileges::bound()?;
    filters.install()
}

/// Takes from the worker what its function must not have. After this, user code may run.
///
/// # Errors
/// Of the system calls; the worker must not go on.
pub(super) fn confine(allowance: Allowance, seat: Option<&Seat>) -> io::Result<()> {
    if let Some(seat) = seat {
        seat.limit(allowance.memory)?;
    }
    let mut limits = vec![
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NOFILE, OPEN_FILES),
        (Resource::RLIMIT_FSIZE, LARGEST_FILE),
    ];
    if seat.is_none() {
        // Counts all workers of the function together, so it would also bound how many of them there can be.
        limits.push((Resource::RLIMIT_NPROC, PROCESSES));
    }
    for (resource, limit) in limits {
        // Never higher than now: raising needs a capability that a cloud in a container may lack.
        let (soft, hard) = getrlimit(resource)?;
        setrlimit(resource, soft.min(limit), hard.min(limit))?;
    }
    privileges::drop_all(allowance.user)
}
