//! All pools as one pure state machine: who waits, who works, and who may start.
//!
//! No clock, I/O or randomness: time comes in with each event, effects go out, [`super::Pools`] runs them. One machine
//! for all functions, because they share the machine's processors and memory.
//!
//! Invariants:
//! - An invocation is handed to one worker at most, and settles exactly once.
//! - The requests of a function start in the order in which they came.
//! - A worker serves one function, in one version, for its whole life.
//! - Assigned workers never exceed `at_most`; beyond `at_once` one more starts only when nothing has finished for
//!   `stall`. So fifty events on two cores do not start fifty processes, and handlers that wait for each other, or for
//!   a container, do not starve the rest.
//! - With no event for `idle`, no worker exists.
//!
//! Start at [`Core::on`].

mod invocation;
mod queries;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

pub(crate) use invocation::Outcome;
use invocation::{Happening, Invocation, Next};
pub(crate) use queries::Doing;

/// Time since the cloud's start, on a clock that never goes back.
pub(crate) type Now = Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionId(pub(crate) u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);
/// Ordered by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InvocationId(pub(crate) u64);

/// What the machine can bear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Assigned workers that may start without waiting.
    pub(crate) at_once: usize,
    /// Assigned workers, ever.
    pub(crate) at_most: usize,
    /// Started but unassigned workers, kept while functions are in use.
    pub(crate) spares: usize,
    /// How long a worker may be idle, and spares unused.
    pub(crate) idle: Duration,
    /// How long nothing must finish before a worker beyond `at_once` starts.
    pub(crate) stall: Duration,
    /// How long a program's top level may take.
    pub(crate) init: Duration,
    /// Requests that may wait for one function.
    pub(crate) queue: usize,
}

/// A spare starts this long after a cold start, so that it does not take the processor from it.
const SPARE_DELAY: Duration = Duration::from_millis(100);

/// A spare that died is replaced after this long, so that a broken machine is not kept busy.
const SPARE_RETRY: Duration = Duration::from_secs(5);
/// A worker that has answered must ask for the next request within this time, or it goes.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// One version of a function, as far as scheduling cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Workers of another generation finish what they have and go.
    pub(crate) generation: u64,
    pub(crate) concurrency: usize,
    /// Requests that one worker may have in flight.
    pub(crate) per_worker: usize,
    pub(crate) timeout: Duration,
}

/// Why a worker is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    OutOfMemory,
    Exited(i32),
    Signalled(i32),
    /// The process could not be started.
    NotStarted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Define {
        function: FunctionId,
        definition: Definition,
    },
    Remove {
        function: FunctionId,
    },
    Invoke {
        function: FunctionId,
        invocation: InvocationId,
    },
    /// Nobody waits for the answer any more. A request that has not started is forgotten.
    Abandon {
        invocation: InvocationId,
    },
    /// The worker asks for a request.
    Poll {
        worker: WorkerId,
    },
    /// The worker asked, and its connection went before a request was handed to it.
    Unpoll {
        worker: WorkerId,
    },
    /// The same, noticed while handing this one.
    PutBack {
        worker: WorkerId,
        invocation: InvocationId,
    },
    Answer {
        worker: WorkerId,
        invocation: InvocationId,
    },
    /// The worker says that it cannot start.
    InitFail {
        worker: WorkerId,
    },
    /// The process is gone.
    Exit {
        worker: WorkerId,
        loss: Loss,
    },
    /// Time has passed; see [`Core::due`].
    Tick,
    /// Takes nothing new; what runs may finish.
    Close,
    /// Kills what still runs.
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start a process. An [`Event::Exit`] will follow, also if it cannot be started.
    Start {
        worker: WorkerId,
    },
    Assign {
        worker: WorkerId,
        function: FunctionId,
        generation: u64,
    },
    Hand {
        worker: WorkerId,
        invocation: InvocationId,
    },
    Settle {
        invocation: InvocationId,
        outcome: Outcome,
    },
    Kill {
        worker: WorkerId,
    },
}

/// The event was refused, and nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no such function")]
    NoSuchFunction,
    #[error("too many requests wait")]
    QueueFull,
    #[error("the cloud closes")]
    Closing,
    #[error("that request is not in flight in that worker")]
    NotInFlight,
    #[error("that worker is not expected to ask")]
    NotExpected,
}

#[derive(Debug)]
struct Function {
    definition: Definition,
    queue: VecDeque<InvocationId>,
}

/// What a worker serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Duty {
    function: FunctionId,
    generation: u64,
}

