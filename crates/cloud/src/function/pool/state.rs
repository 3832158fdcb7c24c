//! What the core knows by number only: requests, answers, and workers' connections.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::oneshot;

use super::{
    Ended, How, Job, Refused, Session,
    core::{Core, Event, FunctionId, InvocationId, Limits, Loss, Now, Outcome, WorkerId},
    request::{Handed, Open},
};
use crate::function::{
    error::{FunctionError, OUT_OF_MEMORY, TIMED_OUT},
    version::Version,
};

/// Payloads of open requests that are held in memory together, in bytes. Beyond it, requests are refused as if too many
/// waited. Events wait in the store.
const MOST_HELD: usize = 128 << 20;

pub(super) struct State {
    pub(super) core: Core,
    pub(super) versions: HashMap<FunctionId, Arc<Version>>,
    pub(super) asks: HashMap<InvocationId, Open>,
    pub(super) workers: HashMap<WorkerId, Worker>,
    pub(super) last: u64,
    /// The payloads of all of `asks`, in bytes.
    held: usize,
    pub(super) armed: Option<Now>,
    /// Why the worker could not start whose event is being taken.
    pub(super) init_error: FunctionError,
    pub(super) start_error: String,
}

pub(super) struct Worker {
    pub(super) session: Arc<Session>,
    pub(super) pid: Option<i32>,
    pub(super) started: Instant,
    pub(super) requests: u64,
    pub(super) version: Option<Arc<Version>>,
    pub(super) polls: VecDeque<oneshot::Sender<Job>>,
    pub(super) running: Vec<InvocationId>,
}

impl Worker {
    pub(super) fn new(session: Arc<Session>) -> Self {
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
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            core: Core::new(limits),
            versions: HashMap::new(),
            asks: HashMap::new(),
            workers: HashMap::new(),
            last: 0,
            held: 0,
            armed: None,
            init_error: FunctionError::default(),
            start_error: String::new(),
        }
    }

    /// Takes a request in, unless those that are open already hold too much.
    ///
    /// # Errors
    /// [`Refused::QueueFull`].
    pub(super) fn admit(&mut self, open: Open) -> Result<InvocationId, Refused> {
        let held = self.held + open.ask.payload.len();
        if held > MOST_HELD && !self.asks.is_empty() {
            return Err(Refused::QueueFull);
        }
        self.held = held;
        self.last += 1;
        let invocation = InvocationId(self.last);
        self.asks.insert(invocation, open);
        Ok(invocation)
    }

    pub(super) fn release(&mut self, invocation: InvocationId) -> Option<Open> {
        let open = self.asks.remove(&invocation)?;
        self.held -= open.ask.payload.len();
        Some(open)
    }

    pub(super) fn hand(&mut self, id: WorkerId, invocation: InvocationId) -> Option<Event> {
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
                    if let Some(begin) = open.ask.begin.take() {
                        begin.now();
                    }
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

    pub(super) fn settle(&mut self, invocation: InvocationId, outcome: Outcome) {
        let Some(open) = self.release(invocation) else { return };
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
