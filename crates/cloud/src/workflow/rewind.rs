//! Rewinding: an instance that failed goes on from before its last turn.
//!
//! The turn that fails leaves a row: what was open before it, and where the orchestrator's counters stood. One commit takes
//! that turn back: its events go, what it was told is told again, and what failed in it is open, so it is called again.
//! Sub-orchestrations that failed are rewound in the same commit. A restart before it finds the instance failed, as it was;
//! after it, an instance that goes on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_failpoint::hit;
use tandem_store::{Batch, Snapshot};
use uuid::Uuid;

use super::{
    Shared, Start, WorkflowError, Workflows, core,
    effects::result_for,
    entity::Sent,
    history::{EventType, HistoryEvent},
    record::{Message, Open, Record, Status, Work},
    store::{self, InstanceKey, Loaded},
};

/// How an instance stood before the turn in which it failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Before {
    open: BTreeMap<u32, Open>,
    next_task: u32,
    actions: u32,
    #[serde(default)]
    events_awaited: BTreeMap<String, i64>,
}

impl Before {
    pub(super) fn of(loaded: &Loaded) -> Self {
        let Loaded { record, open } = loaded;
        let events_awaited = record.events_awaited.clone();
        Self { open: open.clone(), next_task: record.next_task, actions: record.actions, events_awaited }
    }
}

/// What goes on once the rewinding is committed.
type Revived = Vec<(InstanceKey, core::Turned)>;

impl Workflows {
    /// Lets an instance that failed go on from before its last turn: what failed in it is called again.
    ///
    /// # Errors
    /// [`WorkflowError::NotFailed`] if it has not failed, [`WorkflowError::LockGone`] if it did within a critical section; then
    /// nothing changed.
    pub async fn rewind(&self, instance: &InstanceKey) -> Result<(), WorkflowError> {
        let (mut batch, mut revived) = (Batch::default(), Revived::new());
        {
            let snapshot = self.shared.store.snapshot()?;
            let record = self.known(instance)?;
            if record.status != Status::Failed {
                let status = format!("{:?}", record.status);
                return Err(WorkflowError::NotFailed { id: instance.id.clone(), status });
            }
            self.shared.revive(&*snapshot, &mut batch, instance, &mut revived)?;
        }
        let shared = self.shared.clone();
        // To its end, also if whoever asks goes away: what goes on must be followed.
        let seen_through = tokio::spawn(async move {
            shared.store.commit(batch).await?;
            hit("workflow.rewind.committed");
            for (key, turned) in revived {
                shared.follow(&key, &turned);
                shared.wake(&key, None);
            }
            Ok(())
        });
        seen_through.await.unwrap_or(Err(WorkflowError::Commit(tandem_store::CommitError::Closed)))
    }

    /// Starts an instance of the same workflow with the same input, under a new id or, if it has ended, the same one.
    ///
    /// # Errors
    /// [`WorkflowError`]; then nothing was started.
    pub async fn restart(
        &self,
        instance: &InstanceKey,
        new_id: bool,
        traceparent: Option<String>,
    ) -> Result<String, WorkflowError> {
        let record = self.known(instance)?;
        let id = (!new_id).then_some(record.id);
        self.start(Start { workflow: record.workflow, id, input: record.input, key: None, traceparent }).await
    }
}

