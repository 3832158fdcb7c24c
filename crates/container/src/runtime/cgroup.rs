//! The control groups of a container, in version 1 (a tree a controller), version 2, and both mounted side by side.
//!
//! The OCI runtime makes them. We read the kernel's count of out-of-memory kills, and see that nothing is left.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};

use crate::{ContainerError, ContainerId, layout::at};

const ROOT: &str = "/sys/fs/cgroup";

/// The name of a container's group, directly below the root: two homes may use the same id, and a group of ours in
/// between would have to be removed by whoever is last.
pub(super) fn name(bundle: &Path, id: &ContainerId) -> String {
    let home = Sha256::digest(bundle.as_os_str().as_encoded_bytes());
    format!("tandem-{:02x}{:02x}{:02x}{:02x}-{}", home[0], home[1], home[2], home[3], id.0)
}

/// Whether limits of memory and swap together can be set.
pub(super) fn limits_swap() -> bool {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        // The root group has no such file; our own has it where the kernel does.
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().to_owned();
        return root.join(own).join("memory.swap.max").exists();
    }
    root.join("memory/memory.memsw.limit_in_bytes").exists()
}

/// How many processes of the group the kernel has killed for memory.
pub(super) fn oom_kills(name: &str) -> u64 {
    let root = Path::new(ROOT);
    let files =
        [root.join("memory").join(name).join("memory.oom_control"), root.join(name).join("memory.events")];
    files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        })
        .sum()
}

/// What the processes of the group have used of the processors. `None`: there is no such group.
pub(super) fn cpu_time(name: &str) -> Option<Duration> {
    let root = Path::new(ROOT);
    // Nanoseconds.
    if let Ok(text) = fs::read_to_string(root.join("cpuacct").join(name).join("cpuacct.usage")) {
        return text.trim().parse().ok().map(Duration::from_nanos);
    }
    let text = fs::read_to_string(root.join(name).join("cpu.stat")).ok()?;
    let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    used.trim().parse().ok().map(Duration::from_micros)
}

/// Every folder that is this group in some hierarchy.
fn folders(name: &str) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<_> = std::iter::once(root.to_owned())
        .chain(hierarchies)
        .map(|tree| tree.join(name))
        .filter(|f| f.is_dir())
        .collect();
    // `cpu` and `cpu,cpuacct` may be links to one folder.
    found.sort();
    found.dedup_by_key(|folder| fs::canonicalize(&*folder).ok());
    found
}

/// Kills what is left in the group and removes it. Idempotent.
pub(super) fn remove(name: &str) -> Result<(), ContainerError> {
    for folder in folders(name) {
        remove_folder(&folder)?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<(), ContainerError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folder(&entry.path())?;
        }
    }
    let mut wait = Duration::from_micros(200);
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // A killed process leaves its group a moment later, and nothing tells when; the whole wait is 0.4 s.
            Err(error) if error.kind() == ErrorKind::ResourceBusy && wait < Duration::from_millis(250) => {
                kill_all(folder);
                thread::sleep(wait);
                wait *= 2;
            }
            Err(error) => return Err(at(folder)(error)),
        }
    }
}

fn kill_all(folder: &Path) {
    let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::KILL);
    }
}
