//! What the kernel says about a container that lacked memory.
//!
//! The engine hears of it by a watcher that it sets up when the container runs already: of one that fills its memory at
//! once it hears nothing (1 of 40 that did so). The kernel's log names the container's control group, unless it says so often that it
//! spares some.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
};

/// Whether the kernel's log has that it killed for the memory of this container, named by the engine's id. False if we may not
/// read it.
pub(super) fn killed_for_memory(container: &str) -> bool {
    let log =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open("/dev/kmsg");
    let Ok(mut log) = log else { return false };
    let mut record = [0; 8 << 10];
    loop {
        match log.read(&mut record) {
            Ok(0) => return false,
            Ok(size) if names(&String::from_utf8_lossy(&record[..size]), container) => return true,
            // `EPIPE`: records were overwritten meanwhile; the next read goes on behind them.
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {
                return false;
            }
            _ => {}
        }
    }
}

fn names(record: &str, container: &str) -> bool {
    let group = record.split_once("oom_memcg=").map(|(_, rest)| rest.split(',').next().unwrap_or_default());
    !container.is_empty() && group.is_some_and(|group| group.contains(container))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_that_lacked_memory_is_told_from_others_in_the_record() {
        let record = "4,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,cpuset=other,mems_allowed=0,oom_memcg=/docker/ours,task_memcg=/docker/theirs,task=dd";
        assert!(names(record, "ours"));
        assert!(!names(record, "theirs") && !names(record, "other") && !names(record, ""));
        assert!(names("6,1,2,-;oom-kill:oom_memcg=/system.slice/docker-ours.scope,task=dd", "ours"));
    }
}
