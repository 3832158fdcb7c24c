//! What the state of all pools says, without changing it.

use super::{
    Core, FunctionId, InvocationId, Now, WorkerId,
    invocation::Invocation,
    worker::{Duty, Worker},
};

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
        let deadlines = self.running().filter_map(|(_, state)| match state {
            Invocation::Running { deadline, .. } => Some(deadline),
            Invocation::Queued | Invocation::Expired { .. } => None,
        });
        let paused = self.waiting.iter().filter_map(|id| self.functions.get(id)?.backoff.until());
        let stall = self.stalled_since.map(|since| since + limits.stall);
        let spares = (self.spares_wanted(self.spares_from) && self.spares() < limits.spares)
            .then_some(self.spares_from);
        workers.chain(deadlines).chain(paused).chain(stall).chain(spares).min()
    }

    /// What workers have in flight. Found by the workers, of which there are few, and not among all that wait.
    pub(super) fn running(&self) -> impl Iterator<Item = (InvocationId, Invocation)> {
        let in_flight = self.workers.values().flat_map(|worker| match worker {
            Worker::Serving { running, .. } => running.as_slice(),
            _ => &[],
        });
        in_flight.filter_map(|id| Some((*id, self.invocations.get(id)?.1)))
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

    /// How many requests wait, for each function for which any do.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (FunctionId, usize)> {
        self.waiting.iter().filter_map(|id| Some((*id, self.functions.get(id)?.queue.len())))
    }

    pub(crate) fn has_workers(&self) -> bool {
        !self.workers.is_empty()
    }

    pub(super) fn is_stale(&self, duty: Duty) -> bool {
        self.functions.get(&duty.function).is_none_or(|f| f.definition.generation != duty.generation)
    }
}
