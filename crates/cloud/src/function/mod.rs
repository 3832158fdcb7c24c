//! Functions: handlers that run in workers, from zero.
//!
//! A request comes by one of three ways: an event by dispatch ([`Consumer`]), a client by the Lambda Invoke API
//! ([`invoke_api`]), a program by a call. All of them end at [`Functions::invoke`], which puts it into the function's
//! pool: no store, and no retry once it was handed over. Retrying is the business of whoever holds the request.
//!
//! The parts, in the order of a request's way:
//! - [`pool`] decides which worker serves what, and when workers start and end. Its core is pure.
//! - [`spawner`] forks workers in [`sandbox`]es; [`workers`] keeps their connections.
//! - [`worker`] is the code on the other side, in the worker's process.
//! - [`runtime_api`] is how they talk about requests, [`crate::channel`] how about everything else, [`output`] what it prints.
//!
//! Nothing here is durable. A worker ends when its sockets close, so a killed cloud leaves none; what they left of
//! cgroups is removed at the next start.
//!
//! Invariants:
//! - User code runs in workers only, never as root, with no file of the host in reach (I9).
//! - A worker serves one version of one function: archive, handler, environment, limits and the outputs of the stack's
//!   resources, as they were when it was assigned.
//! - An invocation's lines are in the log, with its id, before it ends.

mod assignment;
mod error;
pub mod invoke_api;
mod output;
mod pool;
mod programs;
mod provider;
mod runtime_api;
mod sandbox;
pub mod spawner;
mod status;
mod version;
mod way;
mod worker;
mod workers;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use tandem_model::{PhysicalId, Urn};
use tokio::task::JoinHandle;

pub use self::{
    error::{FunctionError, InvokeError},
    status::{FunctionStatus, WorkerState, WorkerStatus},
};
use self::{
    pool::{Ask, Ended, How, Pools, Refused, core::Limits},
    programs::Programs,
    spawner::{PrepareError, Spawner},
    version::Version,
    workers::Workers,
};
use crate::{archive::Archives, call::Calls, dispatch::Begin, log::Sink, resource::Resources};

/// The variables that a function's program gets from the cloud: its credentials, where the cloud is.
pub type Environment = dyn Fn(&Urn, &PhysicalId) -> BTreeMap<String, String> + Send + Sync;

/// How many workers, for how long.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long a worker may be idle before it ends, and how long after the last request spares are kept.
    pub idle: Duration,
    /// Started but unassigned workers, kept while functions are in use.
    pub spares: usize,
    /// Workers that may start without waiting. Beyond it, one more starts whenever nothing has finished for a while.
    pub at_once: usize,
    /// Workers, ever.
    pub at_most: usize,
}

impl Default for Settings {
    /// What this machine's processors bear at once, and its memory ever.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = (2 * processors).max(4);
        Self { idle: Duration::from_secs(60), spares: 2, at_once, at_most: workers_in_memory().max(at_once) }
    }
}

/// Half of the machine's memory, at 32 MiB a worker.
fn workers_in_memory() -> usize {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let kibibytes: usize = total.and_then(|total| total.trim().parse().ok()).unwrap_or_default();
    (kibibytes / 2 / (32 << 10)).min(1000)
}

/// What functions need of the rest of the cloud.
pub struct Surroundings {
    /// Names what is made outside of the cloud's folder, so that two clouds of one machine do not meet.
    pub cloud: String,
    pub resources: Arc<Resources>,
    pub archives: Archives,
    pub log: Arc<dyn Sink>,
    pub calls: Arc<dyn Calls>,
    pub environment: Arc<Environment>,
}

/// A request for a function.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Names it in the log and to the handler. A repeated delivery keeps it.
    pub request_id: String,
    /// JSON, 6 MiB at most.
    pub payload: Bytes,
    /// W3C trace context of the cause.
    pub traceparent: Option<String>,
}

