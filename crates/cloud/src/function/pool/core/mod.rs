//! All pools as one pure state machine: who waits, who works, and who may start.
//!
//! No clock, I/O or randomness: time comes in with each event, effects go out, [`super::Pools`] runs them. One machine
//! for all functions, because they share the machine's processors and memory.
//!
//! Invariants:
//! - An invocation is handed to one worker at most, and settles exactly once.
//! - The requests of a function start in the order in which they came.
//! - A worker serves one function, in one version, for its whole life.
//! - Assigned workers never exceed `at_most`. While `at_once` are in use, one more starts only when nothing has finished
//!   for `stall` and fewer than `at_once` compute. So fifty events on two cores do not start fifty processes, however long
//!   each computes, and handlers that wait for each other, or for a container, do not starve the rest.
//! - An idle worker ends to make room for another function's only if all together would exceed `at_most`.
//! - A function whose workers die before they have answered anything gets a new one only after a pause that grows.
//! - With no event for `idle`, no worker exists.
//!
//! Start at [`Core::on`].

mod backoff;
mod invocation;
mod queries;
mod requests;
mod room;
mod terms;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::{
    backoff::Backoff,
    invocation::{Happening, Invocation},
    worker::Worker,
};
pub(crate) use self::{
    invocation::Outcome,
    queries::Doing,
    terms::{Definition, Effect, Event, FunctionId, InvocationId, Limits, Loss, Now, Refused, WorkerId},
};

#[derive(Debug)]
struct Function {
    definition: Definition,
    queue: VecDeque<InvocationId>,
    backoff: Backoff,
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
            Event::InitFail { worker } => self.fail_init(now, worker, effects),
            Event::Exit { worker, loss } => self.exit(now, worker, loss, effects),
            Event::Looked { computing, memory } => {
                if memory && computing < self.limits.at_once {
                    self.extra += 1;
                }
            }
            Event::Tick => self.tick(now, effects),
            Event::Close => self.close(effects),
            Event::Abort => self.end_where(|_, _| true, effects),
        }
        self.balance(now, effects);
        Ok(())
    }

    fn define(&mut self, id: FunctionId, definition: Definition, effects: &mut Vec<Effect>) {
        let queue = self.functions.remove(&id).map(|f| f.queue).unwrap_or_default();
        self.functions.insert(id, Function { definition, queue, backoff: Backoff::default() });
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

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Limits { idle, init, stall, .. } = self.limits;
        let overdue: Vec<_> = self
            .running()
            .filter_map(|(id, state)| match state {
                Invocation::Running { worker, deadline, .. } if deadline <= now => Some((id, worker)),
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
            if let Some(duty) = self.workers.get(&worker).and_then(Worker::duty) {
                self.start_failed(now, duty);
            }
            self.end(worker, Some(Happening::InitExpire), effects);
        }
        for function in self.functions.values_mut() {
            function.backoff.pass(now);
        }
        self.end_where(|_, w| w.idle_until(idle).is_some_and(|until| until <= now), effects);
        if self.last_used.is_none_or(|used| used + idle <= now) {
            self.last_used = None;
            self.end_where(|_, w| matches!(w, Worker::Spare), effects);
        }
        if self.stalled_since.is_some_and(|since| since + stall <= now) {
            self.stalled_since = None;
            effects.push(Effect::Look);
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
}
