//! Runs the pools: takes what the core decides and does it.
//!
//! Every event goes through [`Pools::step`], under one lock: the core decides, and its effects are done in order before
//! the next event is looked at. None of them waits. Requests, answers and workers' lives are kept here; the core knows
//! them by number only.
//!
//! A worker is somebody else's business: [`Launch`] starts and ends them, a [`Session`] is what one may do.

pub(crate) mod core;
mod session;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use self::core::{Core, Effect, Event, FunctionId, InvocationId, Limits, Loss, Now, Outcome, WorkerId};
pub(super) use self::{
    core::Refused,
    session::{Job, Session},
};
use super::{
    error::{FunctionError, OUT_OF_MEMORY, TIMED_OUT, seconds},
    version::Version,
};

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

/// A request for a function.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) request: String,
    pub(super) payload: Bytes,
    pub(super) traceparent: Option<String>,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) how: How,
    /// The version that served it, or would have.
    pub(super) version: Option<Arc<Version>>,
    pub(super) log_tail: Vec<String>,
    /// From the hand-over to the answer; zero if it was not handed over.
    pub(super) duration: Duration,
    pub(super) cold: bool,
}

#[derive(Debug)]
pub(super) enum How {
    Answered(Result<Bytes, FunctionError>),
    /// With the frames in which it was interrupted, if it was.
    TimedOut(Vec<String>),
    OutOfMemory(Vec<String>),
    Lost(Loss),
    /// No process could be started.
    NotStarted(String),
    InitFailed(FunctionError),
    Dropped,
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

struct State {
    core: Core,
    versions: HashMap<FunctionId, Arc<Version>>,
    asks: HashMap<InvocationId, Open>,
    workers: HashMap<WorkerId, Worker>,
    last: u64,
    armed: Option<Now>,
    /// Why the worker could not start whose event is being taken.
    init_error: FunctionError,
    start_error: String,
}

/// A request whose end is not known.
struct Open {
    ask: Ask,
    function: FunctionId,
    reply: oneshot::Sender<Ended>,
    handed: Option<Handed>,
    answer: Option<Result<Bytes, FunctionError>>,
    /// How many calls of each method its handler has made.
    calls: HashMap<String, u32>,
}

struct Handed {
    worker: WorkerId,
    at: Instant,
    cold: bool,
    version: Arc<Version>,
}

struct Worker {
    session: Arc<Session>,
    pid: Option<i32>,
    started: Instant,
    requests: u64,
    version: Option<Arc<Version>>,
    polls: VecDeque<oneshot::Sender<Job>>,
    running: Vec<InvocationId>,
}

impl Pools {
    /// Must be called inside the runtime, whose end is the timer's end.
    pub(super) fn new(limits: Limits, launch: Arc<dyn Launch>) -> Arc<Self> {
        let pools = Arc::new_cyclic(|itself| Self {
            state: Mutex::new(State {
                core: Core::new(limits),
                versions: HashMap::new(),
                asks: HashMap::new(),
                workers: HashMap::new(),
                last: 0,
                armed: None,
                init_error: FunctionError::default(),
                start_error: String::new(),
            }),
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
            state.last += 1;
            let invocation = InvocationId(state.last);
            state.asks.insert(invocation, Open::new(ask, function, reply));
            if let Err(refused) = self.step(&mut state, Event::Invoke { function, invocation }) {
                state.asks.remove(&invocation);
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
        let _ = self.step(&mut state, Event::Exit { worker: id, loss });
        state.workers.remove(&id);
        self.launch.forget(id);
        if !state.core.has_workers() {
            self.emptied.notify_waiters();
        }
    }

    /// Ends all workers of which nothing will be heard any more.
    pub(super) fn abandon_all(&self) {
        let workers: Vec<_> = self.lock().workers.keys().copied().collect();
        for worker in workers {
            self.exited(worker, Loss::Signalled(libc::SIGKILL), None);
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

    pub(super) fn workers(&self) -> Vec<Seen> {
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
        state.core.workers().filter_map(seen).collect()
    }

    pub(super) fn queued(&self, function: FunctionId) -> usize {
        self.lock().core.queued(function)
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
            state.asks.remove(&self.invocation);
            let _ = self.pools.step(&mut state, Event::Abandon { invocation: self.invocation });
        }
    }
}

impl Open {
    fn new(ask: Ask, function: FunctionId, reply: oneshot::Sender<Ended>) -> Self {
        Self { ask, function, reply, handed: None, answer: None, calls: HashMap::new() }
    }
}

impl Worker {
    fn new(session: Arc<Session>) -> Self {
        Self {
            session,
            pid: None,
            started: Instant::now(),
            requests: 0,
            version: None,
            polls: VecDeque::new(),
            running: Vec::new(),
        }
    }
}

impl State {
    fn hand(&mut self, id: WorkerId, invocation: InvocationId) -> Option<Event> {
        let put_back = Some(Event::PutBack { worker: id, invocation });
        let (Some(worker), Some(open)) = (self.workers.get_mut(&id), self.asks.get_mut(&invocation)) else {
            return put_back;
        };
        let Some(version) = worker.version.clone() else { return put_back };
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + version.timeout();
        let mut job = Job {
            invocation,
            request: open.ask.request.clone(),
            payload: open.ask.payload.clone(),
            deadline: deadline.as_millis() as u64,
            function_arn: version.arn(),
            traceparent: open.ask.traceparent.clone(),
        };
        if let Some(output) = worker.session.output() {
            output.begin(&open.ask.request);
        }
        while let Some(poll) = worker.polls.pop_front() {
            match poll.send(job) {
                Ok(()) => {
                    let cold = worker.requests == 0;
                    worker.requests += 1;
                    worker.running.push(invocation);
                    open.handed = Some(Handed { worker: id, at: Instant::now(), cold, version });
                    return None;
                }
                // Its connection is gone; another one may ask as well.
                Err(back) => job = back,
            }
        }
        if let Some(output) = worker.session.output() {
            output.end(&open.ask.request, &[]);
        }
        put_back
    }

    fn settle(&mut self, invocation: InvocationId, outcome: Outcome) {
        let Some(open) = self.asks.remove(&invocation) else { return };
        let how = match outcome {
            Outcome::Answered => match open.answer {
                Some(Err(error)) if error.error_type == TIMED_OUT => How::TimedOut(error.stack_trace),
                Some(Err(error)) if error.error_type == OUT_OF_MEMORY => How::OutOfMemory(error.stack_trace),
                Some(answer) => How::Answered(answer),
                None => How::Lost(Loss::Exited(0)),
            },
            Outcome::TimedOut { .. } => How::TimedOut(Vec::new()),
            Outcome::Lost(Loss::OutOfMemory) => How::OutOfMemory(Vec::new()),
            Outcome::Lost(Loss::NotStarted) => How::NotStarted(self.start_error.clone()),
            Outcome::Lost(loss) => How::Lost(loss),
            Outcome::InitFailed => How::InitFailed(self.init_error.clone()),
            Outcome::InitTimedOut => {
                How::InitFailed(FunctionError::new("", "the program's top level does not end"))
            }
            Outcome::Dropped => How::Dropped,
        };
        let mut log_tail = Vec::new();
        if let Some(handed) = &open.handed
            && let Some(worker) = self.workers.get_mut(&handed.worker)
        {
            worker.running.retain(|running| *running != invocation);
            if let Some(output) = worker.session.output() {
                log_tail = output.end(&open.ask.request, &how.said(&handed.version));
            }
        }
        let (duration, cold) =
            open.handed.as_ref().map_or_else(Default::default, |h| (h.at.elapsed(), h.cold));
        let version = open.handed.map(|h| h.version).or_else(|| self.versions.get(&open.function).cloned());
        // If nobody waits any more, the log has said what there was to say.
        let _ = open.reply.send(Ended { how, version, log_tail, duration, cold });
    }
}

impl How {
    /// What the log says about it, beside the worker's own lines.
    fn said(&self, version: &Version) -> Vec<String> {
        let with = |line: String, frames: &[String]| {
            let error = FunctionError {
                error_message: line,
                stack_trace: frames.to_vec(),
                ..FunctionError::default()
            };
            error.lines()
        };
        match self {
            Self::Answered(Ok(_)) | Self::Dropped => Vec::new(),
            Self::Answered(Err(error)) | Self::InitFailed(error) => error.lines(),
            Self::TimedOut(frames) => with(format!("timed out after {}", seconds(version.timeout())), frames),
            Self::OutOfMemory(frames) => {
                with(format!("out of memory: limit {}", version.inputs.memory), frames)
            }
            Self::Lost(loss) => vec![describe(*loss)],
            Self::NotStarted(reason) => vec![format!("no worker could be started: {reason}")],
        }
    }
}

/// How a process ended, for people.
pub(super) fn describe(loss: Loss) -> String {
    match loss {
        Loss::OutOfMemory => "out of memory".to_owned(),
        Loss::Exited(status) => format!("its process exited with status {status}"),
        Loss::Signalled(signal) => format!("its process was ended by signal {signal}"),
        Loss::NotStarted => "its process was not started".to_owned(),
    }
}
