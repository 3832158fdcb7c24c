//! How long a process has run, by the clock that nobody sets.

use std::{fs, time::Duration};

use nix::unistd::{SysconfVar, sysconf};

/// From its start to now, also while the machine slept; `None` if there is no such process.
pub(super) fn of_process(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have any character in it. The time of the start is field 22 (proc_pid_stat(5)), in ticks
    // since the machine started.
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: u64 = rest.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let a_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let started = Duration::from_secs_f64(ticks as f64 / a_second as f64);
    // Since the machine started, in seconds, to the hundredth.
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let now = Duration::try_from_secs_f64(uptime.split_ascii_whitespace().next()?.parse().ok()?).ok()?;
    Some(now.saturating_sub(started))
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Instant};

    use super::*;

    #[test]
    fn the_age_of_a_process_grows_with_time_and_ends_with_it() {
        let before = Instant::now();
        // A name with what separates the fields.
        let name = tempfile::tempdir().unwrap();
        let program = name.path().join("a) 1 b (");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = Command::new(&program).arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while of_process(pid).unwrap() < Duration::from_millis(60) {
            std::thread::yield_now();
        }
        // A tick is a hundredth of a second.
        assert!(of_process(pid).unwrap() <= before.elapsed() + Duration::from_millis(30));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of_process(pid), None);
        assert!(of_process(1).unwrap() > Duration::from_millis(60));
    }
}