impl Shared {
    fn revive(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        instance: &InstanceKey,
        revived: &mut Revived,
    ) -> Result<(), WorkflowError> {
        let (Some(failed), Some(mut before)) =
            (store::record(snapshot, instance)?, store::before_failure(snapshot, instance)?)
        else {
            return Err(WorkflowError::NoInstance { id: instance.id.clone() });
        };
        for open in before.open.values_mut() {
            match &mut open.work {
                Work::Lock { since: Some(_), .. } => {
                    return Err(WorkflowError::LockGone { id: instance.id.clone() });
                }
                // What is still on its way of the old request is of no use to the new one.
                Work::Lock { id, .. } => *id = Uuid::now_v7().simple().to_string(),
                _ => {}
            }
        }
        let last = failed.turns.saturating_sub(1);
        let events = store::turns(snapshot, instance, &failed.execution, last)?.next().transpose()?;
        let events = events.map(|(events, _)| events).unwrap_or_default();
        let record = Record {
            status: if last == 0 { Status::Pending } else { Status::Running },
            updated: Timestamp::now().max(failed.updated),
            output: None,
            next_task: before.next_task,
            actions: before.actions,
            turns: last,
            turn: None,
            events_awaited: before.events_awaited.clone(),
            ..failed.clone()
        };
        store::rewind(batch, instance, &failed, &record, &before.open);
        for message in again(&record, &events) {
            store::tell(batch, instance, &message);
        }
        for (task, open) in &before.open {
            let answered = events.iter().any(|event| {
                event.event_type == EventType::SubOrchestrationInstanceCompleted
                    && event.task_scheduled_id == Some(*task)
            });
            if !answered {
                self.revive_child(snapshot, batch, instance, &record, (*task, open), revived)?;
            }
        }
        // Whoever did not wait any more was not told what an entity answered: it is asked again.
        let answered: BTreeSet<u32> =
            events.iter().filter_map(|event| entity_answer(event).map(|(task, _)| task)).collect();
        let asked = before.open.iter().filter(|(task, _)| !answered.contains(task));
        let sent: Vec<_> = asked.filter_map(|(task, open)| Sent::of(*task, &open.work)).collect();
        self.send_to_entities(batch, instance, &record, &sent);
        self.ask_for_locks(batch, instance, &record, &before.open);
        revived.push((instance.clone(), core::Turned::going_on(record, before.open, sent)));
        Ok(())
    }

    /// A sub-orchestration that failed is rewound; one that ended otherwise while nobody listened is told of.
    fn revive_child(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        instance: &InstanceKey,
        record: &Record,
        (task, open): (u32, &Open),
        revived: &mut Revived,
    ) -> Result<(), WorkflowError> {
        let Work::Child { instance: id, .. } = &open.work else { return Ok(()) };
        let key = InstanceKey { stack: instance.stack.clone(), id: id.clone() };
        let child = store::record(snapshot, &key)?;
        let ours = child.as_ref().and_then(|child| child.parent.as_ref()).filter(|parent| {
            (&parent.instance, &parent.execution, parent.task) == (&record.id, &record.execution, task)
        });
        match (&child, ours) {
            (Some(child), Some(_)) if child.status == Status::Failed => {
                self.revive(snapshot, batch, &key, revived)?;
            }
            (Some(child), Some(parent)) if child.status.ended() => {
                store::tell(batch, instance, &result_for(parent, child));
            }
            (Some(_), Some(_)) => {}
            _ => self.begin_child(snapshot, batch, instance, record, task, open)?,
        }
        Ok(())
    }
}

/// What the turn was told that stays true: results and events. Timers are due again, and what failed is called again.
fn again<'a>(record: &'a Record, events: &'a [HistoryEvent]) -> impl Iterator<Item = Message> + 'a {
    let json = |text: &Option<String>| {
        text.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let started = (record.turns == 0).then_some(Message::Started);
    started.into_iter().chain(events.iter().filter_map(move |event| match event.event_type {
        EventType::TaskCompleted | EventType::SubOrchestrationInstanceCompleted => Some(Message::Done {
            execution: record.execution.clone(),
            task: event.task_scheduled_id?,
            result: Ok(json(&event.result)),
        }),
        EventType::EventRaised if event.task_scheduled_id.is_some() => {
            let (task, result) = entity_answer(event)?;
            Some(Message::Done { execution: record.execution.clone(), task, result: Ok(result) })
        }
        EventType::EventRaised => {
            Some(Message::Raised { name: event.name.clone()?, data: json(&event.input) })
        }
        _ => None,
    }))
}

/// What an entity answered to which task, if the operation did not fail.
fn entity_answer(event: &HistoryEvent) -> Option<(u32, Value)> {
    let task = event.task_scheduled_id.filter(|_| event.event_type == EventType::EventRaised)?;
    let response: Value = serde_json::from_str(event.input.as_deref()?).ok()?;
    let failed = response.get("exceptionType").is_some();
    let result = serde_json::from_str(response["result"].as_str()?).ok()?;
    (!failed).then_some((task, result))
}
