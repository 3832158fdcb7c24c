//! The driver of an entity: hands batches over while there are operations, and makes them true.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_model::{Kind, Urn};
use tandem_store::Batch;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    EntityKey, Operation,
    batch::{Applied, Signal},
    locks,
    store::{self, Next, State, Waiting},
};
use crate::{
    cause,
    workflow::{
        Shared, WorkflowError, lock,
        record::{Failure, Message},
        store::{self as instances, InstanceKey, json},
    },
};

/// How many operations one batch has, and of which size; one alone may be larger.
const OPERATIONS: usize = 100;
const SIZE: usize = 1 << 20;
/// How often an operation is tried whose worker was lost.
pub(super) const ATTEMPTS: u32 = 3;
/// How long an entity is left alone whose workers are busy.
pub(super) const BUSY: Duration = Duration::from_millis(100);
/// How long an entity is left alone whose batch could not be recorded.
const AFTER_ERROR: Duration = Duration::from_secs(1);

impl Shared {
    /// Lets an entity be driven: it may have something to apply.
    pub(in crate::workflow) fn wake_entity(self: &Arc<Self>, entity: &EntityKey) {
        let mut driven = lock(&self.entities.driven);
        if let Some(woken) = driven.get_mut(entity) {
            *woken = true;
            return;
        }
        if self.closing.is_cancelled() {
            return;
        }
        driven.insert(entity.clone(), false);
        let (shared, entity) = (self.clone(), entity.clone());
        self.working.spawn(async move { shared.drive_entity(&entity).await });
    }

    async fn drive_entity(self: Arc<Self>, entity: &EntityKey) {
        // How many of those that wait are applied one by one.
        let mut alone = 0;
        loop {
            match self.step_of(entity, &mut alone).await {
                Ok(true) => {}
                Ok(false) => {
                    let mut driven = lock(&self.entities.driven);
                    match driven.get_mut(entity) {
                        Some(woken) if *woken && !self.closing.is_cancelled() => *woken = false,
                        _ => {
                            driven.remove(entity);
                            return;
                        }
                    }
                }
                Err(error) => {
                    if !self.closing.is_cancelled() {
                        tracing::error!(%entity, %error, "a batch of an entity cannot be recorded; trying again");
                    }
                    tokio::select! {
                        () = sleep(AFTER_ERROR) => {}
                        () = self.closing.cancelled() => {}
                    }
                }
            }
            if self.closing.is_cancelled() {
                lock(&self.entities.driven).remove(entity);
                return;
            }
        }
    }

    /// Applies what waits; whether there may be more.
    async fn step_of(self: &Arc<Self>, entity: &EntityKey, alone: &mut usize) -> Result<bool, WorkflowError> {
        let (before, named, next) = {
            let snapshot = self.store.snapshot()?;
            let named = locks::named(&*snapshot, entity)?;
            let locked = named.as_ref().is_some_and(|named| named.stands.is_some());
            let next = store::next(&*snapshot, entity, locked, OPERATIONS, SIZE)?;
            (store::state(&*snapshot, entity)?, named, next)
        };
        let function = self.function_of(entity);
        let mut waiting = match (next, &function) {
            (Next::Nothing, _) => {
                if named.is_some_and(|named| named.stands.is_none()) {
                    self.forget_holder(entity).await?;
                }
                return Ok(false);
            }
            (Next::Lock(row, request), Some(_)) => {
                self.lock_entity(entity, row, request).await?;
                return Ok(true);
            }
            (Next::Lock(row, request), None) => {
                self.refuse_lock(entity, row, request, no_entity(entity)).await?;
                return Ok(true);
            }
            (Next::Apply(waiting), _) => waiting,
        };
        let Some(function) = function else {
            self.refuse(entity, waiting).await?;
            return Ok(true);
        };
        if *alone > 0 {
            waiting.truncate(1);
            *alone -= 1;
        }
        let state = before.as_ref().map(|(state, _)| state);
        let batch: Vec<_> = waiting.iter().map(|(_, operation)| operation).collect();
        let applied = match self.apply(&function, entity, state, &batch).await {
            None => return Ok(false),
            Some(Ok(applied)) => applied,
            Some(Err(failure)) => {
                tracing::warn!(%entity, reason = failure.reason, "a batch of an entity failed; its operations are applied one by one");
                *alone = waiting.len();
                return Ok(true);
            }
        };
        hit("entity.batch.answered");
        self.record(entity, before, waiting, applied).await?;
        Ok(true)
    }

