//! What the machine bears just now, as the kernel tells.

use std::fs;

/// One more worker may start while this part of the machine's memory is available: a tenth.
const SPARE_MEMORY: u64 = 10;

/// Whether the process's first thread, which runs a worker's JavaScript, runs or would run if a processor were free.
/// One that waits, for a container or for another function, sleeps. A process that is gone does not compute.
pub(super) fn computes(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| matches!(state(&stat), Some('R' | 'D')))
}

/// Whether there is such a process, and it has not ended yet.
pub(in crate::function) fn lives(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !matches!(state(&stat), Some('Z' | 'X')))
}

/// `pid (name) state …`; the name may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether the machine has memory for one more worker. True where the kernel does not say.
pub(super) fn has_memory() -> bool {
    fs::read_to_string("/proc/meminfo").map_or(true, |text| enough(&text))
}

fn enough(meminfo: &str) -> bool {
    let of = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    };
    match (of("MemTotal:"), of("MemAvailable:")) {
        (Some(total), Some(available)) => available >= total / SPARE_MEMORY,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_computes_while_it_runs_or_waits_for_a_processor() {
        assert_eq!(state("7 (a) b) R 1 7"), Some('R'));
        assert_eq!(state("7 (tandem-worker) S 1 7"), Some('S'));
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(lives(own) && !lives(i32::MAX) && !computes(i32::MAX));
    }

    #[test]
    fn memory_is_short_below_a_tenth() {
        assert!(enough("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   100 kB\n"));
        assert!(!enough("MemTotal:  1000 kB\nMemFree: 900 kB\nMemAvailable:   99 kB\n"));
        assert!(enough(""));
    }
}
