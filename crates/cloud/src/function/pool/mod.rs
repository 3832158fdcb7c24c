//! Runs the pools: takes what the core decides and does it.
//!
//! Every event goes through [`Pools::step`], under one lock: the core decides, and its effects are done in order before
//! the next event is looked at. None of them waits. Requests, answers and workers' lives are kept here; the core knows
//! them by number only.
//!
//! A worker is somebody else's business: [`Launch`] starts and ends them, a [`Session`] is what one may do.

pub(crate) mod core;
mod machine;
mod request;
mod session;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

pub(super) use self::{
    core::Refused,
    machine::lives,
    request::{Ask, Ended, How, describe},
    session::{CallOf, Job, Session},
};
use self::{
    core::{Effect, Event, FunctionId, InvocationId, Limits, Loss, WorkerId},
    request::Open,
    state::{State, Worker},
};
use super::version::Version;

/// Starts and ends workers. Nothing here waits: what becomes of a worker is told to [`Pools::exited`].
pub(super) trait Launch: Send + Sync {
    /// # Errors
    /// If nothing was started; [`Pools::exited`] must not be called then.
    fn start(&self, session: &Arc<Session>) -> io::Result<()>;
    fn assign(&self, worker: WorkerId, version: &Arc<Version>);
    fn kill(&self, worker: WorkerId);
    /// The worker is gone, and so may be what was kept for it.
    fn forget(&self, worker: WorkerId);
}

/// A worker, for people.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) function: Option<FunctionId>,
    pub(super) pid: Option<i32>,
    pub(super) doing: core::Doing,
    pub(super) started: Instant,
    pub(super) requests: u64,
}

/// What all pools do at one moment.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) workers: Vec<Seen>,
    /// Requests that wait for a worker, where there are any.
    pub(super) queued: HashMap<FunctionId, usize>,
}

/// All pools of one cloud.
pub(super) struct Pools {
    state: Mutex<State>,
    launch: Arc<dyn Launch>,
    epoch: Instant,
    /// Something became due earlier than the timer knows.
    rearmed: Notify,
    /// The last worker is gone.
    emptied: Notify,
    itself: Weak<Self>,
}

impl Pools {
    /// Must be called inside the runtime, whose end is the timer's end.
    pub(super) fn new(limits: Limits, launch: Arc<dyn Launch>) -> Arc<Self> {
        let pools = Arc::new_cyclic(|itself| Self {
            state: Mutex::new(State::new(limits)),
            launch,
            epoch: Instant::now(),
            rearmed: Notify::new(),
            emptied: Notify::new(),
            itself: itself.clone(),
        });
        tokio::spawn(Self::tick(pools.clone()));
        pools
    }

    /// Makes this the version that requests from now on are served by.
    pub(super) fn define(&self, version: Arc<Version>) {
        let mut state = self.lock();
        let event = Event::Define { function: version.function, definition: version.definition() };
        state.versions.insert(version.function, version);
        let _ = self.step(&mut state, event);
    }

    pub(super) fn remove(&self, function: FunctionId) {
        let mut state = self.lock();
        let _ = self.step(&mut state, Event::Remove { function });
        state.versions.remove(&function);
    }

    /// Serves a request. If the caller goes away, a request that has not started is forgotten.
    ///
    /// # Errors
    /// [`Refused`] if it was not even queued.
    pub(super) async fn invoke(&self, function: FunctionId, ask: Ask) -> Result<Ended, Refused> {
        let (reply, ended) = oneshot::channel();
        let invocation = {
            let mut state = self.lock();
            let invocation = state.admit(Open::new(ask, function, reply))?;
            if let Err(refused) = self.step(&mut state, Event::Invoke { function, invocation }) {
                state.release(invocation);
                return Err(refused);
            }
            invocation
        };
        let _abandon = Abandon { pools: self, invocation };
        // The sender lives in the table until the request is settled.
        ended.await.map_err(|_| Refused::Closing)
    }

    /// The worker's process runs.
    pub(super) fn running(&self, worker: WorkerId, pid: i32) {
        if let Some(worker) = self.lock().workers.get_mut(&worker) {
            worker.pid = Some(pid);
        }
    }

    /// The worker's process is gone; `reason` says why if it never came to be.
    pub(super) fn exited(&self, id: WorkerId, loss: Loss, reason: Option<String>) {
        let output = self.lock().workers.get(&id).and_then(|worker| worker.session.output().cloned());
        if let Some(output) = output {
            output.drain();
        }
        let mut state = self.lock();
        state.start_error = reason.unwrap_or_default();
        self.gone(&mut state, id, loss);
    }

    fn gone(&self, state: &mut State, id: WorkerId, loss: Loss) {
        let _ = self.step(state, Event::Exit { worker: id, loss });
        state.workers.remove(&id);
        self.launch.forget(id);
        if !state.core.has_workers() {
            self.emptied.notify_waiters();
        }
    }

