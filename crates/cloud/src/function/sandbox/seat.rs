//! A worker's cgroup, prepared before the worker is born.
//!
//! Moving a process into a cgroup waits for a grace period of the kernel: 4 to 16 ms were measured, more than all the
//! rest of a cold start. A child, however, is born where its parent is. So the spawner itself sits in the next
//! worker's seat, and moves on to a fresh one after each birth, when nobody waits.
//!
//! Both versions of cgroups are supported: with version 1 a seat is a folder in each of two or three hierarchies.
//!
//! A seat limits memory, processes and threads. Of the processors it has a share: all seats together weigh as much as one
//! ordinary process on each processor, and among themselves all weigh the same, however many threads sit in one.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, openat},
    sys::{
        signal::{Signal, kill},
        stat::{Mode, mkdirat},
    },
    unistd::{Pid, UnlinkatFlags, unlinkat, write},
};

/// Processes and threads of one worker.
const PROCESSES: &str = "128";

/// Where the kernel shows its cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::function) enum Hierarchy {
    /// The hierarchies of version 1. Without `cpu` a worker's share of the processors is that of its threads.
    V1 {
        memory: PathBuf,
        pids: PathBuf,
        cpu: Option<PathBuf>,
    },
    V2(PathBuf),
}

impl Hierarchy {
    /// Finds what is mounted; none if there is no memory controller.
    pub(in crate::function) fn detect() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/mounts").ok()?, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        })
    }

    fn parse(mounts: &str, controllers: impl Fn(&Path) -> String) -> Option<Self> {
        let mut v1 = (None, None, None);
        let mut v2 = None;
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(path), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let has = |name| options.split(',').any(|option| option == name);
            match kind {
                "cgroup" if has("memory") => v1.0 = Some(PathBuf::from(path)),
                "cgroup" if has("pids") => v1.1 = Some(PathBuf::from(path)),
                "cgroup" if has("cpu") => v1.2 = Some(PathBuf::from(path)),
                "cgroup2" if controllers(Path::new(path)).split_whitespace().any(|c| c == "memory") => {
                    v2 = Some(PathBuf::from(path));
                }
                _ => {}
            }
        }
        match (v1, v2) {
            ((Some(memory), Some(pids), cpu), _) => Some(Self::V1 { memory, pids, cpu }),
            (_, Some(root)) => Some(Self::V2(root)),
            _ => None,
        }
    }

    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1 { memory, pids, cpu } => {
                [memory, pids].into_iter().chain(cpu).map(PathBuf::as_path).collect()
            }
            Self::V2(root) => vec![root],
        }
    }
}

/// The cgroup that holds the seats of one cloud, as open folders: the spawner has no path to them.
#[derive(Debug)]
pub(in crate::function) struct Row {
    v2: bool,
    roots: Vec<OwnedFd>,
    name: String,
    folders: Vec<OwnedFd>,
    last: u64,
    /// Rows of former spawners in which somebody sat until now. A killed process takes a moment to go.
    stale: Vec<String>,
}

/// One worker's cgroup. Dropping it closes its files and removes nothing; see [`Row::remove`].
#[derive(Debug)]
pub(in crate::function) struct Seat {
    v2: bool,
    name: String,
    /// The folder with the memory controller first, then the one that counts processes, if it is another.
    folders: Vec<OwnedFd>,
}

