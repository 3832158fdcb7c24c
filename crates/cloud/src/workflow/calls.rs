//! What people, programs and clients ask of instances.

use jiff::Timestamp;
use serde_json::Value;
use tandem_failpoint::hit;
use tandem_model::Urn;
use tandem_store::{Batch, CommitError};
use uuid::Uuid;

use super::{
    WorkflowError, Workflows,
    core::LARGEST,
    record::{Message, Record, Status},
    store::{self, InstanceKey},
};
use crate::cause::{self, DEEPEST};

/// The longest id of an instance.
const LONGEST_ID: usize = 100;
/// The longest name of an event, in bytes.
const LONGEST_NAME: usize = 256;

/// A new instance.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    pub workflow: Urn,
    /// Chosen by the cloud if absent.
    pub id: Option<String>,
    pub input: Option<Value>,
    /// A start that was asked for with the same key finds the instance of the first one.
    pub key: Option<String>,
    pub traceparent: Option<String>,
}

/// An instance that has taken no turn.
pub(super) fn fresh(
    workflow: Urn,
    id: String,
    version: String,
    input: Option<Value>,
    now: Timestamp,
) -> Record {
    Record {
        workflow,
        id,
        version,
        execution: Uuid::now_v7().simple().to_string(),
        status: Status::Pending,
        created: now,
        updated: now,
        input,
        output: None,
        custom_status: None,
        parent: None,
        next_task: 0,
        actions: 0,
        turns: 0,
        turn: None,
        traceparent: None,
        events_awaited: std::collections::BTreeMap::new(),
        started_by: None,
    }
}

/// Writes a new instance in the place of one that has ended, if there was one.
pub(super) fn put_new(batch: &mut Batch, key: &InstanceKey, existing: Option<&Record>, record: &Record) {
    if let Some(existing) = existing {
        store::forget_history(batch, key, existing);
    }
    batch.expect(store::record_key(key), existing.map(store::json));
    batch.put(store::record_key(key), store::json(record));
    store::tell(batch, key, &Message::Started);
}

impl Workflows {
    /// Starts an instance. When this returns, it is on disk, and will end.
    ///
    /// # Errors
    /// [`WorkflowError`]; then nothing was started.
    pub async fn start(&self, start: Start) -> Result<String, WorkflowError> {
        let Start { workflow, id, input, key, traceparent } = start;
        let version =
            self.shared.current(&workflow).ok_or_else(|| WorkflowError::NoWorkflow(workflow.clone()))?;
        if let Some(bytes) = input.as_ref().map(|input| input.to_string().len()).filter(|n| *n > LARGEST) {
            return Err(WorkflowError::TooLarge { what: "input".to_owned(), bytes });
        }
        if cause::depth(traceparent.as_deref()) >= DEEPEST {
            return Err(WorkflowError::TooDeep(workflow));
        }
        let id = match (id, &key) {
            (Some(id), _) => checked(id)?,
            (None, Some(key)) => crate::archive::hash(key.as_bytes())["sha256:".len()..][..32].to_owned(),
            (None, None) => Uuid::now_v7().simple().to_string(),
        };
        let instance = InstanceKey { stack: workflow.stack.clone(), id: id.clone() };
        loop {
            let existing = store::record(&*self.shared.store.snapshot()?, &instance)?;
            if let Some(existing) = &existing {
                if key.is_some() && existing.started_by == key {
                    return Ok(id);
                }
                if !existing.status.ended() {
                    return Err(WorkflowError::InUse { id });
                }
            }
            let begun = fresh(workflow.clone(), id.clone(), version.clone(), input.clone(), Timestamp::now());
            let begun = Record { started_by: key.clone(), traceparent: traceparent.clone(), ..begun };
            let mut batch = Batch::default();
            put_new(&mut batch, &instance, existing.as_ref(), &begun);
            match self.commit_and_wake(batch, &instance).await {
                Err(WorkflowError::Commit(CommitError::Conflict { .. })) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(id),
            }
        }
    }

