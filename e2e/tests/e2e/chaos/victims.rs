//! Finding and killing the processes of a cloud.

use std::fs;

use nix::{
    sys::signal::{Signal, kill as signal},
    unistd::Pid,
};

use super::schedule::Victim;

/// Kills with -9; false if there is nobody of that kind.
pub(crate) fn kill(cloud: Pid, victim: Victim) -> bool {
    let found = match victim {
        Victim::Cloud => Some(cloud),
        Victim::Spawner => spawner(cloud),
        Victim::Worker(nth) => {
            let workers = spawner(cloud).map(children).unwrap_or_default();
            (!workers.is_empty()).then(|| workers[nth % workers.len()])
        }
    };
    found.is_some_and(|pid| signal(pid, Signal::SIGKILL).is_ok())
}

/// False if it has gone by itself.
pub(super) fn kill_process(pid: i32) -> bool {
    signal(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
}

/// Tells the cloud to end.
pub(super) fn stop(cloud: Pid) {
    signal(cloud, Signal::SIGTERM).unwrap();
}

/// The process that workers are forked from is a fork itself, with the cloud's own command line; one that replaces it was
/// executed with a word of its own.
fn spawner(cloud: Pid) -> Option<Pid> {
    let command = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).ok();
    let own = command(cloud)?;
    let is_spawner = |line: String| line == own || line.contains("__workers");
    children(cloud).into_iter().find(|child| command(*child).is_some_and(is_spawner))
}

fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found: Vec<i32> = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .collect();
    found.sort_unstable();
    found.into_iter().map(Pid::from_raw).collect()
}
