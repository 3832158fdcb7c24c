//! Runs with their causes.

use tandem_model::StackId;

use super::{RunError, RunStatus, Tasks, store};
use crate::cause;

/// A run, and the W3C trace context of what started it.
#[derive(Debug, Clone)]
pub struct Caused {
    pub run: RunStatus,
    pub traceparent: Option<String>,
}

impl Caused {
    /// The cause of all that the run does.
    pub fn own_cause(&self) -> String {
        cause::of_run(self.traceparent.as_deref(), self.run.id.as_str())
    }
}

impl Tasks {
    /// The runs of a stack whose logs are kept.
    ///
    /// # Errors
    /// [`RunError`] if they cannot be read.
    pub fn caused(&self, stack: &StackId) -> Result<Vec<Caused>, RunError> {
        let snapshot = self.shared.parts.store.snapshot()?;
        let mut all = Vec::new();
        for task in store::tasks(&*snapshot, Some(stack))? {
            for record in store::of_task(&*snapshot, &task, usize::MAX)? {
                let run = self.shared.status_of(&record)?;
                all.push(Caused { run, traceparent: record.traceparent });
            }
        }
        Ok(all)
    }
}
