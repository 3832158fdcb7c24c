//! Kills a process that ticks at each failpoint, and looks at what the next start makes of it.

use serde_json::json;

use super::{Clock, Fixture};
use crate::killed;

/// The process that is killed.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn ticks() {
    let Some(folder) = killed::folder() else { return };
    let f = Fixture::open(&folder, Clock::at("2026-11-26T10:00:00Z")).await;
    f.timer("poll", json!({ "every": 60 })).await;
    f.timer("once", json!({ "at": "2026-11-26T10:01:00Z" })).await;
    f.fire_at("2026-11-26T10:01:00Z").await;
    f.fire_at("2026-11-26T10:02:00Z").await;
}

/// What a start finds of it, when the clock is where it was.
async fn killed_at(failpoint: &str, now: &str) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    killed::at(failpoint, "timer::tests::crash::ticks", folder.path());
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
            let f = killed_at(&format!("{failpoint}@{turn}"), then).await;
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
        let f = killed_at(failpoint, "2026-11-26T10:00:00Z").await;
        assert_eq!(f.timers.status(None).len(), there, "{failpoint}");
        assert_eq!(f.store.snapshot().unwrap().prefix(b"timer/").unwrap().count(), there, "{failpoint}");
    }
}