    /// Ends all workers of which nothing will be heard any more. `kept` is asked while none can be started.
    pub(super) fn abandon_all_but(&self, kept: impl FnOnce() -> Vec<WorkerId>) {
        let outputs: Vec<_> =
            self.lock().workers.values().filter_map(|worker| worker.session.output().cloned()).collect();
        for output in outputs {
            output.drain();
        }
        let mut state = self.lock();
        let kept = kept();
        let mut workers: Vec<_> = state
            .workers
            .iter()
            .filter(|(id, _)| !kept.contains(id))
            .map(|(id, worker)| (!worker.running.is_empty(), *id))
            .collect();
        // The idle ones first, or they would be handed what waits for the others.
        workers.sort_by_key(|(busy, _)| *busy);
        state.start_error.clear();
        for (_, worker) in workers {
            self.gone(&mut state, worker, Loss::Signalled(libc::SIGKILL));
        }
    }

    /// Takes nothing new, lets what runs finish within `grace`, and returns when no worker is left.
    pub(super) async fn close(&self, grace: Duration) {
        let _ = self.step(&mut self.lock(), Event::Close);
        if tokio::time::timeout(grace, self.empty()).await.is_err() {
            let _ = self.step(&mut self.lock(), Event::Abort);
            self.empty().await;
        }
    }

    async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if !self.lock().core.has_workers() {
                return;
            }
            emptied.await;
        }
    }

    /// All workers and queues at one moment.
    pub(super) fn observe(&self) -> Observed {
        let state = self.lock();
        let seen = |(id, function, doing)| {
            let worker = state.workers.get(&id)?;
            Some(Seen {
                function,
                pid: worker.pid,
                doing,
                started: worker.started,
                requests: worker.requests,
            })
        };
        let workers = state.core.workers().filter_map(seen).collect();
        Observed { workers, queued: state.core.queues().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug in the core, and the next event is judged by the state it left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event and runs its effects, and those of the events that follow from them.
    fn step(&self, state: &mut State, event: Event) -> Result<(), Refused> {
        let now = self.epoch.elapsed();
        let mut effects = Vec::new();
        let result = state.core.on(now, event, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(event) = self.perform(state, effect) {
                let mut more = Vec::new();
                let _ = state.core.on(now, event, &mut more);
                effects.extend(more);
            }
        }
        let due = state.core.due();
        if due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed)) {
            state.armed = due;
            self.rearmed.notify_one();
        }
        result
    }

    /// Does one effect; answers the event that follows from it, if one does.
    fn perform(&self, state: &mut State, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Start { worker } => {
                let session = Session::new(self.itself.clone(), worker);
                match self.launch.start(&session) {
                    Ok(()) => {
                        state.workers.insert(worker, Worker::new(session));
                        None
                    }
                    Err(error) => {
                        state.start_error = error.to_string();
                        Some(Event::Exit { worker, loss: Loss::NotStarted })
                    }
                }
            }
            Effect::Assign { worker, function, .. } => {
                let version = state.versions.get(&function)?.clone();
                let slot = state.workers.get_mut(&worker)?;
                if let Some(output) = slot.session.output() {
                    output.assign(version.urn.clone());
                }
                slot.version = Some(version.clone());
                self.launch.assign(worker, &version);
                None
            }
            Effect::Hand { worker, invocation } => state.hand(worker, invocation),
            Effect::Settle { invocation, outcome } => {
                state.settle(invocation, outcome);
                None
            }
            Effect::Look => {
                let pids = state.workers.values().filter(|w| w.version.is_some()).filter_map(|w| w.pid);
                let computing = pids.filter(|pid| machine::computes(*pid)).count();
                Some(Event::Looked { computing, memory: machine::has_memory() })
            }
            Effect::Kill { worker } => {
                if let Some(slot) = state.workers.get_mut(&worker) {
                    slot.polls.clear();
                }
                self.launch.kill(worker);
                None
            }
        }
    }

    /// Tells the core that time has passed, whenever it asked for that.
    async fn tick(self: Arc<Self>) {
        loop {
            let due = {
                let mut state = self.lock();
                if state.core.due().is_some_and(|due| due <= self.epoch.elapsed()) {
                    let _ = self.step(&mut state, Event::Tick);
                }
                state.armed = state.core.due();
                state.armed
            };
            let wait = due.map(|due| due.saturating_sub(self.epoch.elapsed()));
            tokio::select! {
                () = self.rearmed.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }
}

/// Tells the core that nobody waits any more, unless the request was settled before.
struct Abandon<'a> {
    pools: &'a Pools,
    invocation: InvocationId,
}

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        let mut state = self.pools.lock();
        if state.asks.get(&self.invocation).is_some_and(|open| open.handed.is_none()) {
            state.release(self.invocation);
            let _ = self.pools.step(&mut state, Event::Abandon { invocation: self.invocation });
        }
    }
}
