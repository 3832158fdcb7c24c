//! What a cloud could leave behind: processes, mounts, control groups.
//!
//! A process belongs to a cloud if its command line or environment names the cloud's folder, or if it descends from
//! such a process. Control groups do not name the folder, so those that such processes are in are remembered while
//! they live.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(super) struct Trace {
    home: String,
    groups: RefCell<BTreeSet<PathBuf>>,
}

struct Process {
    parent: i32,
    shown: String,
    names_home: bool,
}

impl Trace {
    pub(super) fn of(home: &Path) -> Self {
        Self { home: home.to_str().unwrap().to_owned(), groups: RefCell::default() }
    }

    fn pids(&self) -> BTreeMap<i32, String> {
        let own = std::process::id().cast_signed();
        let all: BTreeMap<i32, Process> = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, self.read(pid)?)))
            .collect();
        let belongs = |pid: &i32| {
            let mut at = *pid;
            // A chain of parents ends at process 1, or at us: our other children are not the cloud's.
            while at != own
                && let Some(process) = all.get(&at)
            {
                if process.names_home {
                    return true;
                }
                at = process.parent;
            }
            false
        };
        all.iter().filter(|(pid, _)| belongs(pid)).map(|(pid, p)| (*pid, p.shown.clone())).collect()
    }

    fn read(&self, pid: i32) -> Option<Process> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let text = |name: &str| {
            fs::read(folder.join(name)).map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        };
        let stat = text("stat").ok()?;
        // `pid (name) state parent …`; the name may hold anything.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        if fields.next() == Some("Z") {
            return None;
        }
        let parent = fields.next()?.parse().ok()?;
        let command = text("cmdline").unwrap_or_default();
        let names_home =
            command.contains(&self.home) || text("environ").is_ok_and(|all| all.contains(&self.home));
        Some(Process { parent, shown: format!("{pid} {}", command.trim()), names_home })
    }

    pub(super) fn processes(&self) -> Vec<String> {
        self.pids().into_values().collect()
    }

    pub(super) fn mounts(&self) -> Vec<String> {
        let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
        all.lines().filter(|line| line.contains(&self.home)).map(str::to_owned).collect()
    }

    pub(super) fn observe(&self) {
        let ours = groups_of("self");
        for pid in self.pids().into_keys() {
            let groups = groups_of(&pid.to_string());
            self.groups.borrow_mut().extend(groups.difference(&ours).cloned());
        }
    }

    fn groups_left(&self) -> Vec<PathBuf> {
        self.groups.borrow().iter().filter(|group| group.is_dir()).cloned().collect()
    }

    /// The bridges of networks that the cloud has claimed.
    pub(super) fn networks(&self) -> Vec<String> {
        let claims = fs::read_dir("/run/tandem/networks").into_iter().flatten().flatten();
        let ours = claims
            .filter(|claim| fs::read_to_string(claim.path()).is_ok_and(|home| home.starts_with(&self.home)));
        ours.map(|claim| format!("tandem-{}", claim.file_name().to_string_lossy().replace('.', "-")))
            .collect()
    }

    /// The cloud was stopped: nothing of it may be left. What is ending gets a moment to end.
    #[track_caller]
    pub(super) fn nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = (self.processes(), self.mounts(), self.groups_left(), self.networks());
            if left.0.is_empty() && left.1.is_empty() && left.2.is_empty() && left.3.is_empty() {
                return;
            }
            if Instant::now() > deadline {
                self.clean();
                panic!(
                    "left behind: processes {:#?}, mounts {:#?}, control groups {:#?}, networks {:#?}",
                    left.0, left.1, left.2, left.3
                );
            }
            // No event tells that processes of somebody else, mounts and control groups are gone.
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Kills everything in an order in which nobody notes how another one ended.
    pub(super) fn kill_monitors_first(&self) {
        let mut all: Vec<(i32, String)> = self.pids().into_iter().collect();
        all.sort_by_key(|(_, shown)| !shown.contains("conmon"));
        for (pid, _) in all {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Ends what is left, as far as it can be.
    pub(super) fn clean(&self) {
        for bridge in self.networks() {
            let _ = Command::new("ip").args(["link", "delete", &bridge]).status();
            let claim = bridge.trim_start_matches("tandem-").replace('-', ".");
            let _ = fs::remove_file(Path::new("/run/tandem/networks").join(claim));
        }
        for pid in self.pids().into_keys() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let mut mounts: Vec<String> =
            self.mounts().iter().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect();
        mounts.sort_by_key(|point| std::cmp::Reverse(point.len()));
        for point in mounts {
            let _ = nix::mount::umount2(point.as_str(), nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

/// The folders of the control groups that a process is in, in every hierarchy.
fn groups_of(pid: &str) -> BTreeSet<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let folder = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let path = path.trim_start_matches('/');
        if path.is_empty() {
            // The root of a hierarchy is nobody's to remove: a process passes through it on its way to another group.
            return None;
        }
        if number == "0" {
            let hybrid = Path::new("/sys/fs/cgroup/unified");
            let root = if hybrid.is_dir() { hybrid } else { Path::new("/sys/fs/cgroup") };
            return Some(root.join(path));
        }
        let name = controllers.strip_prefix("name=").unwrap_or(controllers);
        Some(Path::new("/sys/fs/cgroup").join(name).join(path))
    };
    text.lines().filter_map(folder).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_is_left_behind_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        let trace = Trace::of(&home);
        assert_eq!((trace.processes(), trace.mounts()), (Vec::new(), Vec::new()));

        // A shell that names the folder, its child that does not, and a mount.
        let script = "env -u TANDEM_HOME sleep 1000 & wait";
        let mut shell = Command::new("sh").args(["-c", script]).env("TANDEM_HOME", &home).spawn().unwrap();
        let none: Option<&str> = None;
        nix::mount::mount(Some("tmpfs"), &home, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
        while trace.processes().len() < 2 {
            std::thread::yield_now();
        }
        assert!(
            trace.processes().iter().any(|process| process.ends_with("sleep 1000")),
            "{:?}",
            trace.processes()
        );
        assert_eq!(trace.mounts().len(), 1);

        trace.clean();
        shell.wait().unwrap();
        trace.nothing_left();
    }
}
