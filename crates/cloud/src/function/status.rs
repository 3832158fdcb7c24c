//! What functions are doing, for `tandem ps`.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tandem_model::{PhysicalId, Urn};

use super::{
    Backend, Functions,
    pool::{self, Observed, core::Doing},
};

/// One function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionStatus {
    pub urn: Urn,
    pub id: PhysicalId,
    /// The version that new requests are served by.
    pub version: String,
    pub workers: Vec<WorkerStatus>,
    /// Requests that wait for a worker.
    pub queued: usize,
    /// Since the cloud started.
    pub invocations: u64,
    pub errors: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// None while it is being started, and when it has just ended.
    pub pid: Option<i32>,
    pub state: WorkerState,
    /// In seconds.
    pub uptime: f64,
    /// Requests that it was handed.
    pub requests: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Started, and without a function yet.
    Spare,
    /// Loads its program.
    Starting,
    Idle,
    Busy,
    Ending,
}

impl Functions {
    /// Every deployed function, ordered by urn.
    pub fn status(&self) -> Vec<FunctionStatus> {
        self.processes().0
    }

    /// The workers of no deployed function: those that wait for one, and those whose function was removed while they
    /// worked.
    pub fn spares(&self) -> Vec<WorkerStatus> {
        self.processes().1
    }

    /// [`status`](Self::status) and [`spares`](Self::spares), at one moment. Every process of a worker is in one of them:
    /// a worker is listed from before it is forked until after it is reaped.
    pub fn processes(&self) -> (Vec<FunctionStatus>, Vec<WorkerStatus>) {
        // What is deployed is looked at while it cannot change, for a worker's function must be found in it.
        self.deployed(|deployed| {
            let Observed { workers: seen, queued } = match &self.shared.backend {
                Backend::Ready { pools, .. } => pools.observe(),
                Backend::Unfit(_) => Observed::default(),
            };
            let mut others: HashMap<_, Vec<_>> = HashMap::new();
            for worker in &seen {
                others.entry(worker.function).or_default().push(WorkerStatus::of(worker));
            }
            let status = deployed.by_id.values().map(|version| {
                let counts = deployed.counts.get(&version.id).copied().unwrap_or_default();
                FunctionStatus {
                    urn: version.urn.clone(),
                    id: version.id.clone(),
                    version: version.hash.clone(),
                    workers: others.remove(&Some(version.function)).unwrap_or_default(),
                    queued: queued.get(&version.function).copied().unwrap_or_default(),
                    invocations: counts.invocations,
                    errors: counts.errors,
                }
            });
            let mut all: Vec<_> = status.collect();
            all.sort_by(|a: &FunctionStatus, b| (&a.urn, &a.id).cmp(&(&b.urn, &b.id)));
            (all, others.into_values().flatten().collect())
        })
    }
}

impl WorkerStatus {
    fn of(seen: &pool::Seen) -> Self {
        let state = match seen.doing {
            Doing::Spare => WorkerState::Spare,
            Doing::Starting => WorkerState::Starting,
            Doing::Idle => WorkerState::Idle,
            Doing::Busy => WorkerState::Busy,
            Doing::Ending => WorkerState::Ending,
        };
        // The kernel knows of an end before the cloud is told.
        let (pid, state) = match seen.pid {
            Some(pid) if !pool::lives(pid) => (None, WorkerState::Ending),
            pid => (pid, state),
        };
        Self { pid, state, uptime: seen.started.elapsed().as_secs_f64(), requests: seen.requests }
    }
}
