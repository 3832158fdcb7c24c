//! The life of one run, as a pure state machine.
//!
//! ```text
//! Queued ──Admitted──▶ Starting ──Started──▶ Running ──Exited──▶ Ended
//!  ▲ └──Stop──▶ Ended     └──StartFailed──▶ Ended       │
//!  └────────────────── attempts are left ───────────────┘
//! ```
//!
//! A run has one attempt after another, each with a container of its own, until one succeeds or none is left. The commit
//! that gives an attempt up is the one that makes the next: `attempt` always counts the container that is there, or
//! comes next.
//!
//! The driver performs the effects in their order; a [`Effect::Commit`] is on disk before the next effect begins. A run
//! ends in exactly one outcome (I3): nothing leaves [`Phase::Ended`].

mod outcome;
mod retry;

#[cfg(test)]
mod tests;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tandem_container::{Container, Exit, Started};
use tandem_model::Report;

pub(in crate::task) use self::outcome::Answer;
use self::outcome::outcome;
pub(in crate::task) use self::retry::{Policy, rest};
pub use self::{outcome::Outcome, retry::Attempt};

/// Where a run stands, and what was asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run {
    #[serde(flatten)]
    pub(super) phase: Phase,
    /// Set before the container is told to end, so that its exit code is understood, also after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ending: Option<Ending>,
    /// Which attempt it is, counted from 1.
    #[serde(default = "first")]
    pub(super) attempt: u32,
    /// Those before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) failed: Vec<Attempt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<Policy>,
    #[serde(default)]
    pub(super) stages: Stages,
}

/// When the stages on the way to a container's start were reached, of the attempt that there is. Unknown if the cloud was
/// killed before it recorded the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stages {
    /// There was room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admitted: Option<Timestamp>,
    /// Its root file system was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mounted: Option<Timestamp>,
    /// Its namespaces and its main process were there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

