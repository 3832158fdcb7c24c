//! Locks: an instance has several entities to itself.
//!
//! The lock is the row of the instance's open task; each of its entities has a row that names that task. The request goes from
//! one entity to the next in the order of their names, so no two requests wait for each other. An entity that is free, and
//! whose turn it is, names the holder and hands the request on in one commit, whose precondition is that the task is open;
//! the last one tells the instance. As long as the task is open, the entity applies what its holder sends, which has an inbox
//! of its own; what others send waits in its place.
//!
//! The commit that closes the task, whatever for, gives all entities back at once. Those are woken, find that who they name
//! is gone, and go on.
//!
//! | killed | task | its entities | a restart |
//! |---|---|---|---|
//! | after the turn that asks for it | open | the request waits at the first one | that one takes the request |
//! | after the commit of an entity | open | name it up to this one, the request waits at the next | the next one takes it |
//! | after the commit of the last one | open | name it | the instance is told, and notes that it holds the lock |
//! | after the turn that notes it | open, held | name it | applies what the holder has sent |
//! | after the commit that closes it | gone | may name it | they find it gone, and forget it |
//! | an instance ended while it waited | gone | may name it, the request may wait | they forget it, and drop the request |

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_failpoint::hit;
use tandem_model::StackId;
use tandem_store::{Batch, CommitError, ReadError, Snapshot};

use super::{EntityKey, store};
use crate::workflow::{
    Shared, WorkflowError,
    core::Turned,
    effects::entity_of,
    record::{Failure, Open, Parent, Record, Work},
    store::{self as instances, InstanceKey, Loaded, json, parse},
};

/// Who has locked an entity: valid as long as that task is open, and this very request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Holder {
    pub(super) lock: String,
    #[serde(flatten)]
    pub(super) by: Parent,
}

/// A lock on its way through its entities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    #[serde(flatten)]
    of: Holder,
    /// `@name@key`, in the order in which they are locked.
    entities: Vec<String>,
    /// Which of them has it now.
    at: usize,
}

/// Whom an entity is locked by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LockedBy {
    pub instance_id: String,
    /// Since when the instance holds the lock; absent while it waits for others of its entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl Holder {
    fn instance(&self, stack: &StackId) -> InstanceKey {
        InstanceKey { stack: stack.clone(), id: self.by.instance.clone() }
    }

    fn row(&self, stack: &StackId) -> Bytes {
        instances::open_key(&self.instance(stack), &self.by.execution, self.by.task)
    }

    /// The row of the task, if that is still open and asks for this lock, or holds it; and since when it holds it.
    fn task(
        &self,
        snapshot: &dyn Snapshot,
        stack: &StackId,
    ) -> Result<Option<(Bytes, Option<Timestamp>)>, ReadError> {
        let Some(row) = snapshot.get(&self.row(stack))? else { return Ok(None) };
        Ok(match parse::<Open>(&row)?.work {
            Work::Lock { id, since, .. } if id == self.lock => Some((row, since)),
            _ => None,
        })
    }
}

/// Who has locked an entity as a row says, and whether that is so.
pub(super) struct Named {
    pub(super) holder: Holder,
    pub(super) stands: Option<LockedBy>,
}

pub(super) fn named(snapshot: &dyn Snapshot, entity: &EntityKey) -> Result<Option<Named>, ReadError> {
    let Some(row) = snapshot.get(&store::holder_key(entity))? else { return Ok(None) };
    let holder: Holder = parse(&row)?;
    let task = holder.task(snapshot, &entity.stack)?;
    let stands = task.map(|(_, since)| LockedBy { instance_id: holder.by.instance.clone(), since });
    Ok(Some(Named { holder, stands }))
}

/// Who has locked an entity; not of the lock that is called `but`.
pub(in crate::workflow) fn locked_by(
    snapshot: &dyn Snapshot,
    entity: &EntityKey,
    but: Option<&str>,
) -> Result<Option<LockedBy>, ReadError> {
    let named = named(snapshot, entity)?;
    Ok(named.filter(|named| Some(named.holder.lock.as_str()) != but).and_then(|named| named.stands))
}