/// What a handler answered.
#[derive(Debug, Clone)]
pub struct Invoked {
    /// JSON, 6 MiB at most.
    pub payload: Bytes,
    /// The version that served it.
    pub version: String,
    /// The last lines that the handler printed, 4 KiB at most.
    pub log_tail: Vec<String>,
    /// From the hand-over to the worker until its answer.
    pub duration: Duration,
    /// Whether the worker was started for it.
    pub cold: bool,
}

/// All functions of one cloud. Cheap to clone.
#[derive(Clone)]
pub struct Functions {
    shared: Arc<Shared>,
}

struct Shared {
    programs: Arc<Programs>,
    backend: Backend,
    deployed: RwLock<Deployed>,
}

/// What runs functions, or why nothing can.
enum Backend {
    Ready { pools: Arc<Pools>, workers: Arc<Workers>, reporting: JoinHandle<()> },
    Unfit(String),
}

/// The current version of each function, as the target settled it.
#[derive(Default)]
struct Deployed {
    by_id: HashMap<PhysicalId, Arc<Version>>,
    /// The newest physical id of each urn: a replacement creates before it deletes.
    by_urn: HashMap<Urn, PhysicalId>,
    counts: HashMap<PhysicalId, Counts>,
    last: u32,
    generation: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    invocations: u64,
    errors: u64,
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").finish_non_exhaustive()
    }
}

impl Functions {
    /// Connects to the spawner. On a machine that cannot keep workers in, or without a spawner, the cloud still runs,
    /// and every request for a function is answered by [`InvokeError::NoWorkers`] with the reason.
    pub async fn open(spawner: Option<Spawner>, surroundings: Surroundings, settings: Settings) -> Self {
        let Surroundings { cloud, resources, archives, log, calls, environment } = surroundings;
        let programs = Arc::new(Programs::new(archives));
        let cgroup = format!("tandem-{cloud}");
        let prepared = match spawner {
            Some(spawner) => spawner.prepare(&cgroup).await,
            None => Err(PrepareError::Gone),
        };
        let backend = match prepared {
            Ok((line, unlimited)) => {
                if let Some(reason) = unlimited {
                    tracing::warn!(reason, "memory limits of functions are not enforced on this machine");
                }
                let workers =
                    Workers::new(line, cgroup, log, calls, resources, environment, programs.clone());
                let pools = Pools::new(settings.limits(), Arc::new(workers.clone()));
                let reporting = tokio::spawn(workers.clone().report(pools.clone()));
                Backend::Ready { pools, workers, reporting }
            }
            Err(error) => {
                tracing::warn!(%error, "functions cannot run");
                Backend::Unfit(error.to_string())
            }
        };
        Self { shared: Arc::new(Shared { programs, backend, deployed: RwLock::default() }) }
    }

    /// Runs a handler once and waits for what it answers. Nothing is stored and nothing retried. If the returned future
    /// is dropped, a request that has not started is forgotten, and one that has runs to its end.
    ///
    /// # Errors
    /// [`InvokeError`]. The handler did not run for `NoSuchFunction`, `TooManyRequests`, `PayloadTooLarge`,
    /// `NoWorkers` and `Closing`; it may have run, in part, for the others.
    pub async fn invoke(&self, function: &Urn, invocation: Invocation) -> Result<Invoked, InvokeError> {
        self.run(&self.id_of(function)?, invocation, None).await
    }

    fn id_of(&self, function: &Urn) -> Result<PhysicalId, InvokeError> {
        let id = self.deployed(|deployed| deployed.by_urn.get(function).cloned());
        id.ok_or_else(|| InvokeError::NoSuchFunction { name: function.short() })
    }

    /// As [`invoke`](Self::invoke), by the function's physical name.
    ///
    /// # Errors
    /// As [`invoke`](Self::invoke).
    pub async fn invoke_id(&self, id: &PhysicalId, invocation: Invocation) -> Result<Invoked, InvokeError> {
        self.run(id, invocation, None).await
    }

