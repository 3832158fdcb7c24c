//! What one worker may do: ask for requests, answer them, say that it cannot start.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, Weak},
    task::{Context, Poll},
};

use bytes::Bytes;
use tandem_model::Urn;
use tokio::sync::oneshot;

use super::{
    Pools, Refused,
    core::{Event, InvocationId, WorkerId},
};
use crate::function::{error::FunctionError, output::Output};

/// A request on its way to a worker.
#[derive(Debug)]
pub(in crate::function) struct Job {
    pub(super) invocation: InvocationId,
    pub(in crate::function) request: String,
    pub(in crate::function) payload: Bytes,
    /// In milliseconds since 1970.
    pub(in crate::function) deadline: u64,
    pub(in crate::function) function_arn: String,
    pub(in crate::function) traceparent: Option<String>,
}

/// In which invocation a program makes a call.
#[derive(Debug)]
pub(in crate::function) struct CallOf {
    pub(in crate::function) function: Urn,
    /// Empty outside of any.
    pub(in crate::function) request: String,
    pub(in crate::function) traceparent: Option<String>,
    /// Which call of its method this is in the invocation, from 0.
    pub(in crate::function) ordinal: u32,
}

/// The cloud's side of one worker. It may outlive the worker, and then refuses everything.
pub(in crate::function) struct Session {
    pools: Weak<Pools>,
    pub(in crate::function) worker: WorkerId,
    output: OnceLock<Arc<Output>>,
}

impl Session {
    pub(super) fn new(pools: Weak<Pools>, worker: WorkerId) -> Arc<Self> {
        Arc::new(Self { pools, worker, output: OnceLock::new() })
    }

    /// Says where its lines come from. Only the first one counts.
    pub(in crate::function) fn prints_to(&self, output: Arc<Output>) {
        let _ = self.output.set(output);
    }

    pub(super) fn output(&self) -> Option<&Arc<Output>> {
        self.output.get()
    }

    /// Waits for a request. If the future is dropped, the request that it may have got goes to somebody else.
    ///
    /// # Errors
    /// [`Refused`] if this worker is to ask no more.
    pub(in crate::function) async fn next(&self) -> Result<Job, Refused> {
        let pools = self.pools.upgrade().ok_or(Refused::Closing)?;
        // What it printed before it asked is of no request that it gets, nor of the cloud's own pace.
        if let Some(output) = self.output.get() {
            output.drain();
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = pools.lock();
            let worker = state.workers.get_mut(&self.worker).ok_or(Refused::NotExpected)?;
            worker.polls.push_back(sender);
            if let Err(refused) = pools.step(&mut state, Event::Poll { worker: self.worker }) {
                if let Some(worker) = state.workers.get_mut(&self.worker) {
                    worker.polls.pop_back();
                }
                return Err(refused);
            }
        }
        Asking { pools, worker: self.worker, receiver: Some(receiver) }.await
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`Refused::NotInFlight`] if its deadline has passed, or it is not this worker's.
    pub(in crate::function) fn answer(
        &self,
        request: &str,
        answer: Result<Bytes, FunctionError>,
    ) -> Result<(), Refused> {
        let pools = self.pools.upgrade().ok_or(Refused::NotInFlight)?;
        // Its lines come before its end.
        if let Some(output) = self.output.get() {
            output.drain();
        }
        let mut state = pools.lock();
        let invocation = state.in_flight(self.worker, request).ok_or(Refused::NotInFlight)?;
        let open = state.asks.get_mut(&invocation).ok_or(Refused::NotInFlight)?;
        open.answer = Some(answer);
        pools.step(&mut state, Event::Answer { worker: self.worker, invocation })
    }

    /// Says that its program cannot be started. One waiting request ends with that.
    pub(in crate::function) fn fail_init(&self, error: FunctionError) {
        let Some(pools) = self.pools.upgrade() else { return };
        let mut state = pools.lock();
        if let Some(output) = self.output.get() {
            output.drain();
            for line in error.lines() {
                output.say(&line);
            }
        }
        state.init_error = error;
        let _ = pools.step(&mut state, Event::InitFail { worker: self.worker });
    }

    /// Finds the invocation that this worker's program makes a call in, and counts the call.
    pub(in crate::function) fn calls(&self, request: &str, method: &str) -> Option<CallOf> {
        let pools = self.pools.upgrade()?;
        let mut state = pools.lock();
        let function = state.workers.get(&self.worker)?.version.as_ref()?.urn.clone();
        let invocation = state.in_flight(self.worker, request);
        let Some(open) = invocation.and_then(|id| state.asks.get_mut(&id)) else {
            return Some(CallOf { function, request: String::new(), traceparent: None, ordinal: 0 });
        };
        let next = open.calls.entry(method.to_owned()).or_default();
        let ordinal = *next;
        *next += 1;
        Some(CallOf {
            function,
            request: request.to_owned(),
            traceparent: open.ask.traceparent.clone(),
            ordinal,
        })
    }
}

impl super::state::State {
    /// Finds a request by its id among those that the worker has in flight.
    fn in_flight(&self, worker: WorkerId, request: &str) -> Option<InvocationId> {
        let running = &self.workers.get(&worker)?.running;
        running.iter().copied().find(|id| self.asks.get(id).is_some_and(|open| open.ask.request == request))
    }
}

/// A worker's open question for a request.
struct Asking {
    pools: Arc<Pools>,
    worker: WorkerId,
    receiver: Option<oneshot::Receiver<Job>>,
}

impl Future for Asking {
    type Output = Result<Job, Refused>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(receiver) = &mut self.receiver else { return Poll::Ready(Err(Refused::NotExpected)) };
        let got = std::task::ready!(Pin::new(receiver).poll(context));
        self.receiver = None;
        // The question is dropped when the worker is to end.
        Poll::Ready(got.map_err(|_| Refused::NotExpected))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        let mut state = self.pools.lock();
        receiver.close();
        let worker = self.worker;
        let event = match receiver.try_recv() {
            Ok(Job { invocation, request, .. }) => {
                if let Some(open) = state.asks.get_mut(&invocation) {
                    open.handed = None;
                    if let Some(output) = state.workers.get(&worker).and_then(|w| w.session.output()) {
                        output.end(&request, &[]);
                    }
                }
                if let Some(worker) = state.workers.get_mut(&worker) {
                    worker.running.retain(|running| *running != invocation);
                }
                Event::PutBack { worker, invocation }
            }
            Err(_) => {
                if let Some(worker) = state.workers.get_mut(&worker) {
                    worker.polls.retain(|poll| !poll.is_closed());
                }
                Event::Unpoll { worker }
            }
        };
        let _ = self.pools.step(&mut state, event);
    }
}
