//! How an instance stands, in the form that Durable Functions has for it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::{Kind, Report, StackId, Urn};
use tandem_store::{ReadError, Snapshot};

use super::{
    Shared, WorkflowError, Workflows, activities,
    effects::entity_of,
    entity::{LockedBy, locked_by},
    lock,
    provider::version_id,
    record::{Open, Record, Status, Work},
    store::{self, InstanceKey, Loaded},
    told::{ToldEvent, tell},
};

/// The status of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// The workflow's name.
    pub name: String,
    pub instance_id: String,
    pub runtime_status: Status,
    pub input: Value,
    pub custom_status: Value,
    pub output: Value,
    pub created_time: Timestamp,
    pub last_updated_time: Timestamp,
    /// The events that it waits for now. Our own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events_awaited: Vec<String>,
    /// Why what it waits for has not begun: its orchestrator or a function has no worker. Our own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_up: Vec<Report>,
    /// The lock on entities that it has asked for. Our own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockStatus>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_events: Option<Vec<ToldEvent>>,
}

/// A lock on entities that an instance waits for or holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockStatus {
    /// `@name@key`, in the order in which they are locked.
    pub entities: Vec<String>,
    pub requested_time: Timestamp,
    /// Absent while it waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
    /// Who has the entities now that it waits for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_by: BTreeMap<String, LockedBy>,
}

/// How many instances of a workflow stand how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowStatus {
    pub urn: Urn,
    /// Those that go on, or wait for something.
    pub open: usize,
    pub suspended: usize,
    pub completed: usize,
    pub failed: usize,
    pub terminated: usize,
}

impl From<Record> for InstanceStatus {
    fn from(record: Record) -> Self {
        Self {
            name: record.workflow.name.to_string(),
            instance_id: record.id,
            runtime_status: record.status,
            input: record.input.unwrap_or_default(),
            custom_status: record.custom_status.unwrap_or_default(),
            output: record.output.unwrap_or_default(),
            created_time: record.created,
            last_updated_time: record.updated,
            events_awaited: match record.status.ended() {
                true => Vec::new(),
                false => {
                    record.events_awaited.into_iter().filter(|(_, n)| *n > 0).map(|(name, _)| name).collect()
                }
            },
            held_up: Vec::new(),
            lock: None,
            history_events: None,
        }
    }
}

/// The lock among the open tasks of an instance.
fn lock_of<'a>(
    snapshot: &dyn Snapshot,
    instance: &InstanceKey,
    open: impl IntoIterator<Item = &'a Open>,
) -> Result<Option<LockStatus>, ReadError> {
    let found = open.into_iter().find_map(|open| match &open.work {
        Work::Lock { id, entities, since } => Some((open.scheduled, id, entities, *since)),
        _ => None,
    });
    let Some((requested_time, id, entities, held_since)) = found else { return Ok(None) };
    let mut held_by = BTreeMap::new();
    for entity in entities.iter().filter(|_| held_since.is_none()) {
        let by = locked_by(snapshot, &entity_of(instance, entity), Some(id))?;
        held_by.extend(by.map(|by| (entity.clone(), by)));
    }
    Ok(Some(LockStatus { entities: entities.clone(), requested_time, held_since, held_by }))
}

