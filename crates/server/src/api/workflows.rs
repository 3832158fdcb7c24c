//! Workflows and their instances.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use tandem_cloud::{
    Cloud,
    workflow::{Ending, EntityKey, EntityStatus, InstanceKey, InstanceStatus, Start, WorkflowError},
};
use tandem_model::{Kind, Urn};

use super::Refusal;
use crate::wire::{
    Deleted, Instance, OfEntities, OfStackOnly, ShowInstance, SignalEntity, StartWorkflow, Started, Tell,
    Telling, Told,
};

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/workflows", post(list))
        .route("/v1/workflows/start", post(start))
        .route("/v1/workflows/show", post(show))
        .route("/v1/workflows/wait", post(wait))
        .route("/v1/workflows/tell", post(tell))
        .route("/v1/workflows/ending", post(ending))
        .route("/v1/entities", post(entities))
        .route("/v1/entities/show", post(entity))
        .route("/v1/entities/signal", post(signal))
        // An input has 1 MiB at most, and says so itself.
        .layer(DefaultBodyLimit::max(LARGEST))
}

const LARGEST: usize = 16 << 20;

fn key(of: Instance) -> InstanceKey {
    InstanceKey { stack: of.stack, id: of.id }
}

async fn list(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<OfStackOnly>,
) -> Result<Json<Vec<InstanceStatus>>, Refusal> {
    cloud.workflows.list(&of.stack).map(Json).map_err(|e| Refusal::of(&e))
}

async fn start(
    State(cloud): State<Arc<Cloud>>,
    Json(asked): Json<StartWorkflow>,
) -> Result<Json<Started>, Refusal> {
    let StartWorkflow { stack, workflow, id, input } = asked;
    let workflow = Urn::new(stack, Kind::Workflow, workflow);
    let start = Start { workflow, id, input, key: None, traceparent: None };
    cloud.workflows.start(start).await.map(|id| Json(Started { id })).map_err(|e| Refusal::of(&e))
}

async fn ending(
    State(cloud): State<Arc<Cloud>>,
    Json(Deleted { stack, deleted }): Json<Deleted>,
) -> Result<Json<Vec<Ending>>, Refusal> {
    cloud.workflows.ending(&stack, &deleted).map(Json).map_err(|e| Refusal::of(&e))
}

async fn show(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<ShowInstance>,
) -> Result<Json<InstanceStatus>, Refusal> {
    cloud.workflows.status(&key(of.of), of.history).map(Json).map_err(|e| Refusal::of(&e))
}

async fn wait(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<Instance>,
) -> Result<Json<InstanceStatus>, Refusal> {
    cloud.workflows.wait(&key(of)).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn tell(
    State(cloud): State<Arc<Cloud>>,
    Json(Tell { of, what }): Json<Tell>,
) -> Result<Json<Told>, Refusal> {
    let (id, instance, workflows) = (of.id.clone(), key(of), &cloud.workflows);
    let told = match what {
        Telling::Raise { event, data } => workflows.raise(&instance, &event, data).await,
        Telling::Terminate { reason } => workflows.terminate(&instance, reason).await,
        Telling::Suspend => workflows.suspend(&instance).await,
        Telling::Resume => workflows.resume(&instance).await,
        Telling::Rewind => workflows.rewind(&instance).await,
        Telling::Purge => workflows.purge(&instance).await,
    };
    told.map(|()| Json(Told { id })).map_err(|e| Refusal::of(&e))
}

fn entity_key(of: &Instance) -> Result<EntityKey, Refusal> {
    let known = EntityKey::parse(&of.stack, &of.id);
    known.ok_or_else(|| Refusal::of(&WorkflowError::NotEntity { id: of.id.clone() }))
}

async fn entities(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<OfEntities>,
) -> Result<Json<Vec<EntityStatus>>, Refusal> {
    cloud.workflows.entities(&of.stack, of.name.as_deref()).map(Json).map_err(|e| Refusal::of(&e))
}

async fn entity(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<Instance>,
) -> Result<Json<EntityStatus>, Refusal> {
    let found = cloud.workflows.entity_or_lock(&entity_key(&of)?).map_err(|e| Refusal::of(&e))?;
    found.map(Json).ok_or_else(|| Refusal::of(&WorkflowError::NoInstance { id: of.id }))
}

async fn signal(
    State(cloud): State<Arc<Cloud>>,
    Json(asked): Json<SignalEntity>,
) -> Result<Json<()>, Refusal> {
    let SignalEntity { of, operation, input } = asked;
    let entity = entity_key(&of)?;
    let sent = cloud.workflows.signal(&entity, &operation, input.as_ref(), None, None);
    sent.await.map(Json).map_err(|e| Refusal::of(&e))
}
