//! The time of queues: milliseconds since 1970 that never go back, and go on when the wall clock is set back.
//!
//! It is the wall clock, or what has passed since that was ahead last. So a wall clock that is set back by an hour hides no
//! message for an hour, and after a sleep of the machine the time is right. Over a restart the rows help: the clock of a
//! queue begins at its newest message, if the wall clock is behind that.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// Tells the time. Tests tell their own.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

pub(crate) fn system() -> Clock {
    let started = Instant::now();
    let ahead = Mutex::new(Ahead::default());
    Arc::new(move || {
        let wall = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        ahead.lock().unwrap_or_else(PoisonError::into_inner).now(wall, started.elapsed())
    })
}

/// When the wall clock was ahead of what had passed, for the last time.
#[derive(Debug, Default)]
struct Ahead {
    wall: u64,
    at: Duration,
}

impl Ahead {
    fn now(&mut self, wall: u64, passed: Duration) -> u64 {
        let since = passed.saturating_sub(self.at);
        let steady = self.wall + u64::try_from(since.as_millis()).unwrap_or(0);
        if wall >= steady {
            (self.wall, self.at) = (wall, passed);
        }
        wall.max(steady)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_while_the_wall_clock_is_set_back_and_follows_it_ahead() {
        let (mut clock, second) = (Ahead::default(), Duration::from_secs);
        assert_eq!(clock.now(10_000_000, second(0)), 10_000_000);
        assert_eq!(clock.now(10_001_000, second(1)), 10_001_000);
        // An hour back.
        assert_eq!(clock.now(6_402_000, second(2)), 10_002_000);
        assert_eq!(clock.now(6_405_000, second(5)), 10_005_000);
        // A sleep of the machine, of which only the wall clock knows.
        assert_eq!(clock.now(90_000_000, second(6)), 90_000_000);
        assert_eq!(clock.now(90_001_000, second(7)), 90_001_000);
    }
}
