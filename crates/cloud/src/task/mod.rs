//! Tasks: containers that are started on demand and are expected to end.
//!
//! A run is accepted by one commit of its [record](store), and everything else follows from it. Its id is its
//! container's id (further attempts have `<id>-<n>`), so the two find each other whatever happens in between. Runs wait
//! until what they reserve is free ([`crate::capacity`]); what one run does next is decided by a pure state machine
//! ([`core`]) and done by a [driver] of its own.
//!
//! Who owns it: the rows under `run/` and `task/` are written here and by nobody else, each run's by its driver. The
//! container's monitor outlives the cloud and keeps exit code and log. What a restart finds at each gap:
//!
//! | killed | record | container | a restart |
//! |---|---|---|---|
//! | before the accepting commit | none | absent | nothing happened, and nobody was told otherwise |
//! | after it, before the start | queued | absent | queues it again |
//! | while it starts | queued | unstarted | removes the leftover, queues it again |
//! | after the start, before its commit | queued | running, or exited | waits for it, or records its outcome |
//! | while it runs | running | running | waits for it |
//! | while it is being stopped | running, ending | running | goes on stopping it |
//! | after its end, before the outcome's commit | running | exited | records its true outcome and result |
//! | after that, before the removal | ended | exited | removes the leftover |
//! | after an attempt's end, before the commit of the next | running | exited | finds that it ended, and goes on |
//! | after that commit, at any time before the next start | queued, attempt n + 1 | absent; perhaps that of n | removes the leftover, rests until it is time, queues |
//!
//! A run is lost only if it ran and its monitor left no exit code (I3).
//!
//! Start at [`Tasks::run`].

mod accept;
mod age;
mod caused;
mod consumer;
mod core;
mod disk;
mod driver;
mod error;
mod exchange;
mod provider;
mod recovery;
mod request;
mod retention;
mod status;
mod store;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_container::{Image, Runtime, exchange::Exchange};
use tandem_model::{Kind, StackId, Urn, inputs, resource::Recorded};
use tandem_store::{CommitError, ReadError, Store};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    caused::Caused,
    core::{Attempt, Outcome, Stages},
    error::RunError,
    exchange::LARGEST,
    request::{EVENT, EVENT_SIZE, RunRequest},
    status::{RunState, RunStatus},
};

use self::{core::Event, disk::Roomless, driver::Driver, store::Record};
use crate::{
    capacity::{Capacity, Claim, Room, Wake, unusable},
    home::Home,
    image::{Images, Source},
    log::{self, Filter, RunLog, RunLogs, Sink},
    mount,
    program::Programs,
    resource::Resources,
};

/// The id of a run, and of its container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl RunId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Gives containers what they need to reach the cloud.
pub trait Environment: Send + Sync {
    /// `AWS_ENDPOINT_URL`, credentials and region for the containers of a task. Asked at each start, so that nothing of
    /// it is stored.
    fn for_task(&self, task: &Urn) -> BTreeMap<String, String>;
}

/// What tasks are made of.
#[derive(Clone)]
pub struct Parts {
    pub home: Home,
    pub store: Arc<dyn Store>,
    /// What is deployed, already loaded.
    pub resources: Arc<Resources>,
    pub images: Arc<Images>,
    /// For tasks whose containers run code of the program.
    pub programs: Arc<Programs>,
    pub runtime: Arc<dyn Runtime>,
    pub log: Arc<dyn Sink>,
    pub environment: Arc<dyn Environment>,
    /// Where runs get room.
    pub capacity: Capacity,
    /// How long a container that is told to end may take.
    pub grace: Duration,
}

/// How long a container that is told to end may take, by default.
pub const GRACE: Duration = Duration::from_secs(10);

/// How many of its last lines explain a failure.
const TAIL: usize = 20;

/// Runs tasks. Cheap to clone.
#[derive(Clone)]
pub struct Tasks {
    shared: Arc<Shared>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("capacity", &self.shared.parts.capacity).finish_non_exhaustive()
    }
}

struct Shared {
    parts: Parts,
    /// The runs that have not ended.
    live: Mutex<HashMap<RunId, Live>>,
    roomless: Roomless,
    changes: broadcast::Sender<RunLog>,
    drivers: TaskTracker,
    /// Deliveries no longer wait for their runs.
    draining: CancellationToken,
    closing: CancellationToken,
}

/// How a run's driver is reached.
struct Live {
    events: mpsc::UnboundedSender<Event>,
    /// As it is on disk. Closed once nothing is left of the container.
    record: watch::Receiver<Arc<Record>>,
}

impl Tasks {
    /// The images from which runs that have not ended start, now or when they are tried again.
    ///
    /// # Errors
    /// [`RunError`] if the records cannot be read.
    pub fn images_of_open_runs(&self) -> Result<BTreeSet<String>, RunError> {
        let open = store::open(&*self.shared.parts.store.snapshot()?)?;
        Ok(open.into_iter().map(|record| record.spec.image).collect())
    }

