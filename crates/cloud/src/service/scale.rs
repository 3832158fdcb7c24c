//! How many replicas a service has whose number follows its load.
//!
//! The load is how many requests and connections are under way or held, or how much processor time the replicas use, and the
//! target how much of it one replica is to have. More replicas are there as soon as they are needed, and fewer once fewer were enough for the whole of the
//! last while. With none left, a request wakes the service and is held until it is healthy.
//!
//! Nothing of this is on disk: after a restart there are as many replicas as were found, and the load says the rest.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tandem_model::inputs;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Shared, fleet::Fleet, version::Version};

/// How often the load is looked at; between looks its peak is kept.
const LOOK: Duration = Duration::from_millis(500);
/// The processor time that counts is that of the last while, also against a start of a garbage collector.
const WINDOW: Duration = Duration::from_secs(5);
/// Of what one replica may have, less is what a server does that nobody asks.
const IDLE: f64 = 0.02;

/// What a service has to do at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    /// Requests and connections under way or held; the peak since the last look.
    requests: usize,
    /// Of what one replica may have of the processors; all replicas together.
    replicas_busy: f64,
}

impl Load {
    /// How many replicas would have of it what is the target.
    fn needs(&self, target: &inputs::ScaleTarget) -> f64 {
        let by_requests = target.requests.map_or(0.0, |each| (self.requests as f64 / each).ceil());
        let by_cpu = target.cpu.map_or(0.0, |percent| {
            let busy = if self.replicas_busy < IDLE { 0.0 } else { self.replicas_busy };
            // A server that waits for others is busy without a processor, too.
            (busy / (percent / 100.0)).ceil().max(if self.requests > 0 { 1.0 } else { 0.0 })
        });
        by_requests.max(by_cpu)
    }
}

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
    fn after(&mut self, now: Instant, load: &Load) -> u32 {
        let inputs::Autoscale { min, max, ref target, scale_down_after } = self.bounds;
        let window = Duration::try_from_secs_f64(scale_down_after).unwrap_or(Duration::MAX);
        let needed = load.needs(target).min(f64::from(max)) as u32;
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
    let by_cpu = bounds.target.cpu.is_some();
    let mut need = Need::new(bounds, Instant::now(), fleet.scaled());
    let mut meter = Meter::default();
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
        let mut load = Load { requests: fleet.backends.peak(), ..Load::default() };
        if by_cpu {
            let used = used(&shared, &fleet, &version).await;
            load.replicas_busy = meter.after(Instant::now(), used) / version.processors;
        }
        let count = need.after(Instant::now(), &load);
        fleet.scale(&shared, &version, count, &stop);
    }
}

/// The processor time that each healthy replica has used since its start, by its id. What it used before it was healthy
/// is that of its start, and says nothing about the load.
async fn used(shared: &Shared, fleet: &Fleet, version: &Version) -> BTreeMap<String, Duration> {
    let mut all = BTreeMap::new();
    for (_, _, state) in fleet.states(Some(&version.name)) {
        let Some(id) = state.id.filter(|_| state.healthy) else { continue };
        let mut sum = Duration::ZERO;
        for container in version.containers(&id) {
            // One that has just ended is of no account.
            sum += shared.parts.runtime.cpu_time(&container).await.unwrap_or_default();
        }
        all.insert(id, sum);
    }
    all
}

/// Turns processor time into how many processors are busy, on the average of the last while: pure.
#[derive(Debug, Default)]
struct Meter {
    /// What each replica had used, and when: the last while, the oldest first.
    seen: BTreeMap<String, VecDeque<(Instant, Duration)>>,
}

impl Meter {
    fn after(&mut self, now: Instant, used: BTreeMap<String, Duration>) -> f64 {
        self.seen.retain(|id, _| used.contains_key(id));
        let mut busy = 0.0;
        for (id, used) in used {
            let seen = self.seen.entry(id).or_default();
            seen.push_back((now, used));
            while seen.get(1).is_some_and(|(then, _)| now.duration_since(*then) >= WINDOW) {
                seen.pop_front();
            }
            if let Some((then, before)) = seen.front().filter(|(then, _)| *then < now) {
                let time = now.duration_since(*then).as_secs_f64();
                busy += used.saturating_sub(*before).as_secs_f64() / time;
            }
        }
        busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(min: u32, max: u32, count: u32, now: Instant) -> Need {
        let target = inputs::ScaleTarget { requests: Some(2.0), cpu: None };
        Need::new(inputs::Autoscale { min, max, target, scale_down_after: 60.0 }, now, count)
    }

    fn requests(requests: usize) -> Load {
        Load { requests, replicas_busy: 0.0 }
    }

    #[test]
    fn the_processors_count_as_far_as_a_replica_may_use_them_and_the_greater_need_wins() {
        let target = |requests, cpu| inputs::ScaleTarget { requests, cpu };
        let load = |requests, replicas_busy| Load { requests, replicas_busy };
        let by_cpu = target(None, Some(50.0));
        assert_eq!(load(0, 0.019).needs(&by_cpu), 0.0, "a server that nobody asks");
        assert_eq!(load(1, 0.0).needs(&by_cpu), 1.0, "somebody does");
        assert_eq!([load(9, 0.5).needs(&by_cpu), load(9, 0.51).needs(&by_cpu)], [1.0, 2.0]);
        let both = target(Some(4.0), Some(50.0));
        assert_eq!([load(9, 0.5).needs(&both), load(9, 2.0).needs(&both)], [3.0, 4.0]);
    }

    #[test]
    fn processor_time_is_told_on_the_average_of_the_last_while_and_by_replica() {
        let start = Instant::now();
        let mut meter = Meter::default();
        let mut at = |second: f64, used: &[(&str, f64)]| {
            let used = used.iter().map(|(id, time)| ((*id).to_owned(), Duration::from_secs_f64(*time)));
            (meter.after(start + Duration::from_secs_f64(second), used.collect()) * 1000.0).round() / 1000.0
        };
        assert_eq!(at(0.0, &[("a", 10.0)]), 0.0, "what it used before is of no account");
        assert_eq!(at(1.0, &[("a", 10.5)]), 0.5);
        assert_eq!(at(2.0, &[("a", 11.0), ("b", 3.0)]), 0.5, "another one comes");
        assert_eq!(at(3.0, &[("a", 11.5), ("b", 4.0)]), 1.5);
        assert_eq!(at(4.0, &[("b", 5.0)]), 1.0, "and one goes");
        assert_eq!(at(12.0, &[("b", 5.0)]), 0.0, "it has been idle for longer than the while");
        assert_eq!(at(13.0, &[("b", 1.0)]), 0.0, "time that goes back is none");
    }

    #[test]
    fn more_come_at_once_and_fewer_when_fewer_were_enough_for_the_whole_while() {
        let start = Instant::now();
        let mut need = need(1, 5, 1, start);
        let mut at = |second: u64, load| need.after(start + Duration::from_secs(second), &requests(load));
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
            assert_eq!(need.after(start + Duration::from_secs(59), &requests(0)), 1.max(min));
            assert_eq!(need.after(start + Duration::from_secs(60), &requests(0)), expected);
            assert_eq!(
                need.after(start + Duration::from_secs(61), &requests(1)),
                1.max(min),
                "one request wakes it"
            );
        }
    }
}
