//! Accepting a run: its place in the queue, the commit that makes it true, and its driver.

use std::sync::Arc;

use jiff::Timestamp;
use tandem_container::exchange::Exchange;
use tandem_failpoint::hit;
use tandem_store::CommitError;

use super::{Record, RunError, RunId, Shared, core::Event, store};
use crate::capacity::Claim;

pub(super) async fn accept(
    shared: Arc<Shared>,
    mut record: Record,
    given: Exchange,
) -> Result<RunId, RunError> {
    let place = loop {
        let place = Place::take(&shared, &mut record);
        match shared.parts.store.commit(store::accept(&record, &given)).await {
            Ok(()) => break place,
            // Somebody was faster with the same key.
            Err(CommitError::Conflict { .. }) if record.key.is_some() => return Ok(record.id),
            Err(CommitError::Conflict { .. }) => record.id = RunId::random(),
            Err(error) => return Err(error.into()),
        }
    };
    hit("task.run.committed");
    let (id, task) = (record.id.clone(), record.task.clone());
    let driver = shared.take_charge(record);
    shared.drivers.spawn(driver.run());
    place.keep();
    if shared.parts.resources.by_urn(&task).is_none() {
        // Its task was deleted in this moment, perhaps too late for the deletion to see this run.
        shared.tell(&id, Event::Stop { at: Timestamp::now() });
    }
    Ok(id)
}

/// A run's place in the queue while it is being recorded. If that fails, it is given up.
struct Place<'a> {
    shared: &'a Shared,
    run: Option<RunId>,
    accepted: Timestamp,
    claim: Claim,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, record: &mut Record) -> Self {
        let claim = record.claim();
        let accepted = shared.parts.capacity.place(claim.clone(), Timestamp::now());
        record.accepted = accepted;
        Self { shared, run: Some(record.id.clone()), accepted, claim }
    }

    fn keep(mut self) {
        if let Some(run) = self.run.take() {
            let wake = self.shared.wake(&run);
            self.shared.parts.capacity.recorded(self.claim.clone(), self.accepted, wake);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            self.shared.parts.capacity.not_recorded(run.as_str());
        }
    }
}