    /// As [`invoke_id`](Self::invoke_id); `begin` is told when a worker gets the request.
    async fn run(
        &self,
        id: &PhysicalId,
        invocation: Invocation,
        begin: Option<Begin>,
    ) -> Result<Invoked, InvokeError> {
        let version = self.deployed(|deployed| deployed.by_id.get(id).cloned());
        let version = version.ok_or_else(|| InvokeError::NoSuchFunction { name: id.to_string() })?;
        if invocation.payload.len() > runtime_api::LARGEST {
            return Err(InvokeError::PayloadTooLarge { bytes: invocation.payload.len() });
        }
        let pools = match &self.shared.backend {
            Backend::Ready { pools, .. } => pools,
            Backend::Unfit(reason) => return Err(InvokeError::NoWorkers { reason: reason.clone() }),
        };
        let Invocation { request_id, payload, traceparent } = invocation;
        let ask = Ask { request: request_id, payload, traceparent, begin };
        let result = match pools.invoke(version.function, ask).await {
            Ok(ended) => conclude(&version, ended),
            Err(refused) => Err(refusal(&version, refused)),
        };
        self.count(id, result.is_err());
        result
    }

    /// Whether a function of that physical name is deployed.
    pub fn exists(&self, id: &PhysicalId) -> bool {
        self.deployed(|deployed| deployed.by_id.contains_key(id))
    }

    /// Takes no more requests, gives those under way `grace` to end, and returns when every worker is gone.
    pub async fn close(&self, grace: Duration) {
        if let Backend::Ready { pools, workers, reporting } = &self.shared.backend {
            pools.close(grace).await;
            reporting.abort();
            workers.close().await;
        }
    }

    fn deployed<T>(&self, f: impl FnOnce(&Deployed) -> T) -> T {
        f(&self.shared.deployed.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, f: impl FnOnce(&mut Deployed) -> T) -> T {
        f(&mut self.shared.deployed.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, id: &PhysicalId, failed: bool) {
        self.change(|deployed| {
            let counts = deployed.counts.entry(id.clone()).or_default();
            counts.invocations += 1;
            counts.errors += u64::from(failed);
        });
    }
}

impl Settings {
    fn limits(self) -> Limits {
        Limits {
            at_once: self.at_once.max(1),
            at_most: self.at_most.max(self.at_once).max(1),
            spares: self.spares,
            idle: self.idle,
            stall: Duration::from_millis(200),
            init: Duration::from_secs(10),
            queue: 10_000,
        }
    }
}

fn refusal(version: &Version, refused: Refused) -> InvokeError {
    match refused {
        Refused::QueueFull => InvokeError::TooManyRequests { function: version.urn.clone() },
        Refused::Closing => InvokeError::Closing,
        Refused::NoSuchFunction | Refused::NotInFlight | Refused::NotExpected => {
            InvokeError::NoSuchFunction { name: version.urn.short() }
        }
    }
}

fn conclude(asked: &Version, ended: Ended) -> Result<Invoked, InvokeError> {
    let Ended { how, version, log_tail, duration, cold } = ended;
    let version = version.as_deref().unwrap_or(asked);
    let function = version.urn.clone();
    Err(match how {
        How::Answered(Ok(payload)) => {
            return Ok(Invoked { payload, version: version.hash.clone(), log_tail, duration, cold });
        }
        How::Answered(Err(error)) => InvokeError::HandlerFailed { function, error: error.into(), log_tail },
        How::TimedOut(_) => InvokeError::TimedOut { function, after: version.timeout(), log_tail },
        How::OutOfMemory(_) => InvokeError::OutOfMemory { function, limit: version.inputs.memory, log_tail },
        How::Lost(loss) => InvokeError::WorkerLost { function, how: pool::describe(loss).into(), log_tail },
        How::NotStarted(reason) => InvokeError::NoWorkers { reason },
        How::InitFailed(error) => InvokeError::InitFailed { function, error: error.into(), log_tail },
        How::Dropped => InvokeError::Closing,
    })
}
