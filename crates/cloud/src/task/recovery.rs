//! What a start finds: runs whose containers went on, ended or never began, and containers that nobody knows.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use tandem_container::{ContainerError, ContainerId};

use crate::capacity::Survey;

use super::{
    RunId, Shared,
    core::Phase,
    driver::{self, Driver},
    store,
};

impl Shared {
    /// Finds out how the containers of the open runs stand, then lets runs start, then cleans up.
    pub(super) async fn recover(self: Arc<Self>, drivers: Vec<Driver>, survey: Survey) {
        // Listed before anything new can start, so that nothing new is taken for a leftover.
        let open = drivers.iter().map(|driver| driver.record().container()).collect();
        let leftover = self.leftover(open).await;
        join_all(drivers.into_iter().map(|driver| self.take_up(driver))).await;
        drop(survey);
        self.remove(leftover).await;
        self.forget_deleted().await;
    }

    /// Compares a record with its container. A run whose container cannot be looked at now holds its room and does not
    /// hold up the others.
    async fn take_up(self: &Arc<Self>, mut driver: Driver) {
        match driver::found(self, driver.record()).await {
            Ok(found) => {
                if driver.apply(found).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(run = %driver.record().id, %error, "cannot yet see what became of a container");
                if matches!(driver.record().run.phase, Phase::Running { .. }) {
                    self.parts.capacity.hold(driver.record().claim());
                }
                driver.look();
            }
        }
        self.drivers.spawn(driver.run());
    }

    /// The containers that belong to no open run.
    async fn leftover(&self, open: HashSet<ContainerId>) -> Vec<ContainerId> {
        match self.parts.runtime.list().await {
            Ok(found) => found.into_iter().filter(|id| RunId::names(&id.0) && !open.contains(id)).collect(),
            Err(error) => {
                tracing::warn!(%error, "cannot look for leftovers of containers");
                Vec::new()
            }
        }
    }

    async fn remove(&self, leftover: Vec<ContainerId>) {
        let runtime = &self.parts.runtime;
        for id in leftover {
            match runtime.signal(&id, libc::SIGKILL, true).await {
                Ok(()) => {
                    let ended = self.closing.run_until_cancelled(runtime.wait(&id)).await;
                    if ended.is_none() {
                        return;
                    }
                }
                Err(ContainerError::Absent(_)) => {}
                Err(error) => tracing::debug!(container = id.0, %error, "a leftover takes no signal"),
            }
            if let Err(error) = runtime.remove(&id).await {
                tracing::warn!(container = id.0, %error, "cannot remove a leftover");
            }
        }
    }

    /// Ends what belongs to tasks that were deleted right before a crash.
    async fn forget_deleted(self: &Arc<Self>) {
        let tasks = self.parts.store.snapshot().and_then(|snapshot| store::tasks(&*snapshot, None));
        match tasks {
            Ok(tasks) => {
                for task in tasks.iter().filter(|task| self.parts.resources.by_urn(task).is_none()) {
                    self.purge(task).await;
                }
            }
            Err(error) => tracing::warn!(%error, "cannot look for runs of deleted tasks"),
        }
    }

    /// The open runs of a task.
    pub(super) fn live_of(&self, task: &tandem_model::Urn) -> Vec<RunId> {
        let live = self.live();
        let of_task = live.iter().filter(|(_, run)| run.record.borrow().task == *task);
        of_task.map(|(id, _)| id.clone()).collect()
    }
}
