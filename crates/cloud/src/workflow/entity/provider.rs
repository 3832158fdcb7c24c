//! Entities as resources: what the target asks.

use async_trait::async_trait;
use bytes::Bytes;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn,
    inputs::Entity,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::Batch;

use super::{EntityKey, store};
use crate::{
    provider::{Holding, Lines, Provider},
    workflow::{WorkflowError, Workflows},
};

/// The entities as the target knows them.
#[derive(Debug)]
pub struct EntityProvider(pub Workflows);

/// The change of the function that an entity's operations run.
fn of_function(change: &Change) -> Change {
    let mut change = change.clone();
    match &mut change {
        Change::Create { inputs, .. } => *inputs = Entity::function_inputs(inputs),
        Change::Update { new, .. } => *new = Entity::function_inputs(new),
        Change::Delete { .. } => {}
    }
    change
}

/// What all entities of a function have in common.
fn function_key(urn: &Urn) -> EntityKey {
    EntityKey::new(urn.stack.clone(), urn.name.as_str(), "")
}

#[async_trait]
impl Provider for EntityProvider {
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report> {
        if let Change::Create { urn, .. } = change {
            let all = self.0.shared.resources.list(Some(&urn.stack));
            let other = all.iter().find(|one| {
                let (ours, theirs) = (urn.name.as_str(), one.urn.name.as_str());
                one.urn.kind == Kind::Entity && ours != theirs && ours.eq_ignore_ascii_case(theirs)
            });
            if let Some(other) = other {
                let (name, other) = (urn.name.to_string(), other.urn.name.to_string());
                return Err(WorkflowError::SameEntity { name, other }.report());
            }
            // An earlier one may have had a batch under way when it was deleted.
            self.0.shared.forget_states(&function_key(urn)).await.map_err(|error| error.report())?;
        }
        self.0.shared.host.prepare(&of_function(change), id, lines).await
    }

    fn write(&self, batch: &mut Batch, change: &Change, _: &PhysicalId) -> Result<(), Report> {
        if let Change::Delete { urn, .. } = change {
            batch.put(store::gone_key(&function_key(urn)), Bytes::new());
        }
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let shared = &self.0.shared;
        if let Some(recorded) = now {
            return shared.host.define(urn, id, &Entity::function_inputs(&recorded.inputs));
        }
        shared.host.forget(urn, id);
        // Killed before this, the next start does it.
        if let Err(error) = shared.forget_states(&function_key(urn)).await {
            tracing::error!(%urn, %error, code = error.code(), "the states of a deleted entity cannot be deleted yet");
        }
    }

    async fn holding(&self, id: &PhysicalId) -> Result<Option<Holding>, Report> {
        let Some(recorded) = self.0.shared.resources.by_id(Kind::Entity, id) else { return Ok(None) };
        let name = recorded.urn.name.as_str();
        let states = self.0.entities(&recorded.urn.stack, Some(name)).map_err(|error| error.report())?;
        Ok(Some(Holding { items: states.len() as u64, unit: "state", ..Holding::default() }))
    }
}
