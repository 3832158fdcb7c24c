//! An instance of a workflow, as a pure state machine over its history.
//!
//! A turn has two halves. [`begin`] makes events of what came in: those the orchestrator is told. [`end`] makes events and
//! open tasks of what it answers. What lies between, and the one commit after, is the driver's.
//!
//! Ids of tasks count up from 0 in the order in which tasks begin, as the orchestrator counts them for itself. A retry of
//! an activity takes two: one for the pause, one for the new attempt. The orchestrator counts those when it is told of the
//! failure, before it takes any other action; so of one turn's events those come first that only lead to a retry.

mod lock;
mod turn;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

pub(super) use self::turn::{Turn, begin};
use super::{
    action::{Action, State, What},
    entity::Sent,
    history::{EventType, HistoryEvent},
    record::{Open, Record, Status},
};

/// A whole turn: what its commit makes true.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turned {
    pub(super) record: Record,
    /// All events of the turn. Of an execution that goes on as a new one, none.
    pub(super) events: Vec<HistoryEvent>,
    /// Tasks that were open before, and are no more.
    pub(super) closed: BTreeSet<u32>,
    pub(super) opened: BTreeMap<u32, Open>,
    /// What goes to entities, in this order.
    pub(super) sent: Vec<Sent>,
    /// The instance begins anew: its history and all open tasks of the old execution go.
    pub(super) renewed: bool,
}

/// The longest output and custom status, as JSON.
pub(super) const LARGEST: usize = 1 << 20;

/// An orchestrator whose answer cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Diverged {
    #[error(
        "E0861: the orchestrator does not do what it did before: it took {now} actions where it had taken {before}"
    )]
    Fewer { before: u32, now: u32 },
    #[error(
        "E0861: the orchestrator does not do what it did before: its action number {action} begins task {told}, \
         where task {counted} is next"
    )]
    Task { action: u32, told: u32, counted: u32 },
    #[error(
        "E0874: its {what} is {bytes} bytes long, and 1 MiB is the most; put it into a bucket, and return its key"
    )]
    TooLarge { what: &'static str, bytes: usize },
}

fn fits(what: &'static str, value: Option<&Value>) -> Result<(), Diverged> {
    let bytes = value.map_or(0, |value| value.to_string().len());
    if bytes > LARGEST { Err(Diverged::TooLarge { what, bytes }) } else { Ok(()) }
}

/// Makes events and open tasks of what the orchestrator answered to `turn`. `attempt` names this attempt at it.
///
/// # Errors
/// [`Diverged`] if these are not the actions that were recorded, or what it says does not fit.
pub(super) fn end(record: &Record, mut turn: Turn, state: State, attempt: &str) -> Result<Turned, Diverged> {
    let mut after = Record { updated: turn.at, status: Status::Running, ..record.clone() };
    after.custom_status = state.custom_status.clone().or(after.custom_status);
    let (is_done, output, error) = (state.is_done, state.output.clone(), state.error.clone());
    fits("output", output.as_ref())?;
    fits("custom status", state.custom_status.as_ref())?;
    let frames = state.frames();
    for canceled in &state.canceled {
        // One that is opened in this very turn never comes to be.
        if turn.opened.remove(canceled).is_none() {
            turn.closed.insert(*canceled);
        }
    }
    let from = state.from;
    let actions = state.actions();
    let now = from + u32::try_from(actions.len()).unwrap_or(u32::MAX);
    // One that failed may have seen by itself that it goes another way.
    if now < record.actions && error.is_none() {
        return Err(Diverged::Fewer { before: record.actions, now });
    }
    let mut renewed = None;
    for (number, action) in (from..).zip(actions) {
        if number < record.actions {
            // It was taken before; but its timer may be cancelled since.
            if let Action { id: Some(id), what: What::Timer { canceled: true, .. } } = action {
                turn.closed.insert(id);
            }
        } else if let Some(input) = turn.take(&record.execution, attempt, number, action)? {
            renewed = Some(input);
        }
    }
    if let Some(input) = renewed.filter(|_| error.is_none()) {
        let fresh = Record {
            execution: attempt.to_owned(),
            status: Status::Pending,
            input,
            next_task: 0,
            actions: 0,
            turns: 0,
            turn: None,
            events_awaited: BTreeMap::new(),
            ..after
        };
        let (opened, Turn { closed, sent, .. }) = (BTreeMap::new(), turn);
        return Ok(Turned { record: fresh, events: vec![], closed, opened, sent, renewed: true });
    }
    turn.events.push(HistoryEvent::new(EventType::OrchestratorCompleted, turn.at));
    if is_done || error.is_some() {
        let event = HistoryEvent::new(EventType::ExecutionCompleted, turn.at);
        match error {
            Some(error) => {
                after.status = Status::Failed;
                after.output = Some(Value::String(error.clone()));
                turn.events.push(HistoryEvent { reason: Some(error), details: frames, ..event });
            }
            None => {
                after.status = Status::Completed;
                turn.events.push(HistoryEvent { result: output.as_ref().map(Value::to_string), ..event });
                after.output = output;
            }
        }
        // Nobody waits for what is still open.
        turn.opened.clear();
    }
    after.next_task = turn.next_task;
    after.events_awaited = turn.events_awaited;
    after.actions = now;
    after.turns += 1;
    after.turn = Some(attempt.to_owned());
    let Turn { events, closed, opened, sent, .. } = turn;
    Ok(Turned { record: after, events, closed, opened, sent, renewed: false })
}

impl Turned {
    /// An instance that goes on with what it has open. `sent` goes to entities once more.
    pub(super) fn going_on(record: Record, opened: BTreeMap<u32, Open>, sent: Vec<Sent>) -> Self {
        Self { record, events: vec![], closed: BTreeSet::new(), opened, sent, renewed: false }
    }
}

/// The instance ends without its orchestrator: it is terminated, or cannot go on. `told` is what it was told last.
pub(super) fn stop(
    record: &Record,
    status: Status,
    reason: &str,
    told: Vec<HistoryEvent>,
    now: Timestamp,
) -> Turned {
    let at = now.max(record.updated);
    let kind = match status {
        Status::Terminated => EventType::ExecutionTerminated,
        _ => EventType::ExecutionCompleted,
    };
    let mut events = told;
    events.push(HistoryEvent { reason: Some(reason.to_owned()), ..HistoryEvent::new(kind, at) });
    let record = Record {
        status,
        updated: at,
        output: Some(Value::String(reason.to_owned())),
        turns: record.turns + 1,
        turn: None,
        ..record.clone()
    };
    let (closed, opened) = (BTreeSet::new(), BTreeMap::new());
    Turned { record, events, closed, opened, sent: vec![], renewed: false }
}
