//! How an instance stands, in the form that Durable Functions has for it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::{Kind, StackId, Urn};
use tandem_store::ReadError;

use super::{
    WorkflowError, Workflows, activities,
    record::{Record, Status},
    store::{self, InstanceKey},
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_events: Option<Vec<ToldEvent>>,
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
            history_events: None,
        }
    }
}

impl Workflows {
    /// How an instance stands, with its history if that is wanted.
    ///
    /// # Errors
    /// [`WorkflowError::NoInstance`] if there is none.
    pub fn status(&self, instance: &InstanceKey, history: bool) -> Result<InstanceStatus, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let record = store::record(&*snapshot, instance)?
            .ok_or_else(|| WorkflowError::NoInstance { id: instance.id.clone() })?;
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
        Ok(InstanceStatus { history_events: events, ..record.into() })
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