fn open(at: BorrowedFd<'_>, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
    Ok(openat(at, path, flags | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn put(folder: BorrowedFd<'_>, file: &str, text: &str) -> io::Result<()> {
    write(open(folder, file, OFlag::O_WRONLY)?, text.as_bytes())?;
    Ok(())
}

fn read(folder: BorrowedFd<'_>, file: &str) -> io::Result<String> {
    io::read_to_string(fs::File::from(open(folder, file, OFlag::O_RDONLY)?))
}

fn make(at: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(at, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => open(at, name, OFlag::O_DIRECTORY),
        Err(error) => Err(error.into()),
    }
}

/// The folders inside `folder`.
fn children(folder: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    use nix::dir::{Dir, Type};
    let mut dir = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(dir
        .iter()
        .flatten()
        .filter(|entry| entry.file_type() == Some(Type::Directory))
        .filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()))
        .filter(|name| name != "." && name != "..")
        .collect())
}

/// The folders inside `folder`, opened.
fn seats(folder: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let names = children(folder).unwrap_or_default();
    names.iter().filter_map(|name| open(folder, name, OFlag::O_DIRECTORY).ok()).collect()
}

/// Removes the folder of this name in each of these; false if somebody still sits there.
fn removed(folders: &[OwnedFd], name: &str) -> bool {
    let mut all = true;
    // Each of them, also if one fails.
    for folder in folders {
        let removed = unlinkat(folder.as_fd(), name, UnlinkatFlags::RemoveDir);
        all &= matches!(removed, Ok(()) | Err(Errno::ENOENT));
    }
    all
}

/// Ends what a spawner that was killed has left: it may have learnt not to end by itself.
fn end_all_in(folder: BorrowedFd<'_>) {
    let pids = read(folder, "cgroup.procs").unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Lets the groups in this one (version 2) have controllers. That of the processors may be missing.
fn hand_down(folder: BorrowedFd<'_>) -> io::Result<()> {
    let _ = put(folder, "cgroup.subtree_control", "+cpu");
    put(folder, "cgroup.subtree_control", "+memory +pids")
}

/// Gives all seats together the weight of one ordinary process on each processor. Without it workers have the
/// processors to themselves only as far as everybody else leaves them.
fn weigh(v2: bool, folders: &[OwnedFd]) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (folder, file, each) =
        if v2 { (folders.first(), "cpu.weight", 100) } else { (folders.get(2), "cpu.shares", 1024) };
    if let Some(folder) = folder {
        let _ = put(folder.as_fd(), file, &(each * processors).min(10_000).to_string());
    }
}

/// The hierarchies' roots, opened while their paths are still reachable.
///
/// # Errors
/// If they cannot be opened.
pub(in crate::function) fn open_roots(hierarchy: &Hierarchy) -> io::Result<Vec<OwnedFd>> {
    hierarchy.roots().into_iter().map(|root| Ok(OwnedFd::from(fs::File::open(root)?))).collect()
}

impl Row {
    /// Makes a cgroup of this process, `<cloud>-<process>`, and ends and removes what former spawners of the cloud left.
    ///
    /// Each spawner has a row of its own, because that of a killed cloud takes a moment to go, and removes its row then:
    /// were it the same one, the next spawner could not sit down in it any more.
    ///
    /// # Errors
    /// If the hierarchy is read-only or does not pass its controllers on.
    pub(in crate::function) fn open(
        hierarchy: &Hierarchy,
        roots: Vec<OwnedFd>,
        cloud: &str,
    ) -> io::Result<Self> {
        let v2 = matches!(hierarchy, Hierarchy::V2(_));
        let (prefix, name) = (format!("{cloud}-"), format!("{cloud}-{}", std::process::id()));
        let (mut folders, mut stale) = (Vec::new(), Vec::new());
        for root in &roots {
            if v2 {
                hand_down(root.as_fd())?;
            }
            for left in children(root.as_fd())?.into_iter().filter(|other| other.starts_with(&prefix)) {
                let row = open(root.as_fd(), &left, OFlag::O_DIRECTORY);
                for seat in row.iter().flat_map(|row| seats(row.as_fd())) {
                    end_all_in(seat.as_fd());
                }
                stale.push(left);
            }
        }
        stale.sort();
        stale.dedup();
        let mut row = Self { v2, roots, name, folders: Vec::new(), last: 0, stale };
        // A row of this name is that of a process long gone.
        row.remove_stale();
        row.stale.retain(|left| *left != row.name);
        for root in &row.roots {
            let folder = make(root.as_fd(), &row.name)?;
            if v2 {
                hand_down(folder.as_fd())?;
            }
            folders.push(folder);
        }
        weigh(v2, &folders);
        Ok(Self { folders, ..row })
    }

    /// Removes the rows of former spawners as far as nobody sits there any more.
    fn remove_stale(&mut self) {
        let roots = &self.roots;
        self.stale.retain(|left| {
            for root in roots {
                if let Ok(row) = open(root.as_fd(), left, OFlag::O_DIRECTORY) {
                    for seat in children(row.as_fd()).unwrap_or_default() {
                        let _ = unlinkat(row.as_fd(), seat.as_str(), UnlinkatFlags::RemoveDir);
                    }
                }
            }
            !removed(roots, left)
        });
    }

    /// Makes a fresh seat and moves this process into it.
    ///
    /// # Errors
    /// If the kernel refuses; the process may then sit in one of the hierarchies only.
    pub(in crate::function) fn sit_down(&mut self) -> io::Result<Seat> {
        self.remove_stale();
        let name = loop {
            self.last += 1;
            let name = format!("worker-{}", self.last);
            match mkdirat(self.folders[0].as_fd(), name.as_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) => break name,
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let folders: Vec<_> =
            self.folders.iter().map(|folder| make(folder.as_fd(), &name)).collect::<io::Result<_>>()?;
        let seat = Seat { v2: self.v2, name, folders };
        let pids = seat.folders.get(1).unwrap_or(&seat.folders[0]).as_fd();
        put(pids, "pids.max", PROCESSES)?;
        for folder in &seat.folders {
            put(folder.as_fd(), "cgroup.procs", "0")?;
        }
        Ok(seat)
    }

    /// Removes a seat in which nobody sits any more.
    pub(in crate::function) fn remove(&self, seat: &Seat) {
        removed(&self.folders, &seat.name);
    }

    /// Leaves the cgroup and removes it, if no worker is left in it.
    pub(in crate::function) fn leave(mut self, seat: Option<&Seat>) {
        for root in &self.roots {
            let _ = put(root.as_fd(), "cgroup.procs", "0");
        }
        if let Some(seat) = seat {
            self.remove(seat);
        }
        self.remove_stale();
        for root in &self.roots {
            let _ = unlinkat(root.as_fd(), self.name.as_str(), UnlinkatFlags::RemoveDir);
        }
    }
}

impl Seat {
    /// Bounds the memory, in bytes, of everything that sits here.
    ///
    /// # Errors
    /// If the kernel refuses the limit.
    pub(super) fn limit(&self, memory: u64) -> io::Result<()> {
        let (folder, bytes) = (self.folders[0].as_fd(), memory.to_string());
        if self.v2 {
            put(folder, "memory.max", &bytes)?;
            let _ = put(folder, "memory.swap.max", "0");
        } else {
            put(folder, "memory.limit_in_bytes", &bytes)?;
            let _ = put(folder, "memory.memsw.limit_in_bytes", &bytes);
        }
        Ok(())
    }

    /// Whether the kernel ended something here because the limit was reached.
    pub(in crate::function) fn ran_out_of_memory(&self) -> bool {
        let file = if self.v2 { "memory.events" } else { "memory.oom_control" };
        read(self.folders[0].as_fd(), file).is_ok_and(|text| {
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
        })
    }

    pub(in crate::function) fn keeps(&self) -> impl Iterator<Item = i32> {
        self.folders.iter().map(AsRawFd::as_raw_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                          cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0\n\
                          cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";

    #[test]
    fn the_hierarchy_with_the_memory_controller_is_chosen() {
        let v1 = |cpu: Option<&str>| {
            let (memory, pids) = ("/sys/fs/cgroup/memory".into(), "/sys/fs/cgroup/pids".into());
            Some(Hierarchy::V1 { memory, pids, cpu: cpu.map(PathBuf::from) })
        };
        assert_eq!(Hierarchy::parse(HYBRID, |_| String::new()), v1(None));
        let with_cpu = format!("{HYBRID}cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n");
        assert_eq!(Hierarchy::parse(&with_cpu, |_| String::new()), v1(Some("/sys/fs/cgroup/cpu,cpuacct")));
        let unified = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        let v2 = Hierarchy::V2("/sys/fs/cgroup".into());
        assert_eq!(Hierarchy::parse(unified, |_| "cpu memory pids".into()), Some(v2));
        assert_eq!(Hierarchy::parse(unified, |_| "cpu".into()), None);
        assert_eq!(Hierarchy::parse("tmpfs /tmp tmpfs rw 0 0\n", |_| String::new()), None);
    }
}
