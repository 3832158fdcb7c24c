//! The first half of a turn, and what both halves make: events and open tasks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Diverged, lock::Held};
use crate::workflow::{
    action::{Action, What},
    entity::{self, Sent},
    history::{EventType, HistoryEvent},
    http_call,
    record::{Failure, Message, Open, Record, Retries, Retry, Work},
};

/// The first half of a turn: what the orchestrator is told.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::workflow) struct Turn {
    pub(in crate::workflow) events: Vec<HistoryEvent>,
    pub(super) at: Timestamp,
    pub(super) next_task: u32,
    pub(super) closed: BTreeSet<u32>,
    pub(super) opened: BTreeMap<u32, Open>,
    pub(super) events_awaited: BTreeMap<String, i64>,
    pub(super) sent: Vec<Sent>,
    /// The lock that is held.
    pub(super) lock: Option<Held>,
}

/// Makes events of messages. What concerns no open task is dropped: it was told before. `None` if nothing is left.
pub(in crate::workflow) fn begin(
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
        lock: open.iter().find_map(|(task, open)| Held::of(*task, &open.work)),
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
            Some(result) if matches!(found.work, Work::Lock { .. }) => {
                resuming.extend(turn.locked(task, found, result));
            }
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

    pub(super) fn next(&mut self) -> u32 {
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
            Work::Timer { .. } | Work::Entity { .. } | Work::Lock { .. } => {
                unreachable!("they begin no attempt")
            }
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
    pub(super) fn take(
        &mut self,
        execution: &str,
        attempt: &str,
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
                | What::Lock { .. }
                | What::Unlock { .. }
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
                let within = waits && self.lock.as_ref().is_some_and(|lock| lock.holds(&to));
                self.send(execution, Sent { to, task, waits, within, operation, input });
            }
            What::Lock { entities } => self.ask_for_lock(attempt, entities),
            What::Unlock { lock, entities } => self.release(lock, &entities),
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
