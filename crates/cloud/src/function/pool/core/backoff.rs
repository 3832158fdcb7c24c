//! Pauses between the starts of a function whose workers die before they have answered anything.
//!
//! A worker that dies later, at every third request say, is replaced at once: it has done something for its start. One
//! that lives for a while before it is lost is no burden either, whatever became of its request.

use std::time::Duration;

use super::{
    Core, Now, WorkerId,
    worker::{Duty, Worker},
};

/// The pause after the first failed start; each further one is twice as long.
const FIRST: Duration = Duration::from_millis(10);
/// No pause is longer: a start takes some milliseconds of a processor, so this leaves it to others.
const LONGEST: Duration = Duration::from_secs(1);
/// A worker that is lost within this time, without an answer, has failed to start.
pub(super) const YOUNG: Duration = Duration::from_secs(1);

/// How a function's last starts went.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    until: Option<Now>,
}

impl Backoff {
    fn failed(&mut self, now: Now) {
        let pause = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + pause);
    }

    /// The last start has failed, or those before it did and none has answered since.
    pub(super) fn is_wary(&self) -> bool {
        self.failures > 0
    }

    pub(super) fn holds(&self, now: Now) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    pub(super) fn until(&self) -> Option<Now> {
        self.until
    }

    pub(super) fn pass(&mut self, now: Now) {
        self.until = self.until.filter(|until| now < *until);
    }
}

impl Core {
    /// Counts against the function, unless there is a newer version that has done nothing wrong.
    pub(super) fn start_failed(&mut self, now: Now, duty: Duty) {
        if let Some(function) = self.functions.get_mut(&duty.function)
            && function.definition.generation == duty.generation
        {
            function.backoff.failed(now);
        }
    }

    /// The worker has answered. Only its first answer tells something about starts: one healthy worker must not hide
    /// that all others die.
    pub(super) fn prove(&mut self, worker: WorkerId) {
        let Some(Worker::Serving { duty, proven, .. }) = self.workers.get_mut(&worker) else { return };
        if std::mem::replace(proven, true) {
            return;
        }
        if let Some(function) = self.functions.get_mut(&duty.function) {
            function.backoff = Backoff::default();
        }
    }
}