    /// The one commit that makes a batch true.
    async fn record(
        self: &Arc<Self>,
        entity: &EntityKey,
        before: Option<(State, bytes::Bytes)>,
        waiting: Vec<Waiting>,
        applied: Applied,
    ) -> Result<(), WorkflowError> {
        let Applied { exists, state, results, signals } = applied;
        let (known, row) = before.unzip();
        let mut batch = Batch::default();
        let key = store::state_key(entity);
        batch.expect(key.clone(), row);
        if exists {
            let operations = known.map_or(0, |known| known.operations) + waiting.len() as u64;
            batch.put(key, json(&State { state, updated: Timestamp::now(), operations }));
        } else {
            batch.delete(key);
        }
        let traceparent =
            waiting.first().map(|(_, first)| cause::of_run(first.traceparent.as_deref(), &first.id));
        let answered: Vec<_> = waiting
            .into_iter()
            .zip(results)
            .filter_map(|((row, operation), result)| {
                batch.delete(row);
                answer(&mut batch, entity, operation, result)
            })
            .collect();
        let sent: Vec<_> = signals
            .into_iter()
            .map(|signal| {
                let to = EntityKey::new(entity.stack.clone(), &signal.target.name, &signal.target.key);
                self.entities.send(&mut batch, &to, &operation_of(signal, traceparent.clone()), false);
                to
            })
            .collect();
        // To its end: whom it tells must be woken.
        self.store.commit(batch).await?;
        hit("entity.batch.committed");
        for instance in answered {
            self.wake(&instance, None);
        }
        for to in sent {
            self.wake_entity(&to);
        }
        Ok(())
    }

    /// There is no such entity: whoever called learns it, and signals are given up.
    async fn refuse(
        self: &Arc<Self>,
        entity: &EntityKey,
        waiting: Vec<Waiting>,
    ) -> Result<(), WorkflowError> {
        let mut batch = Batch::default();
        let failure = no_entity(entity);
        let mut answered = Vec::new();
        for (row, operation) in waiting {
            batch.delete(row);
            if operation.caller.is_none() {
                tracing::error!(%entity, operation = operation.name, "a signal is given up: there is no such entity");
            }
            answered.extend(answer(&mut batch, entity, operation, Err(failure.clone())));
        }
        self.store.commit(batch).await?;
        for instance in answered {
            self.wake(&instance, None);
        }
        Ok(())
    }

    /// The function of an entity, whatever the case of its name.
    pub(super) fn function_of(&self, entity: &EntityKey) -> Option<Urn> {
        let exact = entity.name().parse().ok().map(|name| Urn::new(entity.stack.clone(), Kind::Entity, name));
        if let Some(urn) = exact.filter(|urn| self.resources.by_urn(urn).is_some()) {
            return Some(urn);
        }
        let all = self.resources.list(Some(&entity.stack));
        let named = all.iter().find(|one| {
            one.urn.kind == Kind::Entity && one.urn.name.as_str().eq_ignore_ascii_case(entity.name())
        });
        named.map(|one| one.urn.clone())
    }
}

fn no_entity(entity: &EntityKey) -> Failure {
    let reason = format!("there is no entity `{}` in this stack", entity.name());
    Failure { reason, details: String::new() }
}

/// Tells whoever called what came of it.
fn answer(
    batch: &mut Batch,
    entity: &EntityKey,
    operation: Operation,
    result: Result<serde_json::Value, Failure>,
) -> Option<InstanceKey> {
    let caller = operation.caller?;
    let to = InstanceKey { stack: entity.stack.clone(), id: caller.instance };
    instances::tell(batch, &to, &Message::Done { execution: caller.execution, task: caller.task, result });
    Some(to)
}

fn operation_of(signal: Signal, traceparent: Option<String>) -> Operation {
    Operation {
        id: Uuid::now_v7().simple().to_string(),
        name: signal.name,
        input: Some(signal.input).filter(|input| !input.is_empty()),
        caller: None,
        traceparent,
    }
}
