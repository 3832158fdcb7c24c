//! Tasks as consumers: an event starts a run.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tandem_model::Explain;
use tandem_store::CommitError;

use super::{Outcome, RunError, RunId, RunRequest, Tasks, status::RunState};
use crate::dispatch::{Consumer, Delivery, Undelivered};

#[async_trait]
impl Consumer for Tasks {
    /// Runs the task with the event on its standard input, and waits for its end: only an exit code of 0 is success.
    ///
    /// Each attempt is a run of its own, but only if the one before has failed: an attempt that was cut short by a
    /// restart is waited for, not repeated.
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        let refused = |error: RunError| match error {
            // The cloud may be opened again.
            RunError::Commit(CommitError::Closed) => Undelivered::Throttled,
            error => Undelivered::Failed { error: error.report(), log_tail: vec![] },
        };
        let id = match self.begun(delivery).map_err(refused)? {
            Some(id) => id,
            None => self.run(request(delivery)).await.map_err(refused)?,
        };
        let status = tokio::select! {
            status = self.wait(&id) => status.map_err(refused)?,
            () = self.shared.draining.cancelled() => return Err(Undelivered::Throttled),
        };
        match status.outcome {
            Some(outcome) if !outcome.is_success() => {
                let log_tail = status.log_tail;
                let error = RunError::Failed { id, task: status.task, outcome: outcome.into() }.report();
                Err(Undelivered::Failed { error, log_tail })
            }
            Some(_) => Ok(()),
            // It has not ended, and nobody drives it: the next start does.
            None => Err(Undelivered::Throttled),
        }
    }

    async fn resume(&self, delivery: &Delivery) -> Option<Result<(), Undelivered>> {
        match self.begun(delivery) {
            Ok(Some(_)) => Some(self.deliver(delivery).await),
            Ok(None) | Err(_) => None,
        }
    }
}

impl Tasks {
    /// The run of this or an earlier attempt that has not failed.
    fn begun(&self, delivery: &Delivery) -> Result<Option<RunId>, RunError> {
        for attempt in (1..=delivery.attempt).rev() {
            let id = RunId::of_key(&delivery.consumer, &key(delivery, attempt));
            match self.get(&id) {
                Ok(run) if run.state != RunState::Ended => return Ok(Some(id)),
                Ok(run) if run.outcome.as_ref().is_some_and(Outcome::is_success) => return Ok(Some(id)),
                // A failure is final once there was time to tell it: this attempt comes after it.
                Ok(_) if attempt == delivery.attempt => return Ok(Some(id)),
                Ok(_) => return Ok(None),
                Err(RunError::NoRun(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

fn key(delivery: &Delivery, attempt: u32) -> String {
    format!("{}#{attempt}", delivery.id)
}

fn request(delivery: &Delivery) -> RunRequest {
    let event = delivery.envelope().to_string();
    RunRequest {
        task: delivery.consumer.clone(),
        environment: BTreeMap::new(),
        command: None,
        input: None,
        event: Some(event),
        key: Some(key(delivery, delivery.attempt)),
        traceparent: Some(delivery.traceparent()),
    }
}
