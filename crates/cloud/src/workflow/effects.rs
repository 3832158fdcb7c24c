//! The commit of a turn, and what follows from it.

use std::sync::Arc;

use bytes::Bytes;
use tandem_failpoint::hit;
use tandem_model::{Explain, Kind, Urn};
use tandem_store::{Batch, Snapshot};

use super::{
    Shared, WorkflowError, calls,
    core::Turned,
    entity::{EntityKey, Sent},
    provider::version_of,
    record::{Failure, Message, Open, Parent, Record, Status, Work},
    store::{self, InstanceKey, Loaded},
};
use crate::cause::{self, DEEPEST};

impl Shared {
    /// Makes a turn true, with the instances that begin with it and what its parent is told.
    pub(super) async fn commit(
        self: &Arc<Self>,
        instance: &InstanceKey,
        before: &Loaded,
        turned: &Turned,
        told: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), WorkflowError> {
        let mut batch = Batch::default();
        store::commit(&mut batch, instance, before, turned, told);
        let snapshot = self.store.snapshot()?;
        for (task, open) in &turned.opened {
            self.begin_child(&*snapshot, &mut batch, instance, &turned.record, *task, open)?;
        }
        self.send_to_entities(&mut batch, instance, &before.record, &turned.sent);
        self.ask_for_locks(&mut batch, instance, &turned.record, &turned.opened);
        if let (true, Some(parent)) = (turned.record.status.ended(), &turned.record.parent) {
            let to = InstanceKey { stack: instance.stack.clone(), id: parent.instance.clone() };
            store::tell(&mut batch, &to, &result_for(parent, &turned.record));
        }
        drop(snapshot);
        // To its end: what it began must be followed.
        self.store.commit(batch).await?;
        hit("workflow.turn.committed");
        self.wake_unlocked(instance, before, turned);
        Ok(())
    }

    pub(super) fn begin_child(
        &self,
        snapshot: &dyn Snapshot,
        batch: &mut Batch,
        instance: &InstanceKey,
        record: &Record,
        task: u32,
        open: &Open,
    ) -> Result<(), WorkflowError> {
        let Work::Child { name, instance: id, input } = &open.work else { return Ok(()) };
        let key = InstanceKey { stack: instance.stack.clone(), id: id.clone() };
        let parent = Parent { instance: instance.id.clone(), execution: record.execution.clone(), task };
        let failed = |reason: String| parent.done(Err(Failure { reason, details: String::new() }));
        let workflow = Urn::new(
            instance.stack.clone(),
            Kind::Workflow,
            match name.parse() {
                Ok(name) => name,
                Err(_) => {
                    store::tell(batch, instance, &failed(format!("`{name}` is no name of a workflow")));
                    return Ok(());
                }
            },
        );
        let Some(version) = self.current(&workflow) else {
            store::tell(batch, instance, &failed(format!("there is no workflow `{name}`")));
            return Ok(());
        };
        let existing = store::record(snapshot, &key)?;
        // The same turn may have begun one of that id.
        if batch.preconditions.iter().any(|one| one.key == store::record_key(&key)) {
            store::tell(batch, instance, &failed(format!("the instance `{id}` exists already")));
            return Ok(());
        }
        if existing.as_ref().is_some_and(|record| !record.status.ended()) {
            store::tell(batch, instance, &failed(format!("the instance `{id}` exists already")));
            return Ok(());
        }
        if cause::depth(record.traceparent.as_deref()) >= DEEPEST - 1 {
            let error = WorkflowError::TooDeep(workflow);
            store::tell(batch, instance, &failed(format!("{}: {error}", error.code())));
            return Ok(());
        }
        let begun = calls::fresh(workflow, id.clone(), version, input.clone(), record.updated);
        let traceparent = Some(record.cause());
        let begun = Record { parent: Some(parent), traceparent, ..begun };
        calls::put_new(batch, &key, existing.as_ref(), &begun);
        Ok(())
    }

    /// Puts what an instance sends into the inboxes of entities. One that no entity can be is refused as one that is not there.
    pub(super) fn send_to_entities(
        &self,
        batch: &mut Batch,
        instance: &InstanceKey,
        record: &Record,
        sent: &[Sent],
    ) {
        let cause = cause::of_run(record.traceparent.as_deref(), &record.execution);
        for one in sent {
            let operation = one.operation(&instance.id, &record.execution, Some(cause.clone()));
            self.entities.send(batch, &entity_of(instance, &one.to), &operation, one.within);
        }
    }

    /// Does what a committed turn began.
    pub(super) fn follow(self: &Arc<Self>, instance: &InstanceKey, turned: &Turned) {
        let record = &turned.record;
        for (task, open) in &turned.opened {
            match &open.work {
                Work::Activity { .. } | Work::Run { .. } | Work::Http { .. } => {
                    self.call(instance, &record.execution, *task)
                }
                // Its message wakes it, below.
                Work::Entity { .. } => {}
                Work::Lock { entities, since: None, .. } => {
                    entities.iter().take(1).for_each(|first| self.wake_entity(&entity_of(instance, first)));
                }
                Work::Lock { .. } => {}
                Work::Timer { fire_at, .. } => self.arm(*fire_at, instance, &record.execution, *task),
                Work::Child { instance: id, .. } => {
                    let child = InstanceKey { stack: instance.stack.clone(), id: id.clone() };
                    self.wake(&child, None);
                    // It may have been refused; then that is in this instance's inbox.
                    self.wake(instance, None);
                }
            }
        }
        for sent in &turned.sent {
            self.wake_entity(&entity_of(instance, &sent.to));
        }
        if record.status.ended() {
            if let Some(parent) = &record.parent {
                let parent = InstanceKey { stack: instance.stack.clone(), id: parent.instance.clone() };
                self.wake(&parent, None);
            }
            let _ = self.ended.send(instance.clone());
        }
    }

    /// The version that a workflow's new instances begin with.
    pub(super) fn current(&self, workflow: &Urn) -> Option<String> {
        let recorded = self.resources.by_urn(workflow)?;
        Some(version_of(&recorded.inputs))
    }
}

pub(super) fn entity_of(instance: &InstanceKey, id: &str) -> EntityKey {
    EntityKey::parse(&instance.stack, id).unwrap_or_else(|| EntityKey::new(instance.stack.clone(), id, ""))
}

/// What a parent is told of an instance that ended.
pub(super) fn result_for(parent: &Parent, record: &Record) -> Message {
    let output = record.output.clone().unwrap_or_default();
    let result = match record.status {
        Status::Completed => Ok(output),
        _ => {
            let reason = output.as_str().map_or_else(|| output.to_string(), str::to_owned);
            Err(Failure { reason, details: String::new() })
        }
    };
    parent.done(result)
}
