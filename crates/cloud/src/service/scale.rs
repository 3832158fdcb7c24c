//! How many replicas a service has whose number follows its load.
//!
//! The load is how many requests and connections are under way or held, and the target how many of them one replica is
//! to have. More replicas are there as soon as they are needed, and fewer once fewer were enough for the whole of the
//! last while. With none left, a request wakes the service and is held until it is healthy.
//!
//! Nothing of this is on disk: after a restart there are as many replicas as were found, and the load says the rest.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tandem_model::inputs;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Shared, fleet::Fleet, version::Version};

/// How often the load is looked at; between looks its peak is kept.
const LOOK: Duration = Duration::from_millis(500);

/// How many are needed: pure.
#[derive(Debug)]
struct Need {
    bounds: inputs::Autoscale,
    /// What was needed when, of the last while: each less than the one before it, which is why that is kept.
    peaks: VecDeque<(Instant, u32)>,
}

impl Need {
    fn new(bounds: inputs::Autoscale, now: Instant, count: u32) -> Self {
        Self { bounds, peaks: [(now, count)].into() }
    }

    /// Takes in the load, and answers how many replicas there should be.
    fn after(&mut self, now: Instant, load: usize) -> u32 {
        let inputs::Autoscale { min, max, ref target, scale_down_after } = self.bounds;
        let window = Duration::try_from_secs_f64(scale_down_after).unwrap_or(Duration::MAX);
        let needed = (load as f64 / target.requests).ceil().min(f64::from(max)) as u32;
        while self.peaks.back().is_some_and(|(_, peak)| *peak <= needed) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((now, needed));
        while self.peaks.len() > 1
            && self.peaks.front().is_some_and(|(then, _)| now.duration_since(*then) >= window)
        {
            self.peaks.pop_front();
        }
        self.peaks.front().map_or(needed, |(_, peak)| *peak).clamp(min, max)
    }
}

/// Keeps as many replicas of a version as its load needs, until `stop`.
pub(super) async fn follow(
    shared: Arc<Shared>,
    fleet: Arc<Fleet>,
    version: Arc<Version>,
    bounds: inputs::Autoscale,
    stop: CancellationToken,
) {
    let mut need = Need::new(bounds, Instant::now(), fleet.scaled());
    loop {
        let look = async {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = fleet.backends.lacking() => {}
            }
        };
        if stop.run_until_cancelled(look).await.is_none() {
            return;
        }
        let count = need.after(Instant::now(), fleet.backends.peak());
        fleet.scale(&shared, &version, count, &stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(min: u32, max: u32, count: u32, now: Instant) -> Need {
        let target = inputs::ScaleTarget { requests: 2.0 };
        Need::new(inputs::Autoscale { min, max, target, scale_down_after: 60.0 }, now, count)
    }

    #[test]
    fn more_come_at_once_and_fewer_when_fewer_were_enough_for_the_whole_while() {
        let start = Instant::now();
        let mut need = need(1, 5, 1, start);
        let mut at = |second: u64, load| need.after(start + Duration::from_secs(second), load);
        assert_eq!([at(1, 0), at(2, 3), at(3, 4), at(4, 5), at(5, 100)], [1, 2, 2, 3, 5]);
        assert_eq!([at(6, 0), at(30, 6), at(64, 0)], [5, 5, 5], "five were needed within the last minute");
        assert_eq!([at(65, 0), at(89, 0)], [3, 3], "and three later on");
        assert_eq!([at(90, 0), at(200, 0)], [1, 1]);
    }

    #[test]
    fn none_are_left_only_where_none_are_allowed() {
        let start = Instant::now();
        for (min, expected) in [(0, 0), (2, 2)] {
            let mut need = need(min, 5, 1, start);
            assert_eq!(need.after(start + Duration::from_secs(59), 0), 1.max(min));
            assert_eq!(need.after(start + Duration::from_secs(60), 0), expected);
            assert_eq!(need.after(start + Duration::from_secs(61), 1), 1.max(min), "one request wakes it");
        }
    }
}
