//! Workflows and their instances.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::post};
use tandem_cloud::{
    Cloud,
    workflow::{InstanceKey, InstanceStatus, Start},
};
use tandem_model::{Kind, Urn};

use super::Refusal;
use crate::wire::{Instance, OfInstance, OfStackOnly, RaiseEvent, StartWorkflow, Started};

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/workflows", post(list))
        .route("/v1/workflows/start", post(start))
        .route("/v1/workflows/show", post(show))
        .route("/v1/workflows/wait", post(wait))
        .route("/v1/workflows/raise", post(raise))
        .route("/v1/workflows/terminate", post(terminate))
        .route("/v1/workflows/suspend", post(suspend))
        .route("/v1/workflows/resume", post(resume))
        .route("/v1/workflows/purge", post(purge))
}

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

async fn show(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<OfInstance>,
) -> Result<Json<InstanceStatus>, Refusal> {
    cloud.workflows.status(&key(of.of), of.history).map(Json).map_err(|e| Refusal::of(&e))
}

async fn wait(
    State(cloud): State<Arc<Cloud>>,
    Json(of): Json<Instance>,
) -> Result<Json<InstanceStatus>, Refusal> {
    cloud.workflows.wait(&key(of)).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn raise(State(cloud): State<Arc<Cloud>>, Json(asked): Json<RaiseEvent>) -> Result<Json<()>, Refusal> {
    let RaiseEvent { of, event, data } = asked;
    cloud.workflows.raise(&key(of), &event, data).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn terminate(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfInstance>) -> Result<Json<()>, Refusal> {
    cloud.workflows.terminate(&key(of.of), of.reason).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn suspend(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfInstance>) -> Result<Json<()>, Refusal> {
    cloud.workflows.suspend(&key(of.of), of.reason).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn resume(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfInstance>) -> Result<Json<()>, Refusal> {
    cloud.workflows.resume(&key(of.of), of.reason).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn purge(State(cloud): State<Arc<Cloud>>, Json(of): Json<Instance>) -> Result<Json<()>, Refusal> {
    cloud.workflows.purge(&key(of)).await.map(Json).map_err(|e| Refusal::of(&e))
}
