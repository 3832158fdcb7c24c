//! What the state of all pools says, without changing it.

use super::{Core, Duty, FunctionId, Invocation, InvocationId, Now, Worker, WorkerId};

/// What a worker is doing, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Spare,
    Starting,
    Idle,
    Busy,
    Ending,
}

impl Core {
    /// When [`Event::Tick`](super::Event::Tick) must come next; none while nothing depends on time.
    pub(crate) fn due(&self) -> Option<Now> {
        let limits = &self.limits;
        let workers = self.workers.values().filter_map(|worker| match worker {
            Worker::Loading { since, .. } => Some(*since + limits.init),
            Worker::Spare => Some(self.last_used.unwrap_or_default() + limits.idle),
            Worker::Serving { .. } | Worker::Ending { .. } => worker.idle_until(limits.idle),
        });
        let deadlines = self.invocations.values().filter_map(|(_, state)| match state {
            Invocation::Running { deadline, .. } => Some(*deadline),
            Invocation::Queued | Invocation::Expired { .. } => None,
        });
        let stall = self.stalled_since.map(|since| since + limits.stall);
        let spares = (self.spares_wanted(self.spares_from) && self.spares() < limits.spares)
            .then_some(self.spares_from);
        workers.chain(deadlines).chain(stall).chain(spares).min()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = (WorkerId, Option<FunctionId>, Doing)> {
        self.workers.iter().map(|(id, worker)| {
            let doing = match worker {
                Worker::Spare => Doing::Spare,
                Worker::Loading { .. } => Doing::Starting,
                Worker::Serving { running, .. } if running.is_empty() => Doing::Idle,
                Worker::Serving { .. } => Doing::Busy,
                Worker::Ending { .. } => Doing::Ending,
            };
            (*id, worker.duty().map(|d| d.function), doing)
        })
    }

    pub(crate) fn queued(&self, function: FunctionId) -> usize {
        self.functions.get(&function).map_or(0, |f| f.queue.len())
    }

    pub(crate) fn has_workers(&self) -> bool {
        !self.workers.is_empty()
    }

    pub(super) fn is_stale(&self, duty: Duty) -> bool {
        self.functions.get(&duty.function).is_none_or(|f| f.definition.generation != duty.generation)
    }

    pub(super) fn allowed(&self) -> usize {
        (self.limits.at_once + self.extra).min(self.limits.at_most)
    }

    pub(super) fn assigned(&self) -> usize {
        self.workers.values().filter(|w| w.duty().is_some()).count()
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
    pub(super) fn hungriest(&self) -> Option<FunctionId> {
        if self.closing {
            return None;
        }
        self.waiting.iter().filter_map(|id| Some((self.uncovered(*id)?, *id))).min().map(|(_, id)| id)
    }

    fn uncovered(&self, id: FunctionId) -> Option<InvocationId> {
        let function = self.functions.get(&id)?;
        let mut coming = 0;
        let mut alive = 0;
        for worker in self.workers.values() {
            match worker {
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
                Worker::Serving { duty, .. } if duty.function == id => alive += 1,
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
                Worker::Serving { duty, running, idle_since, polls: 1.. }
                    if running.is_empty() && duty.function != but =>
                {
                    Some((*idle_since, *id))
                }
                _ => None,
            })
            .min()
            .map(|(_, id)| id)
    }

    /// Whether a free worker of this function should go, because a function without any has waited longer.
    pub(super) fn yields(&self, function: FunctionId) -> bool {
        if self.assigned() < self.allowed() || self.room_is_coming() {
            return false;
        }
        let own = self.functions.get(&function).and_then(|f| f.queue.front());
        self.waiting.iter().filter(|id| **id != function).any(|id| {
            let alive = self.workers.values().any(|w| w.duty().is_some_and(|d| d.function == *id));
            !alive && self.uncovered(*id).is_some_and(|theirs| own.is_none_or(|own| theirs < *own))
        })
    }
}
