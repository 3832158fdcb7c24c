//! Services: containers that are kept running, replicated and load-balanced.
//!
//! A service is a number of replicas, each a container or several with an address of their own on the bridge of their stack
//! ([`network`]), and ports of the machine that lead to those that are well ([`balance`]). Each replica has a
//! [keeper], which starts it, asks whether it is [well](health), and replaces it with growing pauses. What a service runs
//! has a name, its [version]: a change of it is prepared by starting the new version beside the old one, made true by the
//! commit of the resource, and finished by letting the old one go ([`provider`]).
//!
//! Who owns it: the rows under `service/` are written here and by nobody else, a replica's by its keeper. The containers and
//! their monitors outlive the cloud; the ports do not, so a service answers again once the cloud runs. What a restart
//! finds at each gap is in [`keeper`] and [`provider`].
//!
//! Start at [`provider`].

mod balance;
mod error;
mod fleet;
mod health;
mod keeper;
mod network;
mod provider;
mod room;
mod scale;
mod store;
mod version;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_container::{ContainerError, ContainerId, Runtime};
use tandem_model::{StackId, Urn, inputs};
use tandem_store::{ReadError, Store};
use tokio::sync::broadcast;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use self::error::ServiceError;
use self::{fleet::Fleet, network::Networks, store::Replica};
use crate::{
    capacity::Capacity,
    home::Home,
    image::Images,
    log::{Filter, RunLog, RunLogs, Sink},
    program::Programs,
    resource::Resources,
};

/// Of the replicas that ended, so many keep their logs.
const KEPT_LOGS: usize = 5;

/// Gives containers what they need to reach the cloud.
pub trait Environment: Send + Sync {
    /// As for a task, but with an endpoint that is reached by way of the bridge's own address.
    fn for_service(&self, service: &Urn, gateway: Ipv4Addr) -> BTreeMap<String, String>;
}

/// What services are made of.
#[derive(Clone)]
pub struct Parts {
    pub home: Home,
    pub store: Arc<dyn Store>,
    /// What is deployed, already loaded.
    pub resources: Arc<Resources>,
    pub images: Arc<Images>,
    /// For containers that run code of the program.
    pub programs: Arc<Programs>,
    pub runtime: Arc<dyn Runtime>,
    pub log: Arc<dyn Sink>,
    /// Told of each replica that begins or ends.
    pub log_changes: broadcast::Sender<RunLog>,
    pub environment: Arc<dyn Environment>,
    /// Where the cloud listens.
    pub cloud: SocketAddr,
    /// Where replicas get room.
    pub capacity: Capacity,
}

/// Keeps services running. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    shared: Arc<Shared>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

struct Shared {
    parts: Parts,
    networks: Networks,
    fleets: Mutex<HashMap<Urn, Arc<Fleet>>>,
    /// Containers that a former process left, until somebody looks after them.
    found: Mutex<HashMap<Urn, Vec<Replica>>>,
    /// By stack: the way from its bridge to the cloud.
    ways: Mutex<HashMap<StackId, DropGuard>>,
    tracker: TaskTracker,
    closing: CancellationToken,
}

/// A service as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    pub urn: Urn,
    /// How many replicas it is to have.
    pub wanted: u32,
    pub ports: Vec<inputs::Port>,
    /// Of all versions: while one takes over from another there are two.
    pub replicas: Vec<ReplicaStatus>,
}