/// The life of a worker: Spare -Assign-> Loading -Poll-> Serving; each -Kill-> Ending -Exit-> gone.
#[derive(Debug)]
enum Worker {
    /// Started, without a function.
    Spare,
    /// Loads its program.
    Loading {
        duty: Duty,
        since: Now,
    },
    Serving {
        duty: Duty,
        polls: usize,
        running: Vec<InvocationId>,
        idle_since: Now,
    },
    /// Killed, and not gone yet. `failing`: its function's first waiting request fails with it.
    Ending {
        duty: Option<Duty>,
        running: Vec<InvocationId>,
        failing: Option<Happening>,
    },
}

impl Worker {
    fn duty(&self) -> Option<Duty> {
        match self {
            Self::Spare => None,
            Self::Loading { duty, .. } | Self::Serving { duty, .. } => Some(*duty),
            Self::Ending { duty, .. } => *duty,
        }
    }
    fn is_ending(&self) -> bool {
        matches!(self, Self::Ending { .. })
    }
    fn is_idle(&self) -> bool {
        matches!(self, Self::Serving { running, .. } if running.is_empty())
    }
    /// Until when it may stay without work.
    fn idle_until(&self, idle: Duration) -> Option<Now> {
        match self {
            Self::Serving { running, polls, idle_since, .. } if running.is_empty() => {
                Some(*idle_since + if *polls == 0 { idle.min(ASK_WITHIN) } else { idle })
            }
            _ => None,
        }
    }
}

/// The state of all pools.
#[derive(Debug)]
pub(crate) struct Core {
    limits: Limits,
    functions: BTreeMap<FunctionId, Function>,
    /// Functions with a queue that is not empty.
    waiting: BTreeSet<FunctionId>,
    workers: BTreeMap<WorkerId, Worker>,
    invocations: BTreeMap<InvocationId, (FunctionId, Invocation)>,
    last_worker: u64,
    last_used: Option<Now>,
    spares_from: Now,
    /// Since when requests wait for room and nothing has finished.
    stalled_since: Option<Now>,
    /// Workers allowed beyond `at_once`.
    extra: usize,
    closing: bool,
}

