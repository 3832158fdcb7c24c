//! Drives one run: performs the effects that its state machine asks for, and feeds it what comes of them.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use tandem_container::{Container, ContainerError, Exit};
use tandem_failpoint::hit;
use tandem_model::Explain;
use tandem_store::CommitError;
use tokio::sync::{mpsc, watch};

use super::{
    Outcome, RunError, Shared, age,
    core::{self, Answer, Effect, Event, Phase, Run},
    disk, exchange, request,
    store::{self, Record},
};
use crate::{
    log::{Line, Stream},
    mount,
};

/// After a failure that may pass (a full disk, a tool that could not be run), it is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a start waits for room on a full disk before the run fails for it.
const ROOM: Duration = Duration::from_secs(10 * 60);
/// A process that cannot be seen has most likely ended. Its exit code is told within this time, and is the truth; only after it
/// does the clock decide.
const END_IS_TOLD: Duration = Duration::from_secs(10);

/// The one owner of a run's record.
pub(super) struct Driver {
    shared: Arc<Shared>,
    record: Record,
    /// What somebody asks of the run.
    inbox: mpsc::UnboundedReceiver<Event>,
    /// What is under way.
    pending: FuturesUnordered<BoxFuture<'static, Event>>,
    state: watch::Sender<Arc<Record>>,
    /// What the container left, until it is on disk.
    result: Option<Arc<str>>,
}