    /// The archives of programs that such runs load.
    ///
    /// # Errors
    /// [`RunError`] if the records cannot be read.
    pub fn code_of_open_runs(&self) -> Result<BTreeSet<String>, RunError> {
        let open = store::open(&*self.shared.parts.store.snapshot()?)?;
        Ok(open.into_iter().filter_map(|record| Some(record.code?.code)).collect())
    }

    /// Takes up every run that has not ended; what became of their containers is looked at in the background. No run
    /// starts before that is known.
    ///
    /// # Errors
    /// [`RunError`] if the records cannot be read.
    pub fn open(parts: Parts) -> Result<Self, RunError> {
        let shared = Arc::new(Shared {
            live: Mutex::default(),
            roomless: Roomless::default(),
            changes: broadcast::Sender::new(1024),
            drivers: TaskTracker::new(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            parts,
        });
        let survey = shared.parts.capacity.survey();
        let open = store::open(&*shared.parts.store.snapshot()?)?;
        let drivers = open.into_iter().map(|record| shared.take_charge(record)).collect();
        shared.drivers.spawn(shared.clone().recover(drivers, survey));
        Ok(Self { shared })
    }

    /// Accepts a run. When this returns, the run is on disk: it starts as soon as there is room, also after a restart.
    ///
    /// With a `key`, the run of an earlier request with that key is returned if there is one (I4), whatever became of it.
    ///
    /// # Errors
    /// [`RunError`] if the task is not deployed, or can never run on this machine, or the run could not be recorded;
    /// then there is no run.
    pub async fn run(&self, request: RunRequest) -> Result<RunId, RunError> {
        let shared = &self.shared;
        if let Some(known) = shared.known(&request)? {
            return Ok(known);
        }
        let urn = request.task.clone();
        let Some(recorded) = shared.parts.resources.by_urn(&urn) else { return Err(RunError::NoTask(urn)) };
        let task: inputs::Task = inputs::read(&urn, &recorded.inputs)?;
        let digest = recorded.outputs.get("image").and_then(|image| image.as_str());
        let Some(digest) = digest else { return Err(RunError::NoTask(urn)) };
        if task.function.is_some() && request.command.is_some() {
            let reason = "it runs a function, which takes no command: give it an input".to_owned();
            return Err(RunError::Invalid { task: urn, reason });
        }
        let image = shared.image(&urn, &task, digest).await?;
        let given = Exchange { input: exchange::input(&request)?, event: request.event.clone() };
        let volumes = mount::resolve(&shared.parts.home, &shared.parts.resources, &urn.stack, &task.volumes)?;
        let record = request::record(request, &task, image, volumes, Timestamp::now())?;
        let (needs, capacity) = (record.claim().needs, shared.parts.capacity.total());
        if !needs.fits(capacity) {
            return Err(RunError::NeverFits { task: urn, needs, capacity });
        }
        if let Some(reason) = unusable(&record.devices) {
            return Err(RunError::Invalid { task: urn, reason });
        }
        // To its end, also if whoever asks goes away: what is recorded has somebody who drives it.
        match tokio::spawn(accept::accept(shared.clone(), record, given)).await {
            Ok(accepted) => accepted,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// How a run stands, with its result once it has ended.
    ///
    /// # Errors
    /// [`RunError::NoRun`] if there is none, or none any more.
    pub fn get(&self, id: &RunId) -> Result<RunStatus, RunError> {
        self.shared.status_of(&*self.shared.find(id)?)
    }

    /// Waits until a run has ended, and answers how.
    ///
    /// # Errors
    /// [`RunError::NoRun`] if there is none, or none any more; [`RunError::Commit`] if the cloud closes before the end.
    pub async fn wait(&self, id: &RunId) -> Result<RunStatus, RunError> {
        let watched = self.shared.live().get(id).map(|live| live.record.clone());
        let record = match watched {
            // The run goes on without us.
            Some(mut watched) => match watched.wait_for(|record| record.run.is_ended()).await {
                Ok(record) => Arc::clone(&record),
                Err(_) => return Err(CommitError::Closed.into()),
            },
            None => self.shared.find(id)?,
        };
        let mut status = self.shared.status_of(&record)?;
        if status.error.is_some() {
            status.log_tail = self.shared.log_tail(&record).await;
        }
        Ok(status)
    }

    /// Ends a run: SIGTERM to its main process, and after the grace SIGKILL to all. Answers when it has ended. What was
    /// asked is on disk before the signal is sent. Stopping a run that has ended changes nothing.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub async fn stop(&self, id: &RunId) -> Result<RunStatus, RunError> {
        self.shared.tell(id, Event::Stop { at: Timestamp::now() });
        self.wait(id).await
    }

    /// The runs of a stack, or of all: those that have not ended, and of each task the last few that have; newest first.
    ///
    /// # Errors
    /// [`RunError`] if the records cannot be read.
    pub fn status(&self, stack: Option<&StackId>) -> Result<Vec<RunStatus>, RunError> {
        self.shared.status(stack)
    }

    /// What one run of each deployed task asks for, of a stack or of all.
    pub fn claims(&self, stack: Option<&StackId>) -> Vec<Claim> {
        let all = self.shared.parts.resources.list(stack).into_iter();
        let claim = |recorded: Arc<Recorded>| {
            let task: inputs::Task = inputs::read(&recorded.urn, &recorded.inputs).ok()?;
            Some(Claim {
                id: String::new(),
                of: recorded.urn.clone(),
                needs: Room::of(request::reservation(&task), task.cpu),
                devices: task.devices,
                priority: task.priority,
                concurrency: task.concurrency,
            })
        };
        all.filter(|recorded| recorded.urn.kind == Kind::Task).filter_map(claim).collect()
    }

    /// Where it is told that a log begins or ends.
    pub fn log_changes(&self) -> broadcast::Sender<RunLog> {
        self.shared.changes.clone()
    }

    /// Gives back the deliveries that wait for a run to end; after the next start they find that run again. Called before
    /// the dispatcher closes, which would wait for them.
    pub fn drain(&self) {
        self.shared.draining.cancel();
    }

    /// Starts no further run and lets go of those that run: their containers go on, and the next start finds them.
    pub async fn close(&self) {
        self.drain();
        self.shared.parts.capacity.close();
        self.shared.closing.cancel();
        self.shared.drivers.close();
        self.shared.drivers.wait().await;
    }
}

impl RunLogs for Tasks {
    fn run_logs(&self, filter: &Filter) -> Result<Vec<RunLog>, ReadError> {
        let snapshot = self.shared.parts.store.snapshot()?;
        let records = store::logged(&*snapshot, filter).map_err(|error| match error {
            RunError::Read(error) => error,
            other => ReadError(Box::new(other)),
        })?;
        let mut logs: Vec<RunLog> = records.iter().flat_map(|record| self.shared.logs_of(record)).collect();
        logs.retain(|log| !matches!((log.ended, filter.since), (Some(ended), Some(since)) if ended < since));
        Ok(logs)
    }

    fn run_changes(&self) -> broadcast::Receiver<RunLog> {
        self.shared.changes.subscribe()
    }
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, HashMap<RunId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image of a deployed task. What has to be made again is made to its end, also for those who do not wait: a
    /// handler has less time than a build, and its next attempt finds it.
    async fn image(
        self: &Arc<Self>,
        urn: &Urn,
        task: &inputs::Task,
        digest: &str,
    ) -> Result<Image, RunError> {
        let (shared, urn, task, digest) = (self.clone(), urn.clone(), task.clone(), digest.to_owned());
        let making = async move {
            shared.parts.images.deployed(&urn, Source::from(&task), &digest).await.map_err(RunError::from)
        };
        match tokio::spawn(making).await {
            Ok(image) => image,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Makes a run known; its driver must then be run.
    fn take_charge(self: &Arc<Self>, record: Record) -> Driver {
        let (events, inbox) = mpsc::unbounded_channel();
        let (state, watched) = watch::channel(Arc::new(record.clone()));
        self.live().insert(record.id.clone(), Live { events, record: watched });
        Driver::new(self.clone(), record, inbox, state)
    }

    /// Tells a run's driver; nothing if the run has ended.
    fn tell(&self, id: &RunId, event: Event) {
        if let Some(live) = self.live().get(id) {
            let _ = live.events.send(event);
        }
    }

    /// How a run is told that there is room for it.
    fn wake(&self, id: &RunId) -> Wake {
        let events = self.live().get(id).map(|live| live.events.clone());
        Box::new(move || {
            let admitted = Event::Admitted { at: Timestamp::now() };
            drop(events.map(|events| events.send(admitted)));
        })
    }

    /// The run that an idempotency key stands for.
    fn known(&self, request: &RunRequest) -> Result<Option<RunId>, RunError> {
        let Some(key) = &request.key else { return Ok(None) };
        let id = RunId::of_key(&request.task, key);
        Ok(store::get(&*self.parts.store.snapshot()?, &id)?.map(|_| id))
    }

    fn find(&self, id: &RunId) -> Result<Arc<Record>, RunError> {
        if let Some(live) = self.live().get(id) {
            return Ok(live.record.borrow().clone());
        }
        let known = store::get(&*self.parts.store.snapshot()?, id)?;
        known.map(Arc::new).ok_or_else(|| RunError::NoRun(id.clone()))
    }

    /// The log of the attempt that is there, or comes next.
    fn log_of(&self, record: &Record) -> RunLog {
        record.log_of(record.run.attempt, self.parts.runtime.log_file(&record.container()))
    }

    /// The last lines of the attempt that ended last; none if they cannot be read.
    async fn log_tail(&self, record: &Record) -> Vec<String> {
        let log = self.log_of(record);
        let tail = tokio::task::spawn_blocking(move || log::tail_of_run(log, TAIL)).await;
        tail.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// The logs of all attempts, in their order.
    fn logs_of(&self, record: &Record) -> Vec<RunLog> {
        let file = |attempt| self.parts.runtime.log_file(&record.container_of(attempt));
        (1..=record.run.attempt).map(|attempt| record.log_of(attempt, file(attempt))).collect()
    }
}