fn first() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "phase")]
pub(super) enum Phase {
    /// Accepted. On disk this also covers a container that is being started: see [`Event::Found`].
    Queued {
        /// A further attempt does not begin before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
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
    Admitted {
        at: Timestamp,
    },
    Started {
        at: Timestamp,
        started: Started,
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
    /// The pause before its next attempt is over.
    Rested,
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
    /// Removes what is left of the container of that attempt.
    Discard { attempt: u32 },
    /// Lets go of all that was waited for, and waits until then; answered by [`Event::Rested`].
    Rest { until: Timestamp },
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
    pub(super) fn accepted(policy: Option<Policy>) -> Self {
        let phase = Phase::Queued { until: None };
        Self { phase, ending: None, attempt: first(), failed: Vec::new(), policy, stages: Stages::default() }
    }

    fn to(self, phase: Phase) -> Self {
        Self { phase, ..self }
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
            Phase::Queued { .. } | Phase::Starting => None,
            Phase::Running { started, .. } => Some(started),
            Phase::Ended { started, .. } => started,
        }
    }

    /// The run after the event, and what to do about it.
    ///
    /// # Errors
    /// [`Illegal`] if the event cannot happen in this phase. Events that may come late, after the end, change nothing.
    pub(super) fn on(self, event: Event) -> Result<(Self, Vec<Effect>), Illegal> {
        use Effect::{Commit, Discard, Enqueue, Hold, Kill, Rest, Start, Terminate, Wait, Watch};
        let (ending, attempt) = (self.ending, self.attempt);
        Ok(match (self.phase.clone(), event) {
            (Phase::Ended { .. }, _) => (self, vec![]),

            (Phase::Queued { .. }, Event::Admitted { at }) => {
                let stages = Stages { admitted: Some(at), ..Stages::default() };
                (Self { stages, ..self }.to(Phase::Starting), vec![Start])
            }
            (Phase::Queued { .. }, Event::Rested) => (self.to(Phase::Queued { until: None }), vec![Enqueue]),
            (Phase::Starting, Event::Started { at, started: Started { pid, mounted, created } }) => {
                let (mounted, created) = (Some(mounted), Some(created));
                let stages = Stages { mounted, created, ..self.stages };
                let mut effects = vec![Commit, Wait, Watch { started: at }];
                effects.extend(ending.map(|_| Terminate));
                (Self { stages, ..self }.to(Phase::Running { started: at, pid: Some(pid) }), effects)
            }
            (Phase::Starting, Event::StartFailed { at, error }) => {
                self.end(None, at, Outcome::Failed { error })
            }
            (Phase::Running { started, .. }, Event::Exited { at, exit, answer }) => {
                self.end(Some(started), at, outcome(exit, answer, ending))
            }

            (Phase::Queued { .. }, Event::Stop { at }) => {
                Self { ending: Some(Ending::Stop), ..self }.end(None, at, Outcome::Stopped)
            }
            // A start cannot be taken back half-way: it is told as soon as it runs.
            (Phase::Starting, Event::Stop { .. }) if ending.is_none() => {
                (Self { ending: Some(Ending::Stop), ..self }, vec![Commit])
            }
            (Phase::Running { .. }, Event::Stop { .. }) if ending.is_none() => {
                (Self { ending: Some(Ending::Stop), ..self }, vec![Commit, Terminate])
            }
            // It is being ended for its timeout already, but it must not begin again.
            (Phase::Running { .. }, Event::Stop { .. }) if ending == Some(Ending::Timeout) => {
                (Self { policy: None, ..self }, vec![Commit])
            }
            (Phase::Running { .. }, Event::Deadline) if ending.is_none() => {
                (Self { ending: Some(Ending::Timeout), ..self }, vec![Commit, Terminate])
            }
            // It is being ended already, for the first reason that came.
            (_, Event::Stop { .. } | Event::Deadline) => (self, vec![]),
            (Phase::Running { .. }, Event::GraceOver) => (self, vec![Kill]),

            // It ended while the cloud was down: whatever the clock says, its own exit code is the truth.
            (phase, Event::Found { at, container: Container::Exited(exit), answer }) => {
                self.end(started(&phase), at, outcome(exit, answer, ending))
            }
            (phase, Event::Found { at, container: Container::Running, .. }) => {
                let mut effects = vec![Hold];
                let known = started(&phase).is_some();
                effects.extend((!known).then_some(Commit));
                effects.extend([Wait, Watch { started: started(&phase).unwrap_or(at) }]);
                effects.extend(ending.map(|_| Terminate));
                let phase = match phase {
                    Phase::Running { .. } => phase,
                    // Killed between the start and its record. The run may be a little older than this.
                    _ => Phase::Running { started: at, pid: None },
                };
                (self.to(phase), effects)
            }
            (
                phase @ (Phase::Queued { .. } | Phase::Starting),
                Event::Found {
                    at, container: container @ (Container::Absent | Container::Unstarted), ..
                },
            ) => {
                if ending.is_some() {
                    return Ok(self.end(None, at, Outcome::Stopped));
                }
                let until = match phase {
                    Phase::Queued { until } => until.filter(|until| *until > at),
                    _ => None,
                };
                let leftover = (container == Container::Unstarted).then_some(Discard { attempt });
                let next = until.map_or(Enqueue, |until| Rest { until });
                (self.to(Phase::Queued { until }), leftover.into_iter().chain([next]).collect())
            }
            // It ran: starting that container again would run it twice.
            (Phase::Running { started, .. }, Event::Found { at, .. }) => {
                self.end(Some(started), at, Outcome::Lost { full_disk: false })
            }

            (phase, event) => return Err(Illegal { phase: phase.into(), event: event.into() }),
        })
    }

    /// An attempt has ended: the run with it, or the next attempt follows.
    fn end(self, started: Option<Timestamp>, ended: Timestamp, outcome: Outcome) -> (Self, Vec<Effect>) {
        use Effect::{Commit, Discard, Release, Rest};
        let attempt = self.attempt;
        let policy = self.policy.as_ref().filter(|_| self.ending != Some(Ending::Stop));
        let pause = policy.filter(|policy| policy.again(attempt, &outcome));
        let Some(pause) = pause.map(|policy| policy.pause(attempt)) else {
            return (
                self.to(Phase::Ended { started, ended, outcome }),
                vec![Commit, Release, Discard { attempt }],
            );
        };
        let until = ended.checked_add(pause).unwrap_or(Timestamp::MAX);
        let mut failed = self.failed;
        failed.push(Attempt { started, ended, outcome });
        let phase = Phase::Queued { until: Some(until) };
        let (policy, stages) = (self.policy, Stages::default());
        let next = Self { phase, ending: None, attempt: attempt + 1, failed, policy, stages };
        (next, vec![Commit, Release, Discard { attempt }, Rest { until }])
    }

    /// What is left until the timeout.
    pub(super) fn remaining(age: SignedDuration, timeout: SignedDuration) -> SignedDuration {
        // An age below zero, by a clock that was set back, does not make a timeout longer.
        timeout.saturating_sub(age).clamp(SignedDuration::ZERO, timeout)
    }
}

fn started(phase: &Phase) -> Option<Timestamp> {
    match phase {
        Phase::Running { started, .. } => Some(*started),
        _ => None,
    }
}