/// The store is closed: the run is left as it is, for the next start.
pub(super) struct Closed;

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        record: Record,
        inbox: mpsc::UnboundedReceiver<Event>,
        state: watch::Sender<Arc<Record>>,
    ) -> Self {
        Self { shared, record, inbox, pending: FuturesUnordered::new(), state, result: None }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    /// Looks at the container until it is known how it stands.
    pub(super) fn look(&mut self) {
        let (shared, record) = (self.shared.clone(), self.record.clone());
        let look = async move {
            loop {
                match found(&shared, &record).await {
                    Ok(found) => return found,
                    Err(error) => {
                        tracing::error!(run = %record.id, %error, "cannot see what became of a container");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        };
        self.pending.push(look.boxed());
    }

    /// Drives the run to its end, or until the cloud closes.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        while !self.record.run.is_ended() {
            // What is being started is seen through: the next start would have to find out.
            let starting = self.record.run.phase == Phase::Starting;
            let event = tokio::select! {
                Some(event) = self.inbox.recv() => event,
                Some(event) = self.pending.next(), if !self.pending.is_empty() => event,
                () = shared.closing.cancelled(), if !starting => return,
            };
            if self.apply(event).await.is_err() {
                return;
            }
        }
        shared.live().remove(&self.record.id);
        shared.retain(&self.record.task).await;
    }

    /// One step of the run.
    pub(super) async fn apply(&mut self, event: Event) -> Result<(), Closed> {
        let answer = match &event {
            Event::Exited { answer, .. } | Event::Found { answer, .. } => answer.clone(),
            _ => Answer::Nothing,
        };
        let (run, effects) = match self.record.run.clone().on(event) {
            Ok(step) => step,
            Err(error) => {
                tracing::error!(run = %self.record.id, %error, "an event out of order");
                return Ok(());
            }
        };
        if let (Some(outcome), false) = (run.outcome(), self.record.run.is_ended())
            && !outcome.is_success()
        {
            // Before the commit: said twice after a crash is better than not at all.
            self.say(outcome.to_string());
        }
        if let (Some(failed), Phase::Queued { until: Some(until) }) = (run.failed.last(), &run.phase)
            && run.attempt > self.record.run.attempt
        {
            let pause = until.duration_since(failed.ended).as_secs_f64();
            let of = run.policy.as_ref().map_or(0, |policy| policy.retries.attempts);
            let outcome = &failed.outcome;
            self.say(format!("attempt {} of {of} {outcome}; the next one in {pause:.1} s", run.attempt - 1));
        }
        match (answer, run.outcome()) {
            (Answer::Result(result), Some(Outcome::Exited { .. })) => self.result = Some(result),
            (Answer::Unusable(reason), Some(Outcome::Exited { .. })) => {
                self.say(format!("its result is not kept: {reason}"));
            }
            _ => {}
        }
        self.record.run = run;
        for effect in effects {
            self.perform(effect).await?;
        }
        Ok(())
    }

    async fn perform(&mut self, effect: Effect) -> Result<(), Closed> {
        let capacity = &self.shared.parts.capacity;
        let Record { id, accepted, .. } = &self.record;
        match effect {
            Effect::Enqueue => {
                capacity.recorded(self.record.claim(), *accepted, self.shared.wake(id));
            }
            Effect::Hold => capacity.hold(self.record.claim()),
            Effect::Release => capacity.leave(id.as_str()),
            Effect::Commit => self.commit().await?,
            Effect::Discard { attempt } => self.discard(attempt).await,
            Effect::Rest { until } => self.rest(until),
            Effect::Start => self.pending.push(start(self.shared.clone(), self.record.clone()).boxed()),
            Effect::Wait => self.pending.push(wait(self.shared.clone(), self.record.clone()).boxed()),
            Effect::Watch { started } => self.watch(started),
            Effect::Terminate => {
                self.signal(libc::SIGTERM, false).await;
                let grace = self.shared.parts.grace;
                self.pending.push(tokio::time::sleep(grace).map(|()| Event::GraceOver).boxed());
            }
            Effect::Kill => self.signal(libc::SIGKILL, true).await,
        }
        Ok(())
    }

    /// Writes the run to the store, however long that takes: until then its container keeps the truth.
    async fn commit(&mut self) -> Result<(), Closed> {
        loop {
            let batch = match &self.result {
                Some(result) => store::conclude(&self.record, result),
                None => store::advance(&self.record),
            };
            match self.shared.parts.store.commit(batch).await {
                Ok(()) => break,
                Err(CommitError::Closed) => return Err(Closed),
                Err(error) => {
                    tracing::error!(run = %self.record.id, %error, "cannot record a run");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = self.shared.closing.cancelled() => return Err(Closed),
                    }
                }
            }
        }
        match (&self.record.run.phase, self.record.run.ending) {
            (Phase::Ended { .. }, _) => hit("task.run.ended-committed"),
            (_, Some(_)) => hit("task.stop.committed"),
            (Phase::Queued { .. }, None) => hit("task.run.retry-committed"),
            _ => hit("task.run.started-committed"),
        }
        self.state.send_replace(Arc::new(self.record.clone()));
        let mut logs = self.shared.logs_of(&self.record);
        match self.record.run.phase {
            Phase::Starting => logs.clear(),
            // The next attempt before the end of the last: who follows a run goes on while one of its logs does.
            Phase::Queued { .. } => logs.drain(..logs.len().saturating_sub(2)).for_each(drop),
            Phase::Running { .. } | Phase::Ended { .. } => logs.drain(..logs.len() - 1).for_each(drop),
        }
        for log in logs.into_iter().rev() {
            // Fails if nobody follows.
            let _ = self.shared.changes.send(log);
        }
        Ok(())
    }

    /// What was waited for concerned the attempt that has ended: its deadline is not the next one's.
    fn rest(&mut self, until: Timestamp) {
        hit("task.retry.discarded");
        self.pending.clear();
        let policy = self.record.run.policy.as_ref();
        let pause = core::rest(policy, until, Timestamp::now()).unsigned_abs();
        self.pending.push(tokio::time::sleep(pause).map(|()| Event::Rested).boxed());
    }

    /// What cannot be removed now is removed by the next start.
    async fn discard(&mut self, attempt: u32) {
        let container = self.record.container_of(attempt);
        if let Err(error) = self.shared.parts.runtime.remove(&container).await {
            tracing::warn!(run = %self.record.id, %error, "cannot remove what is left of a container");
        }
    }

    fn watch(&self, started: Timestamp) {
        let timeout = self.record.timeout.and_then(|t| SignedDuration::try_from_secs_f64(t).ok());
        if let Some(timeout) = timeout {
            let pid = match self.record.run.phase {
                Phase::Running { pid, .. } => pid,
                _ => None,
            };
            // The clock may have been set since the start; the process knows better.
            let age = pid.and_then(age::of_process).and_then(|age| SignedDuration::try_from(age).ok());
            let by_clock = || Timestamp::now().duration_since(started);
            let mut left = Run::remaining(age.unwrap_or_else(by_clock), timeout).unsigned_abs();
            if pid.is_some() && age.is_none() {
                left = left.max(END_IS_TOLD);
            }
            self.pending.push(tokio::time::sleep(left).map(|()| Event::Deadline).boxed());
        }
    }

    async fn signal(&mut self, signal: i32, all: bool) {
        match self.shared.parts.runtime.signal(&self.record.container(), signal, all).await {
            // It has ended by itself; that is being waited for.
            Ok(()) | Err(ContainerError::Absent(_)) => {}
            Err(error) => tracing::error!(run = %self.record.id, signal, %error, "cannot signal a container"),
        }
    }

    fn say(&self, text: String) {
        self.shared.say(&self.record, text);
    }
}