/// The entities whose lock an instance holds or waits for.
pub(in crate::workflow) fn in_locks(instance: &InstanceKey, loaded: &Loaded) -> Vec<EntityKey> {
    loaded.open.values().flat_map(|open| entities_of(instance, &open.work)).collect()
}

fn entities_of(instance: &InstanceKey, work: &Work) -> Vec<EntityKey> {
    match work {
        Work::Lock { entities, .. } => entities.iter().map(|one| entity_of(instance, one)).collect(),
        _ => Vec::new(),
    }
}

impl Shared {
    /// Puts the requests for locks that begin into the inboxes of their first entities.
    pub(in crate::workflow) fn ask_for_locks(
        &self,
        batch: &mut Batch,
        instance: &InstanceKey,
        record: &Record,
        opened: &BTreeMap<u32, Open>,
    ) {
        for (task, open) in opened {
            let Work::Lock { id, entities, since: None } = &open.work else { continue };
            let by =
                Parent { instance: instance.id.clone(), execution: record.execution.clone(), task: *task };
            let of = Holder { lock: id.clone(), by };
            self.entities.pass_on(batch, &instance.stack, Request { of, entities: entities.clone(), at: 0 });
        }
    }

    /// Wakes the entities whose lock a turn has ended.
    pub(in crate::workflow) fn wake_unlocked(
        self: &Arc<Self>,
        instance: &InstanceKey,
        before: &Loaded,
        turned: &Turned,
    ) {
        let over = turned.record.status.ended() || turned.renewed;
        for (_, open) in before.open.iter().filter(|(task, _)| over || turned.closed.contains(task)) {
            entities_of(instance, &open.work).iter().for_each(|entity| self.wake_entity(entity));
        }
    }

    /// Locks an entity that is free, and hands the request on: the one commit that makes it so.
    pub(super) async fn lock_entity(
        self: &Arc<Self>,
        entity: &EntityKey,
        row: Bytes,
        mut request: Request,
    ) -> Result<(), WorkflowError> {
        let mut batch = Batch::default();
        batch.delete(row);
        let Some((task, _)) = request.of.task(&*self.store.snapshot()?, &entity.stack)? else {
            // Whoever asked for it has ended.
            return Ok(self.store.commit(batch).await?);
        };
        batch.expect(request.of.row(&entity.stack), Some(task));
        batch.put(store::holder_key(entity), json(&request.of));
        request.at += 1;
        let asks = request.of.instance(&entity.stack);
        let given = request.of.by.done(Ok(Value::String(request.of.lock.clone())));
        let next = self.entities.pass_on(&mut batch, &entity.stack, request);
        if next.is_none() {
            instances::tell(&mut batch, &asks, &given);
        }
        match self.store.commit(batch).await {
            // It has ended since: look again.
            Err(CommitError::Conflict { .. }) => return Ok(()),
            done => done?,
        }
        hit("entity.lock.committed");
        match next {
            Some(next) => self.wake_entity(&next),
            None => self.wake(&asks, None),
        }
        Ok(())
    }

    /// There is no such entity: whoever asked for the lock does not get it.
    pub(super) async fn refuse_lock(
        self: &Arc<Self>,
        entity: &EntityKey,
        row: Bytes,
        request: Request,
        failure: Failure,
    ) -> Result<(), WorkflowError> {
        let mut batch = Batch::default();
        batch.delete(row);
        let asks = request.of.instance(&entity.stack);
        instances::tell(&mut batch, &asks, &request.of.by.done(Err(failure)));
        self.store.commit(batch).await?;
        self.wake(&asks, None);
        Ok(())
    }

    /// Whoever had locked the entity is gone.
    pub(super) async fn forget_holder(&self, entity: &EntityKey) -> Result<(), WorkflowError> {
        let mut batch = Batch::default();
        batch.delete(store::holder_key(entity));
        Ok(self.store.commit(batch).await?)
    }
}

impl super::Entities {
    /// Puts a request into the inbox of the entity whose turn it is; `None` if all have had it.
    fn pass_on(&self, batch: &mut Batch, stack: &StackId, request: Request) -> Option<EntityKey> {
        let to = request.entities.get(request.at)?;
        let to = EntityKey::parse(stack, to).unwrap_or_else(|| EntityKey::new(stack.clone(), to, ""));
        self.request(batch, &to, &request);
        Some(to)
    }
}
