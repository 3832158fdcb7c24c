//! The life of one run, as a pure state machine.
//!
//! ```text
//! Queued ──Admitted──▶ Starting ──Started──▶ Running ──Exited──▶ Ended
//!    └──Stop──▶ Ended     └──StartFailed──▶ Ended
//! ```
//!
//! The driver performs the effects in their order; a [`Effect::Commit`] is on disk before the next effect begins. A run
//! ends in exactly one outcome (I3): nothing leaves [`Phase::Ended`].

mod outcome;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tandem_container::{Container, Exit};
use tandem_model::Report;

pub(in crate::task) use self::outcome::Answer;
pub use self::outcome::Outcome;
use self::outcome::outcome;

/// Where a run stands, and what was asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) phase: Phase,
    /// Set before the container is told to end, so that its exit code is understood, also after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<Ending>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub(super) enum Phase {
    /// Accepted. On disk this also covers a container that is being started: see [`Event::Found`].
    Queued,
    Starting,
    Running {
        started: Timestamp,
        /// The main process; unknown if the cloud was killed right after the start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<i32>,
    },
    Ended {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        started: Option<Timestamp>,
        ended: Timestamp,
        outcome: Outcome,
    },
}

/// Why a container is made to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Ending {
    Stop,
    Timeout,
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// There is room for it.
    Admitted,
    Started {
        at: Timestamp,
        pid: i32,
    },
    StartFailed {
        at: Timestamp,
        error: Box<Report>,
    },
    Exited {
        at: Timestamp,
        exit: Exit,
        answer: Answer,
    },
    /// Somebody wants it to end.
    Stop {
        at: Timestamp,
    },
    /// Its timeout has passed.
    Deadline,
    /// It had its time to end by itself.
    GraceOver,
    /// What was found of its container when the cloud started.
    Found {
        at: Timestamp,
        container: Container,
        /// What an exited one left.
        answer: Answer,
    },
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Asks for room; answered by [`Event::Admitted`].
    Enqueue,
    /// Takes room without asking: it runs already.
    Hold,
    /// Gives back its room, or its place in the queue.
    Release,
    /// Writes the run to the store.
    Commit,
    /// Removes what is left of the container.
    Discard,
    /// Starts the container; answered by [`Event::Started`] or [`Event::StartFailed`].
    Start,
    /// Waits for the container's end; answered by [`Event::Exited`].
    Wait,
    /// Sets the timeout, counted from `started`; answered by [`Event::Deadline`].
    Watch { started: Timestamp },
    /// Asks the container to end and gives it some time; answered by [`Event::GraceOver`].
    Terminate,
    /// Ends the container.
    Kill,
}

/// An event that cannot happen in that phase: a mistake of the driver.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{event:?} cannot happen to a run that is {phase:?}")]
pub(super) struct Illegal {
    phase: Box<Phase>,
    event: Box<Event>,
}

impl Run {
    pub(super) fn accepted() -> Self {
        Self { phase: Phase::Queued, ending: None }
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Ended { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.outcome().is_some()
    }

    pub(super) fn started(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Queued | Phase::Starting => None,
            Phase::Running { started, .. } => Some(started),
            Phase::Ended { started, .. } => started,
        }
    }

