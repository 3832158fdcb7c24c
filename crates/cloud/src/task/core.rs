//! The life of one run, as a pure state machine.
//!
//! ```text
//! Queued ──Admitted──▶ Starting ──Started──▶ Running ──Exited──▶ Ended
//!    └──Stop──▶ Ended     └──StartFailed──▶ Ended
//! ```
//!
//! The driver performs the effects in their order; a [`Effect::Commit`] is on disk before the next effect begins. A run
//! ends in exactly one outcome (I3): nothing leaves [`Phase::Ended`].

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tandem_container::{Container, Exit};
use tandem_model::Report;

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

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "outcome")]
pub enum Outcome {
    /// By itself. 128 + n after signal n.
    Exited { code: i32 },
    /// The kernel ended it for its memory limit.
    OutOfMemory { code: i32 },
    /// It was ended for its timeout.
    TimedOut,
    /// Somebody stopped it, perhaps before it started.
    Stopped,
    /// Its monitor is gone and left no exit code: the monitor was killed, or the machine restarted; or it ended while the
    /// disk was full (`full_disk`), so that the monitor could not write the code.
    #[serde(rename_all = "camelCase")]
    Lost {
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        full_disk: bool,
    },
    /// Its container could not be started.
    Failed { error: Box<Report> },
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }

    /// What a process that stands for the run exits with: the container's code; 124 after a timeout, 143 when stopped,
    /// 125 if there is no code, as `timeout`, shells and `docker run` have it.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Exited { code } | Self::OutOfMemory { code } => *code,
            Self::TimedOut => 124,
            Self::Stopped => 143,
            Self::Lost { .. } | Self::Failed { .. } => 125,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::OutOfMemory { code } => write!(f, "ran out of memory and exited with code {code}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Stopped => f.write_str("was stopped"),
            Self::Lost { full_disk: false } => {
                f.write_str("was lost: its monitor is gone and left no exit code")
            }
            Self::Lost { full_disk: true } => f.write_str(
                "was lost: the disk was full when it ended, so that its monitor could not write its exit code",
            ),
            Self::Failed { error } => {
                write!(f, "failed to start: {error}")?;
                error.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
        }
    }
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
            (Phase::Running { started, .. }, Event::Exited { at, exit }) => {
                end(ending, Some(started), at, outcome(exit, ending))
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
            (phase, Event::Found { at, container: Container::Exited(exit) }) => {
                let started = started(&phase);
                end(ending, started, at, outcome(exit, ending))
            }
            (phase, Event::Found { at, container: Container::Running }) => {
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
                Event::Found { at, container: container @ (Container::Absent | Container::Unstarted) },
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

/// The code that a container exits with after it was told to end says nothing of its own.
fn outcome(exit: Exit, ending: Option<Ending>) -> Outcome {
    match (exit, ending) {
        (Exit::Lost { full }, _) => Outcome::Lost { full_disk: full },
        (_, Some(Ending::Stop)) => Outcome::Stopped,
        (_, Some(Ending::Timeout)) => Outcome::TimedOut,
        (Exit::Code { code }, None) => Outcome::Exited { code },
        (Exit::OutOfMemory { code }, None) => Outcome::OutOfMemory { code },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn after(events: impl IntoIterator<Item = Event>) -> (Run, Vec<Effect>) {
        events.into_iter().fold((Run::accepted(), vec![]), |(run, _), event| run.on(event).unwrap())
    }

    fn started() -> [Event; 2] {
        [Event::Admitted, Event::Started { at: at(1), pid: 7 }]
    }

    fn exited(exit: Exit) -> Event {
        Event::Exited { at: at(9), exit }
    }

    fn found(container: Container) -> Event {
        Event::Found { at: at(5), container }
    }

    #[test]
    fn a_run_that_is_left_alone_ends_with_its_exit_code() {
        let (run, effects) = after(started().into_iter().chain([exited(Exit::Code { code: 3 })]));
        assert_eq!(run.outcome(), Some(&Outcome::Exited { code: 3 }));
        assert_eq!(effects, [Effect::Commit, Effect::Release, Effect::Discard]);
    }

    #[test]
    fn stopped_timed_out_and_out_of_memory_are_told_apart_by_what_came_first() {
        let end = |first: Option<Event>, exit| {
            let (run, _) = after(started().into_iter().chain(first).chain([exited(exit)]));
            run.outcome().cloned().unwrap()
        };
        let killed = Exit::Code { code: 137 };
        assert_eq!(end(Some(Event::Stop { at: at(2) }), killed), Outcome::Stopped);
        assert_eq!(end(Some(Event::Deadline), killed), Outcome::TimedOut);
        assert_eq!(end(None, Exit::OutOfMemory { code: 137 }), Outcome::OutOfMemory { code: 137 });
        assert_eq!(end(None, killed), Outcome::Exited { code: 137 });
        let lost = |full| end(Some(Event::Deadline), Exit::Lost { full });
        assert_eq!([false, true].map(lost), [false, true].map(|full_disk| Outcome::Lost { full_disk }));
    }

    #[test]
    fn a_stop_is_committed_before_the_container_is_told() {
        let (_, effects) = after(started().into_iter().chain([Event::Stop { at: at(2) }]));
        assert_eq!(effects, [Effect::Commit, Effect::Terminate]);
        let (run, effects) = after([Event::Admitted, Event::Stop { at: at(0) }]);
        assert_eq!((effects, run.ending), (vec![Effect::Commit], Some(Ending::Stop)));
        let (_, effects) = run.on(Event::Started { at: at(1), pid: 7 }).unwrap();
        assert_eq!(effects.last(), Some(&Effect::Terminate));
    }

    #[test]
    fn a_run_that_was_stopped_in_the_queue_never_starts() {
        let (run, effects) = after([Event::Stop { at: at(1) }]);
        assert_eq!(run.outcome(), Some(&Outcome::Stopped));
        assert!(!effects.contains(&Effect::Start));
        assert_eq!(run.clone().on(Event::Admitted).unwrap(), (run, vec![]));
    }

    #[test]
    fn what_a_restart_finds_decides_whether_it_starts_again() {
        use Container::{Absent, Exited, Running, Unstarted};
        let code = Exit::Code { code: 7 };
        let queued = |container| after([found(container)]);
        assert_eq!(queued(Absent).1, [Effect::Enqueue]);
        assert_eq!(queued(Unstarted).1, [Effect::Discard, Effect::Enqueue]);
        assert_eq!(queued(Exited(code)).0.outcome(), Some(&Outcome::Exited { code: 7 }));
        let watch = Effect::Watch { started: at(5) };
        assert_eq!(queued(Running).1, [Effect::Hold, Effect::Commit, Effect::Wait, watch]);

        let running = |container| after(started().into_iter().chain([found(container)]));
        assert_eq!(running(Absent).0.outcome(), Some(&Outcome::Lost { full_disk: false }));
        assert_eq!(running(Exited(code)).0.outcome(), Some(&Outcome::Exited { code: 7 }));
        let watch = Effect::Watch { started: at(1) };
        assert_eq!(running(Running).1, [Effect::Hold, Effect::Wait, watch]);
    }

    #[test]
    fn a_stop_outlives_a_restart() {
        let stop = || Event::Stop { at: at(2) };
        let (run, effects) = after(started().into_iter().chain([stop(), found(Container::Running)]));
        assert_eq!(effects.last(), Some(&Effect::Terminate));
        assert_eq!(run.on(exited(Exit::Code { code: 0 })).unwrap().0.outcome(), Some(&Outcome::Stopped));
        let (run, _) = after([Event::Admitted, stop(), found(Container::Absent)]);
        assert_eq!(run.outcome(), Some(&Outcome::Stopped));
    }

    #[test]
    fn the_timeout_counts_from_the_start_also_after_a_restart() {
        let timeout = SignedDuration::from_secs(10);
        assert_eq!(Run::remaining(at(100), timeout, at(104)), SignedDuration::from_secs(6));
        assert_eq!(Run::remaining(at(100), timeout, at(500)), SignedDuration::ZERO);
    }

    fn any_container() -> impl Strategy<Value = Container> {
        prop_oneof![
            Just(Container::Absent),
            Just(Container::Unstarted),
            Just(Container::Running),
            any_exit().prop_map(Container::Exited),
        ]
    }

    fn any_exit() -> impl Strategy<Value = Exit> {
        prop_oneof![
            (0..256).prop_map(|code| Exit::Code { code }),
            Just(Exit::OutOfMemory { code: 137 }),
            Just(Exit::Lost { full: false }),
        ]
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let error =
            Report { code: "E0405".into(), message: "no".into(), help: String::new(), causes: vec![] };
        prop_oneof![
            Just(Event::Admitted),
            Just(Event::Started { at: at(1), pid: 1 }),
            Just(Event::StartFailed { at: at(2), error: Box::new(error) }),
            any_exit().prop_map(exited),
            Just(Event::Stop { at: at(3) }),
            Just(Event::Deadline),
            Just(Event::GraceOver),
            any_container().prop_map(found),
        ]
    }

    proptest! {
        // I3
        #[test]
        fn a_run_has_at_most_one_outcome_and_keeps_it(events in proptest::collection::vec(any_event(), 0..30)) {
            let mut run = Run::accepted();
            let mut ends = 0;
            for event in events {
                let ended = run.is_ended();
                let before = run.clone();
                match run.on(event) {
                    Ok((after, effects)) => {
                        if ended {
                            prop_assert_eq!(&after, &before);
                            prop_assert!(effects.is_empty());
                        }
                        ends += u32::from(!ended && after.is_ended());
                        run = after;
                    }
                    Err(_) => run = before,
                }
            }
            prop_assert!(ends <= 1);
        }

        #[test]
        fn what_runs_is_never_started_again(events in proptest::collection::vec(any_event(), 0..30)) {
            let mut run = Run::accepted();
            let mut ran = false;
            for event in events {
                let before = run.clone();
                let Ok((after, effects)) = run.on(event) else { run = before; continue };
                ran |= after.started().is_some();
                prop_assert!(!ran || !effects.contains(&Effect::Start) && !effects.contains(&Effect::Enqueue));
                run = after;
            }
        }

        #[test]
        fn every_change_on_the_way_to_an_effect_outside_is_committed_first(
            events in proptest::collection::vec(any_event(), 0..30),
        ) {
            let mut run = Run::accepted();
            let mut on_disk = run.clone();
            for event in events {
                let before = run.clone();
                let Ok((after, effects)) = run.on(event) else { run = before; continue };
                for effect in &effects {
                    match effect {
                        Effect::Commit => on_disk = after.clone(),
                        Effect::Terminate | Effect::Kill => prop_assert_eq!(on_disk.ending, after.ending),
                        Effect::Release | Effect::Wait => prop_assert_eq!(&on_disk.phase, &after.phase),
                        _ => {}
                    }
                }
                run = after;
            }
        }

        #[test]
        fn a_run_is_read_as_it_was_written(events in proptest::collection::vec(any_event(), 0..10)) {
            let mut run = Run::accepted();
            for event in events {
                let before = run.clone();
                run = run.on(event).map_or(before, |(after, _)| after);
            }
            let text = serde_json::to_string(&run).unwrap();
            prop_assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
        }
    }
}