impl Workflows {
    /// How an instance stands, with its history if that is wanted.
    ///
    /// # Errors
    /// [`WorkflowError::NoInstance`] if there is none.
    pub fn status(&self, instance: &InstanceKey, history: bool) -> Result<InstanceStatus, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let Loaded { record, open } = store::load(&*snapshot, instance)?
            .ok_or_else(|| WorkflowError::NoInstance { id: instance.id.clone() })?;
        let lock = lock_of(&*snapshot, instance, open.values())?;
        let events = match history {
            true => {
                let turns = store::turns(&*snapshot, instance, &record.execution, 0)?;
                let turns = turns.map(|turn| turn.map(|(events, _)| events));
                let run = |name: &str, task: i64| {
                    let task_of = Urn::new(instance.stack.clone(), Kind::Task, name.parse().ok()?);
                    let key = activities::key(&record.execution, u32::try_from(task).ok()?);
                    Some(self.shared.host.run_of(&task_of, &key))
                };
                Some(tell(turns.collect::<Result<Vec<_>, ReadError>>()?.concat(), run))
            }
            false => None,
        };
        let held_up = self.shared.held_up(instance, &record, &open);
        Ok(InstanceStatus { held_up, lock, history_events: events, ..record.into() })
    }

    /// The instances of a stack, by their ids.
    ///
    /// # Errors
    /// [`WorkflowError`] if they cannot be read.
    pub fn list(&self, stack: &StackId) -> Result<Vec<InstanceStatus>, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let records = store::records(&*snapshot, &store::records_of(stack))?;
        Ok(records.map(|record| record.map(Into::into)).collect::<Result<_, ReadError>>()?)
    }

    /// How many instances stand how, for each workflow of a stack, or of all.
    ///
    /// # Errors
    /// [`WorkflowError`] if they cannot be read.
    pub fn counts(&self, stack: Option<&StackId>) -> Result<Vec<WorkflowStatus>, WorkflowError> {
        let none =
            |urn: Urn| WorkflowStatus { urn, open: 0, suspended: 0, completed: 0, failed: 0, terminated: 0 };
        let deployed = self.shared.resources.list(stack).into_iter().filter(|r| r.urn.kind == Kind::Workflow);
        let mut counts: BTreeMap<Urn, WorkflowStatus> =
            deployed.map(|r| (r.urn.clone(), none(r.urn.clone()))).collect();
        let snapshot = self.shared.store.snapshot()?;
        let prefix = stack.map_or_else(|| store::RECORDS.to_owned(), store::records_of);
        for record in store::records(&*snapshot, &prefix)? {
            let Record { workflow, status, .. } = record?;
            let of = counts.entry(workflow.clone()).or_insert_with(|| none(workflow));
            *match status {
                Status::Pending | Status::Running => &mut of.open,
                Status::Suspended => &mut of.suspended,
                Status::Completed => &mut of.completed,
                Status::Failed => &mut of.failed,
                Status::Terminated => &mut of.terminated,
            } += 1;
        }
        Ok(counts.into_values().collect())
    }

    /// Waits until an instance has ended.
    ///
    /// # Errors
    /// [`WorkflowError::NoInstance`] if there is none, or none any more; [`WorkflowError::Commit`] if the cloud closes.
    pub async fn wait(&self, instance: &InstanceKey) -> Result<InstanceStatus, WorkflowError> {
        let mut ended = self.shared.ended.subscribe();
        loop {
            let status = self.status(instance, false)?;
            if status.runtime_status.ended() {
                return Ok(status);
            }
            loop {
                let told = tokio::select! {
                    told = ended.recv() => told,
                    () = self.shared.closing.cancelled() => return Err(tandem_store::CommitError::Closed.into()),
                };
                match told {
                    Ok(other) if other != *instance => {}
                    // It was told faster than this could listen: look again.
                    Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => break,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                        return Err(tandem_store::CommitError::Closed.into());
                    }
                }
            }
        }
    }
}

impl Shared {
    /// Why what an instance waits for has not begun: nobody has room for it.
    fn held_up(&self, instance: &InstanceKey, record: &Record, open: &BTreeMap<u32, Open>) -> Vec<Report> {
        let mut why = Vec::new();
        // Who has no driver waits for no turn.
        if lock(&self.driven).contains_key(instance) {
            why.extend(self.turns.held_up(&version_id(&record.workflow, &record.version)));
        }
        let calling = lock(&self.calling);
        for task in open.keys() {
            let held = calling.get(&(instance.clone(), record.execution.clone(), *task)).cloned().flatten();
            why.extend(held.filter(|held| !why.contains(held)));
        }
        why
    }
}
