//! An instance of a workflow, as a pure state machine over its history.
//!
//! A turn has two halves. [`begin`] makes events of what came in: those the orchestrator is told. [`end`] makes events and
//! open tasks of what it answers. What lies between, and the one commit after, is the driver's.
//!
//! Ids of tasks count up from 0 in the order in which tasks begin, as the orchestrator counts them for itself. A retry of
//! an activity takes two: one for the pause, one for the new attempt. The orchestrator counts those when it is told of the
//! failure, before it takes any other action; so of one turn's events those come first that only lead to a retry.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    action::{Action, State, What},
    entity::{self, Sent},
    history::{EventType, HistoryEvent},
    http_call,
    record::{Failure, Message, Open, Record, Retries, Retry, Status, Work},
};

/// The first half of a turn: what the orchestrator is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    pub(super) events: Vec<HistoryEvent>,
    at: Timestamp,
    next_task: u32,
    closed: BTreeSet<u32>,
    opened: BTreeMap<u32, Open>,
    events_awaited: BTreeMap<String, i64>,
    sent: Vec<Sent>,
}

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

/// Makes events of messages. What concerns no open task is dropped: it was told before. `None` if nothing is left.
pub(super) fn begin(
    record: &Record,
    open: &BTreeMap<u32, Open>,
    messages: impl IntoIterator<Item = Message>,
    now: Timestamp,
) -> Option<Turn> {
    let at = whole(now.max(record.updated));
    let mut turn = Turn {
        events: vec![HistoryEvent::new(EventType::OrchestratorStarted, at)],
        at,
        next_task: record.next_task,
        closed: BTreeSet::new(),
        opened: BTreeMap::new(),
        events_awaited: record.events_awaited.clone(),
        sent: Vec::new(),
    };
    let mut resuming = Vec::new();
    if record.turns == 0 {
        resuming.push(HistoryEvent {
            name: Some(record.workflow.name.to_string()),
            input: record.input.as_ref().map(Value::to_string),
            instance_id: Some(record.id.clone()),
            ..HistoryEvent::new(EventType::ExecutionStarted, at)
        });
    }
    for message in messages {
        let (task, outcome) = match message {
            Message::Done { execution, task, result } if execution == record.execution => {
                (task, Some(result))
            }
            Message::Fired { execution, task } if execution == record.execution => (task, None),
            Message::Raised { name, data } => {
                turn.awaits(name.clone(), -1);
                resuming.push(HistoryEvent {
                    name: Some(name),
                    input: Some(data.to_string()),
                    ..HistoryEvent::new(EventType::EventRaised, at)
                });
                continue;
            }
            _ => continue,
        };
        let Some(found) = open.get(&task).filter(|_| !turn.closed.contains(&task)) else { continue };
        match outcome {
            Some(result) if !matches!(found.work, Work::Timer { .. }) => {
                turn.closed.insert(task);
                turn.done(task, found, result, &mut resuming);
            }
            None if matches!(found.work, Work::Timer { .. }) => {
                turn.closed.insert(task);
                turn.fired(task, found, &mut resuming);
            }
            _ => {}
        }
    }
    turn.events.append(&mut resuming);
    (turn.events.len() > 1).then_some(turn)
}

/// In milliseconds, as orchestrators know time.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

impl Turn {
    fn done(
        &mut self,
        task: u32,
        open: &Open,
        result: Result<Value, Failure>,
        resuming: &mut Vec<HistoryEvent>,
    ) {
        if let Work::Entity { message, .. } = &open.work {
            return resuming.push(self.answered(task, message, result));
        }
        let child = matches!(open.work, Work::Child { .. });
        let event = |event_type| HistoryEvent {
            task_scheduled_id: Some(task),
            ..HistoryEvent::new(event_type, self.at)
        };
        let failure = match result {
            Ok(result) => {
                let kind = match child {
                    true => EventType::SubOrchestrationInstanceCompleted,
                    false => EventType::TaskCompleted,
                };
                return resuming.push(HistoryEvent { result: Some(result.to_string()), ..event(kind) });
            }
            Err(failure) => failure,
        };
        let kind = match child {
            true => EventType::SubOrchestrationInstanceFailed,
            false => EventType::TaskFailed,
        };
        let failed =
            HistoryEvent { reason: Some(failure.reason), details: Some(failure.details), ..event(kind) };
        let retry = open.retry.as_ref().filter(|retry| retry.options.goes_on(retry.began, self.at));
        let Some(retry) = retry else { return resuming.push(failed) };
        // The orchestrator waits after the last attempt, too, as that of Durable Functions does.
        let pause =
            SignedDuration::try_from(retry.options.pause(retry.attempt)).unwrap_or(SignedDuration::MAX);
        let fire_at = self.at.saturating_add(pause).unwrap_or(Timestamp::MAX);
        self.events.push(failed);
        let next = Retry { attempt: retry.attempt + 1, ..retry.clone() };
        let then = Some(Box::new(open.work.clone()));
        self.begin_timer(fire_at, Work::Timer { fire_at, then }, Some(next));
    }

    /// An entity has answered: by an event that has the message's name.
    fn answered(&self, task: u32, message: &str, result: Result<Value, Failure>) -> HistoryEvent {
        HistoryEvent {
            name: Some(message.to_owned()),
            input: Some(entity::response(result)),
            task_scheduled_id: Some(task),
            ..HistoryEvent::new(EventType::EventRaised, self.at)
        }
    }

