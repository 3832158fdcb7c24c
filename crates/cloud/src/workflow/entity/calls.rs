//! What people and programs ask of entities.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_failpoint::hit;
use tandem_model::StackId;
use tandem_store::{Batch, CommitError, ReadError};
use uuid::Uuid;

use super::{
    EntityKey, Operation,
    locks::{self, LockedBy},
    store::{self, State},
};
use crate::workflow::{Shared, WorkflowError, Workflows, store::json};

/// The largest input of an operation, as JSON.
const LARGEST: usize = 1 << 20;
/// For how long it is known what a handler has sent: longer than events are delivered again.
const KNOWN: SignedDuration = SignedDuration::from_hours(24);
/// How often what is known no longer is looked for, and how much of it goes at once.
const SWEEP: Duration = Duration::from_secs(3600);
const AT_ONCE: usize = 1000;

/// How an entity stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityStatus {
    /// `@name@key`.
    pub entity_id: String,
    pub name: String,
    pub key: String,
    pub state: Value,
    pub last_updated_time: Timestamp,
    /// How many operations it has applied since it came to be.
    pub operations: u64,
    /// Whose operations alone it applies now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_by: Option<LockedBy>,
}

impl EntityStatus {
    fn new(entity: &EntityKey, state: State, locked_by: Option<LockedBy>) -> Self {
        let text = state.state.as_deref().unwrap_or("null");
        Self {
            entity_id: entity.to_string(),
            name: entity.name().to_owned(),
            key: entity.key.clone(),
            state: serde_json::from_str(text).unwrap_or_default(),
            last_updated_time: state.updated,
            operations: state.operations,
            locked_by,
        }
    }
}