impl Shared {
    /// The cloud's own word about a run, in its log.
    pub(super) fn say(&self, record: &Record, text: String) {
        self.parts.log.write(Line {
            time: Timestamp::now(),
            resource: record.task.clone(),
            stream: Stream::System,
            id: record.id.0.clone(),
            text,
        });
    }
}

async fn start(shared: Arc<Shared>, record: Record) -> Event {
    let event = start_when_there_is_room(&shared, &record).await;
    shared.roomless.remove(&record.id);
    event
}

async fn start_when_there_is_room(shared: &Shared, record: &Record) -> Event {
    let given = shared.parts.store.snapshot().map_err(RunError::from);
    let given = match given.and_then(|snapshot| store::given(&*snapshot, &record.id)) {
        Ok(given) => given,
        Err(error) => return Event::StartFailed { at: Timestamp::now(), error: error.report().into() },
    };
    let spec = request::spec(record, shared.parts.environment.for_task(&record.task), given);
    if let Err(error) = mount::recheck(&shared.parts.home, &spec.volumes) {
        return Event::StartFailed { at: Timestamp::now(), error: error.report().into() };
    }
    let begun = tokio::time::Instant::now();
    loop {
        let mut spec = spec.clone();
        if let Some(tenant) = record.tenant()
            && let Err(error) = shared.parts.programs.dress(&record.container(), &mut spec, tenant).await
        {
            return Event::StartFailed { at: Timestamp::now(), error: error.report().into() };
        }
        match shared.parts.runtime.start(&record.container(), &spec).await {
            Ok(started) => {
                hit("task.container.created");
                return Event::Started { at: Timestamp::now(), started };
            }
            // The run was accepted, and nothing is wrong with it.
            Err(error) if error.is_full() && begun.elapsed() < ROOM => {
                tracing::warn!(run = %record.id, %error, "the disk is full: the run starts when there is room");
                shared.roomless.add(&record.id);
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => {}
                    // The next start of the cloud takes it up.
                    () = shared.closing.cancelled() => std::future::pending().await,
                }
            }
            Err(error) => {
                return Event::StartFailed { at: Timestamp::now(), error: error.report().into() };
            }
        }
    }
}

async fn wait(shared: Arc<Shared>, record: Record) -> Event {
    if let Some(tenant) = record.tenant() {
        shared.parts.programs.attend(&record.container(), tenant);
    }
    let exit = disk::watched(&shared, &record, exit(&shared, &record)).await;
    hit("task.exit.observed");
    let answer = exchange::answer(&shared, &record).await;
    hit("task.result.read");
    Event::Exited { at: Timestamp::now(), exit, answer }
}

/// What there is of the container of a run.
pub(super) async fn found(shared: &Shared, record: &Record) -> Result<Event, ContainerError> {
    let container = shared.parts.runtime.inspect(&record.container()).await?;
    let answer = match container {
        Container::Exited(_) => exchange::answer(shared, record).await,
        _ => Answer::Nothing,
    };
    Ok(Event::Found { at: Timestamp::now(), container, answer })
}

async fn exit(shared: &Shared, record: &Record) -> Exit {
    let id = record.container();
    loop {
        match shared.parts.runtime.wait(&id).await {
            Ok(exit) => return exit,
            Err(ContainerError::Absent(_)) => return Exit::Lost { full: false },
            Err(error) => {
                tracing::error!(run = id.0, %error, "cannot wait for a container");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
