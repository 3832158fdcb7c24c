//! What the kernel says about this machine: its memory and processors, and what a container uses. Versions 1 and 2
//! of control groups.

use std::fs;

use tandem_model::ByteSize;

use super::Room;

/// Of the machine's memory, what all runs and replicas together may set aside, in hundredths. The rest is for the cloud
/// itself, for functions, and for the page cache.
const SHARE: u64 = 80;

impl Room {
    /// What this machine, or the control group that we run in, has for runs.
    pub fn of_this_machine() -> Self {
        let total = total().unwrap_or(u64::MAX / SHARE);
        let limit = own_limit();
        let memory = ByteSize(total.min(limit.unwrap_or(u64::MAX)) / 100 * SHARE);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { memory, millicores: 1000 * cores as u64 }
    }
}

/// What the control group of a process uses now; `None` if the process is gone or in no group of its own.
pub(crate) fn memory_of(pid: i32) -> Option<ByteSize> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let (folder, group, file) = find_group(&groups, "memory.usage_in_bytes", "memory.current")?;
    if group == "/" {
        return None;
    }
    read(&format!("/sys/fs/cgroup{folder}{group}/{file}")).map(ByteSize)
}

/// The limit of the control group that we run in.
fn own_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let (folder, group, file) = find_group(&groups, "memory.limit_in_bytes", "memory.max")?;
    // Inside a container the group's path may be that of the host; its files are then at the root of the mount.
    read(&format!("/sys/fs/cgroup{folder}{group}/{file}"))
        .or_else(|| read(&format!("/sys/fs/cgroup{folder}/{file}")))
}

fn total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kibibytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn read(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Of the lines `<hierarchy>:<controllers>:<path>`: the memory controller's (version 1), or else that of version 2.
fn find_group<'a>(groups: &'a str, v1: &'a str, v2: &'a str) -> Option<(&'static str, &'a str, &'a str)> {
    let parts = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let version_1 = parts().find(|(controllers, _)| controllers.split(',').any(|c| c == "memory"));
    match version_1 {
        Some((_, group)) => Some(("/memory", group, v1)),
        None => parts().find(|(controllers, _)| controllers.is_empty()).map(|(_, group)| ("", group, v2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_group_is_found_in_both_versions() {
        let hybrid = "5:cpu,cpuacct:/c\n4:memory:/tandem/r1\n0::/unified\n";
        assert_eq!(find_group(hybrid, "v1", "v2"), Some(("/memory", "/tandem/r1", "v1")));
        let unified = "0::/tandem/r1\n";
        assert_eq!(find_group(unified, "v1", "v2"), Some(("", "/tandem/r1", "v2")));
        assert_eq!(find_group("", "v1", "v2"), None);
    }

    #[test]
    fn this_machine_has_memory_and_cores() {
        let room = Room::of_this_machine();
        assert!(room.memory > ByteSize::mebibytes(16) && room.memory < ByteSize(1 << 50), "{room}");
        assert!(room.millicores >= 1000);
    }
}