impl Workflows {
    /// Sends an operation to an entity. When this returns, it is on disk, and will be applied once. `call` names the call of
    /// a handler: one that is made again within a day sends nothing.
    ///
    /// # Errors
    /// [`WorkflowError`]; then nothing was sent.
    pub async fn signal(
        &self,
        entity: &EntityKey,
        operation: &str,
        input: Option<&Value>,
        call: Option<&str>,
        traceparent: Option<String>,
    ) -> Result<(), WorkflowError> {
        if self.shared.function_of(entity).is_none() {
            return Err(WorkflowError::NoEntity { name: entity.name().to_owned() });
        }
        let input = input.map(Value::to_string);
        if let Some(bytes) = input.as_ref().map(String::len).filter(|bytes| *bytes > LARGEST) {
            return Err(WorkflowError::TooLarge { what: format!("input of `{operation}`"), bytes });
        }
        let id = Uuid::now_v7().simple().to_string();
        let operation = Operation { id, name: operation.to_owned(), input, caller: None, traceparent };
        let mut batch = Batch::default();
        if let Some(call) = call {
            let seen = store::seen_key(call);
            batch.expect(seen.clone(), None);
            batch.put(seen, json(&Timestamp::now()));
        }
        self.shared.entities.send(&mut batch, entity, &operation, false);
        let (shared, entity) = (self.shared.clone(), entity.clone());
        // To its end, also if whoever asks goes away: what is on disk must not wait for the next start.
        let seen_through = tokio::spawn(async move {
            match shared.store.commit(batch).await {
                Ok(()) => {}
                // It was sent before.
                Err(CommitError::Conflict { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            hit("entity.signal.committed");
            shared.wake_entity(&entity);
            Ok(())
        });
        seen_through.await.unwrap_or(Err(WorkflowError::Commit(CommitError::Closed)))
    }

    /// The state as the last batch left it; `None` if there is no such entity.
    ///
    /// # Errors
    /// [`WorkflowError`] if it cannot be read, or the stack declares no entity of the name.
    pub fn entity(&self, entity: &EntityKey) -> Result<Option<EntityStatus>, WorkflowError> {
        if self.shared.function_of(entity).is_none() {
            return Err(WorkflowError::NoEntity { name: entity.name().to_owned() });
        }
        let snapshot = self.shared.store.snapshot()?;
        let locked_by = locks::locked_by(&*snapshot, entity, None)?;
        let found = store::state(&*snapshot, entity)?;
        Ok(found.map(|(state, _)| EntityStatus::new(entity, state, locked_by)))
    }

    /// The same for people, who may ask for one that is locked and has no state.
    ///
    /// # Errors
    /// As [`entity`](Self::entity).
    pub fn entity_or_lock(&self, entity: &EntityKey) -> Result<Option<EntityStatus>, WorkflowError> {
        if let found @ Some(_) = self.entity(entity)? {
            return Ok(found);
        }
        let locked_by = locks::locked_by(&*self.shared.store.snapshot()?, entity, None)?;
        let state = || State { state: None, updated: Timestamp::now(), operations: 0 };
        Ok(locked_by.map(|by| EntityStatus::new(entity, state(), Some(by))))
    }

    /// The entities of a stack, or those of one name, ordered.
    ///
    /// # Errors
    /// [`WorkflowError`] if they cannot be read.
    pub fn entities(&self, stack: &StackId, name: Option<&str>) -> Result<Vec<EntityStatus>, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let states = store::states(&*snapshot, &store::states_of(stack, name))?;
        let told = states.into_iter().map(|(entity, state)| {
            let locked_by = locks::locked_by(&*snapshot, &entity, None)?;
            Ok(EntityStatus::new(&entity, state, locked_by))
        });
        Ok(told.collect::<Result<_, ReadError>>()?)
    }
}

impl Shared {
    /// Wakes the entities that have something to apply, and deletes the states of functions that are gone.
    pub(in crate::workflow) async fn open_entities(self: &Arc<Self>) -> Result<(), WorkflowError> {
        let (restless, next) = store::restless(&*self.store.snapshot()?)?;
        self.entities.next.store(next, std::sync::atomic::Ordering::Relaxed);
        self.forget_gone().await?;
        for entity in restless {
            self.wake_entity(&entity);
        }
        Ok(())
    }

    /// Deletes the states of functions that were deleted.
    async fn forget_gone(&self) -> Result<(), WorkflowError> {
        for function in store::gone(&*self.store.snapshot()?)? {
            self.forget_states(&function).await?;
        }
        Ok(())
    }

    /// Deletes all states of a function, in commits of bounded size, and then that they are to go.
    pub(super) async fn forget_states(&self, function: &EntityKey) -> Result<(), WorkflowError> {
        let states = store::states_of(&function.stack, Some(function.name()));
        loop {
            let some = store::rows(&*self.store.snapshot()?, &states, AT_ONCE)?;
            let mut batch = Batch::default();
            if some.is_empty() {
                batch.delete(store::gone_key(function));
                return Ok(self.store.commit(batch).await?);
            }
            for key in some {
                batch.delete(key);
            }
            self.store.commit(batch).await?;
        }
    }

    /// Forgets what handlers have sent once nobody asks any more, until the cloud closes.
    pub(in crate::workflow) async fn run_forgetting(self: Arc<Self>) {
        loop {
            if let Err(error) = self.forget_seen(Timestamp::now() - KNOWN).await {
                tracing::warn!(%error, "what was sent to entities cannot be forgotten yet");
            }
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    pub(super) async fn forget_seen(&self, before: Timestamp) -> Result<(), WorkflowError> {
        let mut cursor = bytes::Bytes::new();
        loop {
            let (old, last) = store::seen_before(&*self.store.snapshot()?, &cursor, before, AT_ONCE)?;
            let Some(last) = last else { return Ok(()) };
            let mut batch = Batch::default();
            for key in old {
                batch.delete(key);
            }
            if !batch.writes.is_empty() {
                self.store.commit(batch).await?;
            }
            cursor = last;
        }
    }
}
