//! How runs are forgotten: the oldest ended ones of a task, and all of a task that was deleted.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::Urn;

use super::{RunError, RunId, Shared, core::Event, store};

impl Shared {
    /// Forgets the oldest ended runs of a task if there are too many.
    pub(super) async fn retain(&self, task: &Urn) {
        if let Err(error) = self.forget(task, false).await {
            tracing::warn!(%task, %error, "cannot forget old runs; tried again at the next end of a run");
        }
    }

    /// Ends every run of a task that was deleted, and forgets them all. Answers when nothing is left.
    pub(super) async fn purge(self: &Arc<Self>, task: &Urn) {
        let gone = self.live_of(task).into_iter().map(|id| self.stopped(id));
        join_all(gone).await;
        if let Err(error) = self.forget(task, true).await {
            tracing::warn!(%task, %error, "cannot forget the runs of a deleted task; tried again at the next start");
        }
    }

    /// Stops a run and waits until nothing is left of its container.
    async fn stopped(&self, id: RunId) {
        let watched = self.live().get(&id).map(|live| live.record.clone());
        self.tell(&id, Event::Stop { at: Timestamp::now() });
        if let Some(mut watched) = watched {
            while watched.changed().await.is_ok() {}
        }
    }

    async fn forget(&self, task: &Urn, all: bool) -> Result<(), RunError> {
        let excess = store::excess(&*self.parts.store.snapshot()?, task, Timestamp::now(), all)?;
        if excess.batch.writes.is_empty() {
            return Ok(());
        }
        // The logs first: a record without its log is found and forgotten again, a log without its record never.
        for id in &excess.logs {
            let log = self.parts.runtime.log_file(id);
            tandem_container::log::remove(&log).map_err(|source| RunError::Io { path: log, source })?;
        }
        hit("task.logs.removed");
        self.parts.store.commit(excess.batch).await?;
        Ok(())
    }
}