    fn fired(&mut self, task: u32, open: &Open, resuming: &mut Vec<HistoryEvent>) {
        let fired = HistoryEvent {
            timer_id: Some(task),
            fire_at: match &open.work {
                Work::Timer { fire_at, .. } => Some(*fire_at),
                _ => None,
            },
            ..HistoryEvent::new(EventType::TimerFired, self.at)
        };
        let (Work::Timer { then: Some(again), .. }, Some(retry)) = (&open.work, &open.retry) else {
            return resuming.push(fired);
        };
        if retry.attempt > retry.options.most {
            return resuming.push(fired);
        }
        self.events.push(fired);
        let id = self.next();
        self.begin_work(id, (**again).clone(), Some(retry.clone()));
    }

    /// One wait more for an event, or one event more.
    fn awaits(&mut self, name: String, more: i64) {
        let of = self.events_awaited.entry(name.clone()).or_default();
        *of += more;
        if *of == 0 {
            self.events_awaited.remove(&name);
        }
    }

    fn next(&mut self) -> u32 {
        self.next_task += 1;
        self.next_task - 1
    }

    fn begin_timer(&mut self, fire_at: Timestamp, work: Work, retry: Option<Retry>) {
        let id = self.next();
        let created = HistoryEvent::begins(id, EventType::TimerCreated, self.at);
        self.events.push(HistoryEvent { fire_at: Some(fire_at), ..created });
        self.opened.insert(id, Open { work, scheduled: self.at, retry });
    }

    fn begin_work(&mut self, id: u32, work: Work, retry: Option<Retry>) {
        let text = |input: &Option<Value>| input.as_ref().map(Value::to_string);
        let (kind, name, input, instance_id) = match &work {
            Work::Activity { name, input } | Work::Run { name, input } => {
                (EventType::TaskScheduled, name.as_str(), text(input), None)
            }
            Work::Http { request, .. } => {
                (EventType::TaskScheduled, http_call::NAME, Some(request.to_string()), None)
            }
            Work::Child { name, instance, input } => {
                let created = EventType::SubOrchestrationInstanceCreated;
                (created, name.as_str(), text(input), Some(instance.clone()))
            }
            Work::Timer { .. } | Work::Entity { .. } => unreachable!("they begin no attempt"),
        };
        self.events.push(HistoryEvent {
            name: Some(name.to_owned()),
            input,
            instance_id,
            is_run: matches!(work, Work::Run { .. }),
            ..HistoryEvent::begins(id, kind, self.at)
        });
        self.opened.insert(id, Open { work, scheduled: self.at, retry });
    }

    /// A message to an entity leaves with the turn's commit.
    fn send(&mut self, execution: &str, sent: Sent) {
        let created = HistoryEvent::begins(sent.task, EventType::EventSent, self.at);
        self.events.push(HistoryEvent {
            name: Some(sent.operation.clone()),
            instance_id: Some(sent.to.clone()),
            input: Some(sent.recorded(execution)),
            ..created
        });
        if sent.waits {
            let work = sent.work(execution);
            self.opened.insert(sent.task, Open { work, scheduled: self.at, retry: None });
        }
        self.sent.push(sent);
    }

    /// What one action begins. Answers the input of the execution that follows this one, if it is the action that says so.
    fn take(
        &mut self,
        execution: &str,
        number: u32,
        action: Action,
    ) -> Result<Option<Option<Value>>, Diverged> {
        let begins = matches!(
            action.what,
            What::Activity { .. }
                | What::Child { .. }
                | What::Run { .. }
                | What::Http { .. }
                | What::Entity { .. }
                | What::Timer { .. }
        );
        if let Some(told) = action.id.filter(|told| begins && *told != self.next_task) {
            return Err(Diverged::Task { action: number, told, counted: self.next_task });
        }
        let began = self.at;
        let first = |retries: Option<Retries>| retries.map(|options| Retry { options, attempt: 1, began });
        match action.what {
            What::Activity { name, input, retries } => {
                let id = self.next();
                self.begin_work(id, Work::Activity { name, input }, first(retries));
            }
            What::Run { name, input, retries } => {
                let id = self.next();
                self.begin_work(id, Work::Run { name, input }, first(retries));
            }
            What::Http { request } => {
                let id = self.next();
                self.begin_work(id, Work::Http { request, poll: None }, None);
            }
            What::Entity { to, operation, input, waits } => {
                let task = self.next();
                self.send(execution, Sent { to, task, waits, operation, input });
            }
            What::Child { name, instance, input, retries } => {
                let id = self.next();
                let instance = instance.unwrap_or_else(|| format!("{execution}:{id:04x}"));
                self.begin_work(id, Work::Child { name, instance, input }, first(retries));
            }
            What::Timer { fire_at, canceled } => {
                self.begin_timer(fire_at, Work::Timer { fire_at, then: None }, None);
                if canceled {
                    self.opened.remove(&(self.next_task - 1));
                }
            }
            What::ContinueAsNew { input } => return Ok(Some(input)),
            What::WaitForEvent { name } => self.awaits(name, 1),
            What::Compound(_) => {}
        }
        Ok(None)
    }
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
    let mut closed = turn.closed.clone();
    for canceled in &state.canceled {
        // One that is opened in this very turn never comes to be.
        if turn.opened.remove(canceled).is_none() {
            closed.insert(*canceled);
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
                closed.insert(id);
            }
        } else if let Some(input) = turn.take(&record.execution, number, action)? {
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
        let (opened, sent) = (BTreeMap::new(), turn.sent);
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
    let Turn { events, opened, sent, .. } = turn;
    Ok(Turned { record: after, events, closed, opened, sent, renewed: false })
}

impl Turned {
    /// An instance that goes on with what it has open.
    /// `sent` goes to entities once more.
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