    /// Raises an event for an instance, which may wait for it already or later.
    ///
    /// # Errors
    /// [`WorkflowError`] if there is no such instance, or it has ended.
    pub async fn raise(&self, instance: &InstanceKey, name: &str, data: Value) -> Result<(), WorkflowError> {
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(WorkflowError::InvalidEvent { bytes: name.len() });
        }
        let bytes = data.to_string().len();
        if bytes > LARGEST {
            return Err(WorkflowError::TooLarge { what: format!("event `{name}`"), bytes });
        }
        self.tell(instance, Message::Raised { name: name.to_owned(), data }).await
    }

    /// Ends an instance. What it has begun goes on, and is recorded nowhere.
    ///
    /// # Errors
    /// As [`raise`](Self::raise).
    pub async fn terminate(&self, instance: &InstanceKey, reason: String) -> Result<(), WorkflowError> {
        self.tell(instance, Message::Terminate { reason }).await
    }

    /// Lets an instance take no further turn. What it waits for goes on, and is kept.
    ///
    /// # Errors
    /// As [`raise`](Self::raise).
    pub async fn suspend(&self, instance: &InstanceKey) -> Result<(), WorkflowError> {
        self.tell(instance, Message::Suspend).await
    }

    /// Lets a suspended instance go on.
    ///
    /// # Errors
    /// As [`raise`](Self::raise).
    pub async fn resume(&self, instance: &InstanceKey) -> Result<(), WorkflowError> {
        self.tell(instance, Message::Resume).await
    }

    /// Deletes an instance that has ended, with its history.
    ///
    /// # Errors
    /// [`WorkflowError::NotEnded`] if it has not.
    pub async fn purge(&self, instance: &InstanceKey) -> Result<(), WorkflowError> {
        let record = self.known(instance)?;
        if !record.status.ended() {
            return Err(WorkflowError::NotEnded {
                id: instance.id.clone(),
                status: format!("{:?}", record.status),
            });
        }
        let mut batch = Batch::default();
        {
            let snapshot = self.shared.store.snapshot()?;
            let gone = || WorkflowError::NoInstance { id: instance.id.clone() };
            let loaded =
                store::load(&*snapshot, instance)?.filter(|now| now.record == record).ok_or_else(gone)?;
            store::erase(&mut batch, &*snapshot, instance, &loaded)?;
        }
        Ok(self.shared.store.commit(batch).await?)
    }

    pub(super) fn known(&self, instance: &InstanceKey) -> Result<Record, WorkflowError> {
        let found = store::record(&*self.shared.store.snapshot()?, instance)?;
        found.ok_or_else(|| WorkflowError::NoInstance { id: instance.id.clone() })
    }

    async fn tell(&self, instance: &InstanceKey, message: Message) -> Result<(), WorkflowError> {
        let record = self.known(instance)?;
        if record.status.ended() {
            let status = format!("{:?}", record.status);
            return Err(WorkflowError::Ended { id: instance.id.clone(), status });
        }
        let mut batch = Batch::default();
        store::tell(&mut batch, instance, &message);
        self.commit_and_wake(batch, instance).await
    }

    /// To its end, also if whoever asks goes away: what is on disk must not wait for the next start.
    async fn commit_and_wake(&self, batch: Batch, instance: &InstanceKey) -> Result<(), WorkflowError> {
        let (shared, instance) = (self.shared.clone(), instance.clone());
        let seen_through = tokio::spawn(async move {
            shared.store.commit(batch).await?;
            hit("workflow.message.committed");
            shared.wake(&instance, None);
            Ok(())
        });
        seen_through.await.unwrap_or(Err(WorkflowError::Commit(CommitError::Closed)))
    }
}

fn checked(id: String) -> Result<String, WorkflowError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    let reason = match &id {
        id if id.is_empty() => "it is empty",
        // A path has no segments of these names.
        id if id == "." || id == ".." => "it is nothing but dots",
        id if id.len() > LONGEST_ID => "it is longer than 100 characters",
        id if !id.chars().all(fits) => {
            "it has other characters than the letters a to z, digits, `-`, `_`, `.`, `:` and `@`"
        }
        _ => return Ok(id),
    };
    Err(WorkflowError::InvalidId { id, reason })
}
