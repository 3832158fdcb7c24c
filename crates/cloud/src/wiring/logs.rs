//! The logs of containers: of runs, and of replicas.

use tandem_store::ReadError;
use tokio::sync::broadcast;

use crate::{
    log::{Filter, RunLog, RunLogs},
    service::Services,
    task::Tasks,
};

/// Both tell of changes by the same channel.
pub(crate) struct ContainerLogs {
    pub(crate) tasks: Tasks,
    pub(crate) services: Services,
}

impl RunLogs for ContainerLogs {
    fn run_logs(&self, filter: &Filter) -> Result<Vec<RunLog>, ReadError> {
        let mut logs = self.tasks.run_logs(filter)?;
        logs.extend(self.services.run_logs(filter)?);
        Ok(logs)
    }

    fn run_changes(&self) -> broadcast::Receiver<RunLog> {
        self.tasks.run_changes()
    }
}
