//! Kills a process that ticks at each failpoint, and looks at what the next start makes of it.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::json;

use super::{Clock, Fixture};

const FOLDER: &str = "TANDEM_TIMER_CRASH_FOLDER";

/// The process that is killed.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn ticks() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let f = Fixture::open(Path::new(&folder), Clock::at("2026-11-26T10:00:00Z")).await;
    f.timer("poll", json!({ "every": 60 })).await;
    f.timer("once", json!({ "at": "2026-11-26T10:01:00Z" })).await;
    f.fire_at("2026-11-26T10:01:00Z").await;
    f.fire_at("2026-11-26T10:02:00Z").await;
}

/// What a start finds of it, when the clock is where it was.
async fn killed(failpoint: &str, now: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["timer::tests::crash::ticks", "--exact", "--ignored"])
        .env(tandem_failpoint::VARIABLE, failpoint)
        .env(FOLDER, folder.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success(), "{failpoint} was never passed");
    let mut f = Fixture::open(folder.path(), Clock::at(now)).await;
    f._folder = Some(folder);
    f
}

/// Whatever was cut off: after the next start each time has had its tick, once.
#[tokio::test]
async fn killed_around_a_tick_it_is_neither_lost_nor_doubled() {
    for failpoint in ["timer.tick.due", "timer.tick.committed"] {
        for turn in 1..=3 {
            // The first two are ticks of the first minute.
            let then = if turn < 3 { "2026-11-26T10:01:00Z" } else { "2026-11-26T10:02:00Z" };
            let f = killed(&format!("{failpoint}@{turn}"), then).await;
            for now in [then, "2026-11-26T10:02:00Z", "2026-11-26T10:02:01Z"] {
                f.fire_at(now).await;
            }
            let mut ticks = f.ticks();
            ticks.sort();
            let expected = ["2026-11-26T10:01:00Z", "2026-11-26T10:01:00Z", "2026-11-26T10:02:00Z"];
            assert_eq!(ticks, expected, "{failpoint}@{turn}");
            assert_eq!(f.next("once"), None, "{failpoint}@{turn}");
        }
    }
}

#[tokio::test]
async fn killed_while_a_timer_is_made_it_is_there_whole_or_not_at_all() {
    for (failpoint, there) in [("target.change.prepared", 0), ("target.change.committed", 1)] {
        let f = killed(failpoint, "2026-11-26T10:00:00Z").await;
        assert_eq!(f.timers.status(None).len(), there, "{failpoint}");
        assert_eq!(f.store.snapshot().unwrap().prefix(b"timer/").unwrap().count(), there, "{failpoint}");
    }
}
