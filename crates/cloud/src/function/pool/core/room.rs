//! Who may start: the machine's processors and memory, shared among functions.
//!
//! A worker in use takes processors, and counts against `at_once`; one that is idle takes memory alone, and counts against
//! `at_most` with the others. So ten functions that are used in turn keep ten workers.

use std::time::Duration;

use super::{
    Core, Effect, FunctionId, InvocationId, Now, WorkerId,
    worker::{Duty, Worker},
};

/// A spare starts this long after a cold start, so that it does not take the processor from it.
pub(super) const SPARE_DELAY: Duration = Duration::from_millis(100);

/// A spare that died is replaced after this long, so that a broken machine is not kept busy.
pub(super) const SPARE_RETRY: Duration = Duration::from_secs(5);

impl Core {
    /// Starts workers for requests that no worker will come for, and spares, as far as there is room.
    pub(super) fn balance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut stalled = false;
        while let Some(function) = self.hungriest(now) {
            if self.in_use() >= self.allowed() {
                stalled = self.allowed() < self.limits.at_most;
                break;
            }
            if self.assigned() < self.limits.at_most {
                let worker = self.take_spare().unwrap_or_else(|| self.start(effects));
                let generation = self.functions[&function].definition.generation;
                self.workers
                    .insert(worker, Worker::Loading { duty: Duty { function, generation }, since: now });
                self.spares_from = now + SPARE_DELAY;
                effects.push(Effect::Assign { worker, function, generation });
                continue;
            }
            // A worker that ends makes room soon; one is enough, since each exit comes by here again.
            if self.room_is_coming() {
                break;
            }
            match self.longest_idle(function) {
                Some(worker) => self.end(worker, None, effects),
                None => break,
            }
        }
        self.stalled_since = if stalled { self.stalled_since.or(Some(now)) } else { None };
        if self.in_use() < self.limits.at_once {
            self.extra = 0;
        }
        if self.spares_wanted(now) && now >= self.spares_from {
            while self.spares() < self.limits.spares {
                let worker = self.start(effects);
                self.workers.insert(worker, Worker::Spare);
            }
        }
    }

    fn start(&mut self, effects: &mut Vec<Effect>) -> WorkerId {
        self.last_worker += 1;
        let worker = WorkerId(self.last_worker);
        effects.push(Effect::Start { worker });
        worker
    }

    fn take_spare(&mut self) -> Option<WorkerId> {
        self.workers.iter().find(|(_, w)| matches!(w, Worker::Spare)).map(|(id, _)| *id)
    }

    pub(super) fn allowed(&self) -> usize {
        (self.limits.at_once + self.extra).min(self.limits.at_most)
    }

    pub(super) fn assigned(&self) -> usize {
        self.workers.values().filter(|w| w.duty().is_some()).count()
    }

    /// How many workers load a program, serve a request or are about to ask for the next one, or are being ended.
    fn in_use(&self) -> usize {
        let rests =
            |w: &Worker| matches!(w, Worker::Serving { running, polls: 1.., .. } if running.is_empty());
        self.workers.values().filter(|w| w.duty().is_some() && !rests(w)).count()
    }

    /// Whether a worker that had a function is about to be gone.
    pub(super) fn room_is_coming(&self) -> bool {
        self.workers.values().any(|w| w.is_ending() && w.duty().is_some())
    }

    pub(super) fn spares(&self) -> usize {
        self.workers.values().filter(|w| matches!(w, Worker::Spare)).count()
    }

    pub(super) fn spares_wanted(&self, now: Now) -> bool {
        !self.closing && self.last_used.is_some_and(|used| now < used + self.limits.idle)
    }

    /// The function whose oldest request has waited longest among those that no starting worker will take.
    pub(super) fn hungriest(&self, now: Now) -> Option<FunctionId> {
        if self.closing {
            return None;
        }
        self.waiting.iter().filter_map(|id| Some((self.uncovered(now, *id)?, *id))).min().map(|(_, id)| id)
    }

    fn uncovered(&self, now: Now, id: FunctionId) -> Option<InvocationId> {
        let function = self.functions.get(&id)?;
        if function.backoff.holds(now) {
            return None;
        }
        let mut coming = 0;
        let mut alive = 0;
        for worker in self.workers.values() {
            match worker {
                // Until one has shown that it can start, they start one after another.
                Worker::Loading { duty, .. } if duty.function == id && function.backoff.is_wary() => {
                    return None;
                }
                Worker::Loading { duty, .. } if duty.function == id => {
                    coming += 1;
                    alive += 1;
                }
                // It has just answered and is about to ask.
                Worker::Serving { duty, polls: 0, running, .. }
                    if duty.function == id && running.is_empty() =>
                {
                    coming += 1;
                    alive += 1;
                }
                Worker::Serving { duty, .. } | Worker::Ending { duty: Some(duty), .. }
                    if duty.function == id =>
                {
                    alive += 1;
                }
                _ => {}
            }
        }
        let first = function.queue.get(coming * function.definition.per_worker)?;
        (alive < function.definition.concurrency).then_some(*first)
    }

    /// The worker of another function that has been idle longest.
    pub(super) fn longest_idle(&self, but: FunctionId) -> Option<WorkerId> {
        self.workers
            .iter()
            .filter_map(|(id, worker)| match worker {
                Worker::Serving { duty, running, idle_since, polls: 1.., .. }
                    if running.is_empty() && duty.function != but =>
                {
                    Some((*idle_since, *id))
                }
                _ => None,
            })
            .min()
            .map(|(_, id)| id)
    }

    /// Whether a worker of this function that asks should go instead of serving its next request, because a function without
    /// any worker has waited longer, and there is no room for both.
    pub(super) fn yields(&self, now: Now, function: FunctionId) -> bool {
        let Some(own) = self.functions.get(&function).and_then(|f| f.queue.front()) else { return false };
        let both = self.in_use() + 1 < self.allowed() && self.assigned() < self.limits.at_most;
        if both || self.room_is_coming() {
            return false;
        }
        self.waiting.iter().filter(|id| **id != function).any(|id| {
            let alive = self.workers.values().any(|w| w.duty().is_some_and(|d| d.function == *id));
            !alive && self.uncovered(now, *id).is_some_and(|theirs| theirs < *own)
        })
    }
}