/// One replica of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// Also its first container's; none while another one is to be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub version: String,
    /// Which of the replicas it is, from 0.
    pub replica: u32,
    pub healthy: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    pub restarts: u32,
    /// Why there is no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// Why it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Services {
    /// Reads which containers there are. They are looked after as soon as their services are settled, and the others
    /// removed by [`sweep`](Self::sweep).
    ///
    /// # Errors
    /// [`ServiceError`] if the records cannot be read.
    pub fn open(parts: Parts) -> Result<Self, ServiceError> {
        let mut found: HashMap<Urn, Vec<Replica>> = HashMap::new();
        for replica in store::replicas(&*parts.store.snapshot()?)? {
            if replica.ended.is_none() {
                parts.capacity.hold(room::found(&replica, &parts.resources));
                found.entry(replica.service.clone()).or_default().push(replica);
            }
        }
        let shared = Shared {
            networks: Networks::new(parts.home.clone(), parts.store.clone()),
            fleets: Mutex::default(),
            found: Mutex::new(found),
            ways: Mutex::default(),
            tracker: TaskTracker::new(),
            closing: CancellationToken::new(),
            parts,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Removes the containers of services that are not there any more. Called once, when all are settled.
    pub fn sweep(&self) {
        let shared = self.shared.clone();
        let nobodys: Vec<Replica> = {
            let mut found = shared.found.lock().unwrap_or_else(PoisonError::into_inner);
            // Of those that could not be settled, or not yet, the containers go on.
            let gone = found.extract_if(|urn, _| shared.parts.resources.by_urn(urn).is_none());
            gone.flat_map(|(_, replicas)| replicas).collect()
        };
        self.shared.tracker.spawn(async move {
            for replica in nobodys {
                shared.kill(&replica).await;
                shared.forget(&replica.service).await;
            }
        });
    }

    /// The images of all replicas that are kept running, of all versions.
    pub fn images(&self) -> BTreeSet<String> {
        let fleets: Vec<Arc<Fleet>> = self.shared.fleets().values().cloned().collect();
        fleets.iter().flat_map(|fleet| fleet.images()).collect()
    }

    /// The services of a stack, or of all, in the order of their urns.
    pub fn status(&self, stack: Option<&StackId>) -> Vec<ServiceStatus> {
        let fleets: BTreeMap<Urn, Arc<Fleet>> = {
            let fleets = self.shared.fleets();
            let within = |urn: &&Urn| stack.is_none_or(|stack| urn.stack == *stack);
            fleets.iter().filter(|(urn, _)| within(urn)).map(|(u, f)| (u.clone(), f.clone())).collect()
        };
        let status = |(urn, fleet): (Urn, Arc<Fleet>)| {
            let recorded = self.shared.parts.resources.by_urn(&urn)?;
            let service: inputs::Service = inputs::read(&urn, &recorded.inputs).ok()?;
            let replica = |(version, replica, state): (String, u32, keeper::State)| ReplicaStatus {
                id: state.id,
                version,
                replica,
                healthy: state.healthy,
                since: state.since,
                restarts: state.restarts,
                waits: state.waits,
                trouble: state.trouble,
            };
            let replicas = fleet.states(None).into_iter().map(replica).collect();
            Some(ServiceStatus {
                urn,
                wanted: fleet.count(&service),
                ports: service.ports().cloned().collect(),
                replicas,
            })
        };
        fleets.into_iter().filter_map(status).collect()
    }

    /// Lets go of what runs: the containers go on, and the next start finds them.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
        // Closes the ports.
        self.shared.fleets().clear();
        self.shared.ways.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl RunLogs for Services {
    fn run_logs(&self, filter: &Filter) -> Result<Vec<RunLog>, ReadError> {
        let snapshot = self.shared.parts.store.snapshot()?;
        let replicas = store::replicas(&*snapshot).map_err(|error| match error {
            ServiceError::Read(error) => error,
            other => ReadError(Box::new(other)),
        })?;
        let wanted = |replica: &Replica| filter.wants(&replica.service);
        let mut logs: Vec<RunLog> =
            replicas.iter().filter(|replica| wanted(replica)).flat_map(|r| self.shared.logs_of(r)).collect();
        logs.retain(|log| filter.wants_id(&log.id));
        logs.retain(|log| !matches!((log.ended, filter.since), (Some(ended), Some(since)) if ended < since));
        Ok(logs)
    }

    fn run_changes(&self) -> broadcast::Receiver<RunLog> {
        self.shared.parts.log_changes.subscribe()
    }
}

impl Shared {
    fn fleets(&self) -> MutexGuard<'_, HashMap<Urn, Arc<Fleet>>> {
        self.fleets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One for each of its containers.
    fn logs_of(&self, replica: &Replica) -> impl Iterator<Item = RunLog> {
        let log = |id: ContainerId| RunLog {
            task: replica.service.clone(),
            file: self.parts.runtime.log_file(&id),
            id: id.0,
            since: replica.created,
            ended: replica.ended,
        };
        replica.containers().into_iter().map(log)
    }

    fn tell_log(&self, replica: &Replica) {
        for log in self.logs_of(replica) {
            // Fails if nobody follows.
            let _ = self.parts.log_changes.send(log);
        }
    }

    /// Makes the way from a stack's bridge to the cloud, once.
    fn reach_cloud(&self, stack: &StackId, gateway: Ipv4Addr) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if ways.contains_key(stack) {
            return;
        }
        let stop = CancellationToken::new();
        let from = SocketAddrV4::new(gateway, self.parts.cloud.port());
        match balance::forward(from, self.parts.cloud, stop.clone()) {
            Ok(()) => {
                ways.insert(stack.clone(), stop.drop_guard());
            }
            Err(error) => tracing::warn!(%stack, %error, "services of the stack cannot reach the cloud"),
        }
    }

    /// Ends a replica that nobody looks after, and removes it.
    async fn kill(&self, replica: &Replica) {
        for id in replica.containers() {
            match self.parts.runtime.signal(&id, libc::SIGKILL, true).await {
                Ok(()) => drop(self.parts.runtime.wait(&id).await),
                Err(ContainerError::Absent(_)) => {}
                Err(error) => tracing::debug!(container = id.0, %error, "a leftover takes no signal"),
            }
        }
        self.remove(replica).await;
        self.parts.capacity.leave(&replica.id);
    }

    /// Forgets the oldest logs of a service; all of them with `keep` 0.
    async fn prune(&self, service: &Urn, keep: usize) -> Result<(), ServiceError> {
        let all = store::replicas(&*self.parts.store.snapshot()?)?;
        let mut ended: Vec<Replica> =
            all.into_iter().filter(|r| r.service == *service && r.ended.is_some()).collect();
        ended.sort_by_key(|replica| replica.ended);
        ended.truncate(ended.len().saturating_sub(keep));
        let ids: Vec<String> = ended.iter().map(|replica| replica.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        for log in ended.iter().flat_map(|replica| self.logs_of(replica)) {
            let path = log.file.display().to_string();
            tandem_container::log::remove(&log.file).map_err(|source| ServiceError::Io { path, source })?;
        }
        Ok(self.parts.store.commit(store::forget(&ids)).await?)
    }

    /// Forgets a service of which nothing is there any more, with its logs and, if it was the last one, its stack's network.
    /// What fails is tried again when the stack's next service goes.
    async fn forget(&self, service: &Urn) {
        if self.parts.resources.by_urn(service).is_some() || self.fleets().contains_key(service) {
            return;
        }
        if let Err(error) = self.prune(service, 0).await {
            tracing::warn!(%service, %error, "cannot forget what is left of a service");
        }
        self.release(&service.stack).await;
    }

    /// Gives the stack's network back if no service of it is left.
    async fn release(&self, stack: &StackId) {
        if self.fleets().keys().any(|urn| urn.stack == *stack) {
            return;
        }
        self.ways.lock().unwrap_or_else(PoisonError::into_inner).remove(stack);
        if let Err(error) = self.networks.release(stack).await {
            tracing::warn!(%stack, %error, "cannot give the network of a stack back");
        }
    }
}
