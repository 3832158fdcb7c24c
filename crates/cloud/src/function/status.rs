//! What functions are doing, for `tandem ps`.

use serde::{Deserialize, Serialize};
use tandem_model::{PhysicalId, Urn};

use super::{Backend, Functions, pool::core::Doing};

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
    /// None while it is being started.
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
        let seen = match &self.shared.backend {
            Backend::Ready { pools, .. } => pools.workers(),
            Backend::Unfit(_) => Vec::new(),
        };
        let queued = |function| match &self.shared.backend {
            Backend::Ready { pools, .. } => pools.queued(function),
            Backend::Unfit(_) => 0,
        };
        let mut all: Vec<_> = self.deployed(|deployed| {
            let status = deployed.by_id.values().map(|version| {
                let counts = deployed.counts.get(&version.id).copied().unwrap_or_default();
                let workers = seen.iter().filter(|worker| worker.function == Some(version.function));
                FunctionStatus {
                    urn: version.urn.clone(),
                    id: version.id.clone(),
                    version: version.hash.clone(),
                    workers: workers.map(WorkerStatus::of).collect(),
                    queued: queued(version.function),
                    invocations: counts.invocations,
                    errors: counts.errors,
                }
            });
            status.collect()
        });
        all.sort_by(|a: &FunctionStatus, b| (&a.urn, &a.id).cmp(&(&b.urn, &b.id)));
        all
    }

    /// The workers that wait for a function.
    pub fn spares(&self) -> Vec<WorkerStatus> {
        match &self.shared.backend {
            Backend::Ready { pools, .. } => {
                pools.workers().iter().filter(|w| w.doing == Doing::Spare).map(WorkerStatus::of).collect()
            }
            Backend::Unfit(_) => Vec::new(),
        }
    }
}

impl WorkerStatus {
    fn of(seen: &super::pool::Seen) -> Self {
        let state = match seen.doing {
            Doing::Spare => WorkerState::Spare,
            Doing::Starting => WorkerState::Starting,
            Doing::Idle => WorkerState::Idle,
            Doing::Busy => WorkerState::Busy,
            Doing::Ending => WorkerState::Ending,
        };
        Self { pid: seen.pid, state, uptime: seen.started.elapsed().as_secs_f64(), requests: seen.requests }
    }
}
