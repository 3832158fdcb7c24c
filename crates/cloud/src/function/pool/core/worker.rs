//! The life of one worker, and how it is ended.

use std::time::Duration;

use super::{Core, Effect, FunctionId, InvocationId, Now, WorkerId, invocation::Happening};

/// A worker that has answered must ask for the next request within this time, or it goes.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// What a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duty {
    pub(super) function: FunctionId,
    pub(super) generation: u64,
}

/// The life of a worker: Spare -Assign-> Loading -Poll-> Serving; each -Kill-> Ending -Exit-> gone.
#[derive(Debug)]
pub(super) enum Worker {
    /// Started, without a function.
    Spare,
    /// Loads its program.
    Loading { duty: Duty, since: Now },
    Serving {
        duty: Duty,
        /// When it was assigned.
        since: Now,
        /// It has answered something.
        proven: bool,
        polls: usize,
        running: Vec<InvocationId>,
        idle_since: Now,
    },
    /// Killed, and not gone yet. `failing`: its function's first waiting request fails with it.
    Ending { duty: Option<Duty>, running: Vec<InvocationId>, failing: Option<Happening> },
}

impl Worker {
    pub(super) fn duty(&self) -> Option<Duty> {
        match self {
            Self::Spare => None,
            Self::Loading { duty, .. } | Self::Serving { duty, .. } => Some(*duty),
            Self::Ending { duty, .. } => *duty,
        }
    }
    pub(super) fn is_ending(&self) -> bool {
        matches!(self, Self::Ending { .. })
    }
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Self::Serving { running, .. } if running.is_empty())
    }
    /// Until when it may stay without work.
    pub(super) fn idle_until(&self, idle: Duration) -> Option<Now> {
        match self {
            Self::Serving { running, polls, idle_since, .. } if running.is_empty() => {
                Some(*idle_since + if *polls == 0 { idle.min(ASK_WITHIN) } else { idle })
            }
            _ => None,
        }
    }
}

impl Core {
    pub(super) fn end(&mut self, worker: WorkerId, failing: Option<Happening>, effects: &mut Vec<Effect>) {
        let Some(state) = self.workers.get_mut(&worker).filter(|w| !w.is_ending()) else { return };
        let duty = state.duty();
        let running = match state {
            Worker::Serving { running, .. } => std::mem::take(running),
            _ => Vec::new(),
        };
        *state = Worker::Ending { duty, running, failing };
        effects.push(Effect::Kill { worker });
    }

    pub(super) fn end_where(&mut self, which: impl Fn(WorkerId, &Worker) -> bool, effects: &mut Vec<Effect>) {
        let chosen: Vec<_> =
            self.workers.iter().filter(|(id, w)| which(**id, w)).map(|(id, _)| *id).collect();
        for worker in chosen {
            self.end(worker, None, effects);
        }
    }

    /// Ends the workers of former versions that have nothing in flight.
    pub(super) fn end_stale(&mut self, function: FunctionId, effects: &mut Vec<Effect>) {
        let generation = self.functions.get(&function).map(|f| f.definition.generation);
        self.end_where(
            |_, w| {
                w.duty().is_some_and(|d| d.function == function && Some(d.generation) != generation)
                    && (w.is_idle() || matches!(w, Worker::Loading { .. }))
            },
            effects,
        );
    }
}