impl Core {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            functions: BTreeMap::new(),
            waiting: BTreeSet::new(),
            workers: BTreeMap::new(),
            invocations: BTreeMap::new(),
            last_worker: 0,
            last_used: None,
            spares_from: Now::ZERO,
            stalled_since: None,
            extra: 0,
            closing: false,
        }
    }

    /// Takes an event and adds the effects to run, in order.
    ///
    /// # Errors
    /// [`Refused`]; nothing changed and there are no effects.
    pub(crate) fn on(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        match event {
            Event::Define { function, definition } => self.define(function, definition, effects),
            Event::Remove { function } => self.remove(function, effects),
            Event::Invoke { function, invocation } => self.invoke(now, function, invocation, effects)?,
            Event::Abandon { invocation } => self.abandon(invocation),
            Event::Poll { worker } => self.poll(now, worker, effects)?,
            Event::Unpoll { worker } => {
                if let Some(Worker::Serving { polls, .. }) = self.workers.get_mut(&worker) {
                    *polls = polls.saturating_sub(1);
                }
            }
            Event::PutBack { worker, invocation } => self.put_back(now, worker, invocation, effects),
            Event::Answer { worker, invocation } => self.answer(now, worker, invocation, effects)?,
            Event::InitFail { worker } => self.fail_init(worker, effects),
            Event::Exit { worker, loss } => self.exit(now, worker, loss, effects),
            Event::Tick => self.tick(now, effects),
            Event::Close => self.close(effects),
            Event::Abort => self.end_where(|_, _| true, effects),
        }
        self.balance(now, effects);
        Ok(())
    }

    fn define(&mut self, id: FunctionId, definition: Definition, effects: &mut Vec<Effect>) {
        let queue = self.functions.remove(&id).map(|f| f.queue).unwrap_or_default();
        self.functions.insert(id, Function { definition, queue });
        self.end_stale(id, effects);
    }

    fn remove(&mut self, id: FunctionId, effects: &mut Vec<Effect>) {
        let queue = self.functions.remove(&id).map(|f| f.queue).unwrap_or_default();
        self.waiting.remove(&id);
        for invocation in queue {
            self.happen(invocation, Happening::Drop, effects);
        }
        self.end_stale(id, effects);
    }

    fn invoke(
        &mut self,
        now: Now,
        id: FunctionId,
        invocation: InvocationId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if self.closing {
            return Err(Refused::Closing);
        }
        let function = self.functions.get_mut(&id).ok_or(Refused::NoSuchFunction)?;
        if function.queue.len() >= self.limits.queue {
            return Err(Refused::QueueFull);
        }
        function.queue.push_back(invocation);
        self.waiting.insert(id);
        self.invocations.insert(invocation, (id, Invocation::Queued));
        self.last_used = Some(now);
        // The most recently idle one: the others may then grow old and go.
        let ready = self
            .workers
            .iter()
            .filter_map(|(worker, state)| match state {
                Worker::Serving { duty, polls: 1.., idle_since, .. } if duty.function == id => {
                    Some((*idle_since, *worker))
                }
                _ => None,
            })
            .max();
        if let Some((_, worker)) = ready {
            self.feed(now, worker, effects);
        }
        Ok(())
    }

    fn abandon(&mut self, invocation: InvocationId) {
        if let Some((id, Invocation::Queued)) = self.invocations.get(&invocation) {
            let id = *id;
            self.invocations.remove(&invocation);
            if let Some(function) = self.functions.get_mut(&id) {
                function.queue.retain(|queued| *queued != invocation);
                if function.queue.is_empty() {
                    self.waiting.remove(&id);
                }
            }
        }
    }

    fn poll(&mut self, now: Now, worker: WorkerId, effects: &mut Vec<Effect>) -> Result<(), Refused> {
        let state = self.workers.get_mut(&worker).ok_or(Refused::NotExpected)?;
        match state {
            Worker::Spare | Worker::Ending { .. } => return Err(Refused::NotExpected),
            Worker::Loading { duty, .. } => {
                *state = Worker::Serving { duty: *duty, polls: 1, running: Vec::new(), idle_since: now };
            }
            Worker::Serving { polls, .. } => *polls += 1,
        }
        self.feed(now, worker, effects);
        Ok(())
    }

    /// Hands waiting requests to a worker that asks, or lets it go if its place is needed elsewhere.
    fn feed(&mut self, now: Now, worker: WorkerId, effects: &mut Vec<Effect>) {
        while let Some(Worker::Serving { duty, polls, running, .. }) = self.workers.get(&worker) {
            let (duty, polls, in_flight) = (*duty, *polls, running.len());
            let current =
                self.functions.get(&duty.function).filter(|f| f.definition.generation == duty.generation);
            if in_flight == 0 && (self.closing || current.is_none() || self.yields(duty.function)) {
                return self.end(worker, None, effects);
            }
            let Some(Definition { per_worker, timeout, .. }) = current.map(|f| f.definition) else { return };
            if polls == 0 || in_flight >= per_worker {
                return;
            }
            let Some(invocation) = self.pop(duty.function) else { return };
            self.happen(invocation, Happening::Hand { worker, at: now, timeout }, effects);
            if let Some(Worker::Serving { polls, running, .. }) = self.workers.get_mut(&worker) {
                *polls -= 1;
                running.push(invocation);
            }
            effects.push(Effect::Hand { worker, invocation });
        }
    }

    fn put_back(&mut self, now: Now, worker: WorkerId, invocation: InvocationId, effects: &mut Vec<Effect>) {
        if !self.forget_running(now, worker, invocation) {
            return;
        }
        self.happen(invocation, Happening::PutBack { worker }, effects);
        let Some((id, _)) = self.invocations.get(&invocation).copied() else { return };
        match self.functions.get_mut(&id) {
            Some(function) => {
                function.queue.push_front(invocation);
                self.waiting.insert(id);
            }
            None => self.happen(invocation, Happening::Drop, effects),
        }
    }

    fn answer(
        &mut self,
        now: Now,
        worker: WorkerId,
        invocation: InvocationId,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let (_, state) = self.invocations.get(&invocation).ok_or(Refused::NotInFlight)?;
        state.on(Happening::Answer { worker }).map_err(|_| Refused::NotInFlight)?;
        self.happen(invocation, Happening::Answer { worker }, effects);
        self.forget_running(now, worker, invocation);
        self.stalled_since = None;
        self.last_used = Some(now);
        if let Some(duty) = self.workers.get(&worker).and_then(Worker::duty)
            && (self.closing || self.is_stale(duty))
            && self.workers.get(&worker).is_some_and(Worker::is_idle)
        {
            self.end(worker, None, effects);
        }
        Ok(())
    }

    fn fail_init(&mut self, worker: WorkerId, effects: &mut Vec<Effect>) {
        let state = self.workers.get(&worker);
        let Some(Worker::Loading { duty, .. } | Worker::Serving { duty, .. }) = state else { return };
        let function = duty.function;
        if let Some(first) = self.pop(function) {
            self.happen(first, Happening::InitFail, effects);
        }
        self.end(worker, None, effects);
    }

    fn exit(&mut self, now: Now, worker: WorkerId, loss: Loss, effects: &mut Vec<Effect>) {
        let (duty, running, failing) = match self.workers.remove(&worker) {
            None => return,
            Some(Worker::Spare) => {
                self.spares_from = now + SPARE_RETRY;
                return;
            }
            Some(Worker::Loading { duty, .. }) => (Some(duty), Vec::new(), Some(Happening::Lose(loss))),
            Some(Worker::Serving { running, .. }) => (None, running, None),
            Some(Worker::Ending { duty, running, failing }) => (duty, running, failing),
        };
        for invocation in running {
            self.happen(invocation, Happening::Lose(loss), effects);
        }
        if let (Some(duty), Some(failing)) = (duty, failing)
            && let Some(first) = self.pop(duty.function)
        {
            self.happen(first, failing, effects);
        }
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Limits { idle, init, stall, .. } = self.limits;
        let overdue: Vec<_> = self
            .invocations
            .iter()
            .filter_map(|(id, (_, state))| match state {
                Invocation::Running { worker, deadline, .. } if *deadline <= now => Some((*id, *worker)),
                _ => None,
            })
            .collect();
        for (invocation, worker) in overdue {
            self.happen(invocation, Happening::Expire, effects);
            self.end(worker, None, effects);
        }
        let late: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, w)| matches!(w, Worker::Loading { since, .. } if *since + init <= now))
            .map(|(id, _)| *id)
            .collect();
        for worker in late {
            self.end(worker, Some(Happening::InitExpire), effects);
        }
        self.end_where(|_, w| w.idle_until(idle).is_some_and(|until| until <= now), effects);
        if self.last_used.is_none_or(|used| used + idle <= now) {
            self.last_used = None;
            self.end_where(|_, w| matches!(w, Worker::Spare), effects);
        }
        if self.stalled_since.is_some_and(|since| since + stall <= now) {
            self.extra += 1;
            self.stalled_since = None;
        }
    }

    fn close(&mut self, effects: &mut Vec<Effect>) {
        self.closing = true;
        self.waiting.clear();
        let queues: Vec<_> = self.functions.values_mut().flat_map(|f| f.queue.drain(..)).collect();
        for invocation in queues {
            self.happen(invocation, Happening::Drop, effects);
        }
        self.end_where(|_, w| matches!(w, Worker::Spare | Worker::Loading { .. }) || w.is_idle(), effects);
    }

    /// Starts workers for requests that no worker will come for, and spares, as far as there is room.
    fn balance(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut stalled = false;
        while let Some(function) = self.hungriest() {
            if self.assigned() < self.allowed() {
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
                None => {
                    stalled = self.allowed() < self.limits.at_most;
                    break;
                }
            }
        }
        self.stalled_since = if stalled { self.stalled_since.or(Some(now)) } else { None };
        if self.assigned() < self.limits.at_once {
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

    fn pop(&mut self, id: FunctionId) -> Option<InvocationId> {
        let function = self.functions.get_mut(&id)?;
        let first = function.queue.pop_front();
        if function.queue.is_empty() {
            self.waiting.remove(&id);
        }
        first
    }

    /// Moves an invocation on; what cannot happen any more is ignored.
    fn happen(&mut self, id: InvocationId, happening: Happening, effects: &mut Vec<Effect>) {
        let Some((_, state)) = self.invocations.get_mut(&id) else { return };
        match state.on(happening) {
            Ok(Next::Becomes(next)) => *state = next,
            Ok(Next::Settles(outcome)) => {
                self.invocations.remove(&id);
                effects.push(Effect::Settle { invocation: id, outcome });
            }
            Err(_) => {}
        }
    }

    fn forget_running(&mut self, now: Now, worker: WorkerId, invocation: InvocationId) -> bool {
        let Some(Worker::Serving { running, idle_since, .. }) = self.workers.get_mut(&worker) else {
            return false;
        };
        let before = running.len();
        running.retain(|id| *id != invocation);
        *idle_since = now;
        running.len() < before
    }

    fn end(&mut self, worker: WorkerId, failing: Option<Happening>, effects: &mut Vec<Effect>) {
        let Some(state) = self.workers.get_mut(&worker).filter(|w| !w.is_ending()) else { return };
        let duty = state.duty();
        let running = match state {
            Worker::Serving { running, .. } => std::mem::take(running),
            _ => Vec::new(),
        };
        *state = Worker::Ending { duty, running, failing };
        effects.push(Effect::Kill { worker });
    }

    fn end_where(&mut self, which: impl Fn(WorkerId, &Worker) -> bool, effects: &mut Vec<Effect>) {
        let chosen: Vec<_> =
            self.workers.iter().filter(|(id, w)| which(**id, w)).map(|(id, _)| *id).collect();
        for worker in chosen {
            self.end(worker, None, effects);
        }
    }

    /// Ends the workers of former versions that have nothing in flight.
    fn end_stale(&mut self, function: FunctionId, effects: &mut Vec<Effect>) {
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