    /// The run after the event, and what to do about it.
    ///
    /// # Errors
    /// [`Illegal`] if the event cannot happen in this phase. Events that may come late, after the end, change nothing.
    pub(super) fn on(self, event: Event) -> Result<(Self, Vec<Effect>), Illegal> {
        use Effect::{Commit, Discard, Enqueue, Hold, Kill, Start, Terminate, Wait, Watch};
        let Self { phase, ending } = self;
        Ok(match (phase, event) {
            (ended @ Phase::Ended { .. }, _) => (Self { phase: ended, ending }, vec![]),

            (Phase::Queued, Event::Admitted) => (Self { phase: Phase::Starting, ending }, vec![Start]),
            (Phase::Starting, Event::Started { at, pid }) => {
                let mut effects = vec![Commit, Wait, Watch { started: at }];
                effects.extend(ending.map(|_| Terminate));
                (Self { phase: Phase::Running { started: at, pid: Some(pid) }, ending }, effects)
            }
            (Phase::Starting, Event::StartFailed { at, error }) => {
                end(ending, None, at, Outcome::Failed { error })
            }
            (Phase::Running { started, .. }, Event::Exited { at, exit, answer }) => {
                end(ending, Some(started), at, outcome(exit, answer, ending))
            }

            (Phase::Queued, Event::Stop { at }) => end(Some(Ending::Stop), None, at, Outcome::Stopped),
            // A start cannot be taken back half-way: it is told as soon as it runs.
            (Phase::Starting, Event::Stop { .. }) if ending.is_none() => {
                (Self { phase: Phase::Starting, ending: Some(Ending::Stop) }, vec![Commit])
            }
            (phase @ Phase::Running { .. }, Event::Stop { .. }) if ending.is_none() => {
                (Self { phase, ending: Some(Ending::Stop) }, vec![Commit, Terminate])
            }
            (phase @ Phase::Running { .. }, Event::Deadline) if ending.is_none() => {
                (Self { phase, ending: Some(Ending::Timeout) }, vec![Commit, Terminate])
            }
            // It is being ended already, for the first reason that came.
            (phase, Event::Stop { .. } | Event::Deadline) => (Self { phase, ending }, vec![]),
            (phase @ Phase::Running { .. }, Event::GraceOver) => (Self { phase, ending }, vec![Kill]),

            // It ended while the cloud was down: whatever the clock says, its own exit code is the truth.
            (phase, Event::Found { at, container: Container::Exited(exit), answer }) => {
                let started = started(&phase);
                end(ending, started, at, outcome(exit, answer, ending))
            }
            (phase, Event::Found { at, container: Container::Running, .. }) => {
                let mut effects = vec![Hold];
                let known = started(&phase).is_some();
                let phase = match phase {
                    Phase::Running { .. } => phase,
                    // Killed between the start and its record. The run may be a little older than this.
                    _ => Phase::Running { started: at, pid: None },
                };
                effects.extend((!known).then_some(Commit));
                effects.extend([Wait, Watch { started: started(&phase).unwrap_or(at) }]);
                effects.extend(ending.map(|_| Terminate));
                (Self { phase, ending }, effects)
            }
            (
                Phase::Queued | Phase::Starting,
                Event::Found {
                    at, container: container @ (Container::Absent | Container::Unstarted), ..
                },
            ) => match ending {
                Some(_) => end(ending, None, at, Outcome::Stopped),
                None => {
                    let leftover = (container == Container::Unstarted).then_some(Discard);
                    let effects = leftover.into_iter().chain([Enqueue]).collect();
                    (Self { phase: Phase::Queued, ending }, effects)
                }
            },
            // It ran: starting it again would run it twice.
            (Phase::Running { started, .. }, Event::Found { at, .. }) => {
                end(ending, Some(started), at, Outcome::Lost { full_disk: false })
            }

            (phase, event) => return Err(Illegal { phase: phase.into(), event: event.into() }),
        })
    }

    /// What is left until the timeout.
    pub(super) fn remaining(started: Timestamp, timeout: SignedDuration, now: Timestamp) -> SignedDuration {
        timeout.saturating_sub(now.duration_since(started)).max(SignedDuration::ZERO)
    }
}

fn started(phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Running { started, .. } => Some(*started),
        _ => None,
    }
}

fn end(
    ending: Option<Ending>,
    started: Option<Timestamp>,
    ended: Timestamp,
    outcome: Outcome,
) -> (Run, Vec<Effect>) {
    let phase = Phase::Ended { started, ended, outcome };
    (Run { phase, ending }, vec![Effect::Commit, Effect::Release, Effect::Discard])
}
