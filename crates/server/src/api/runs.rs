//! Runs of tasks, by hand.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::post};
use tandem_cloud::{
    Cloud,
    task::{RunRequest, RunStatus},
};

use super::Refusal;
use crate::wire::{OfRun, Run};

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/runs", post(run))
        .route("/v1/runs/status", post(status))
        .route("/v1/runs/wait", post(wait))
        .route("/v1/runs/stop", post(stop))
}

async fn run(State(cloud): State<Arc<Cloud>>, Json(run): Json<Run>) -> Result<Json<OfRun>, Refusal> {
    let Run { task, environment, command } = run;
    let request = RunRequest { task, environment, command, key: None, traceparent: None };
    let id = cloud.tasks.run(request).await.map_err(|e| Refusal::of(&e))?;
    Ok(Json(OfRun { id }))
}

async fn status(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfRun>) -> Result<Json<RunStatus>, Refusal> {
    cloud.tasks.get(&of.id).map(Json).map_err(|e| Refusal::of(&e))
}

async fn wait(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfRun>) -> Result<Json<RunStatus>, Refusal> {
    cloud.tasks.wait(&of.id).await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn stop(State(cloud): State<Arc<Cloud>>, Json(of): Json<OfRun>) -> Result<Json<RunStatus>, Refusal> {
    cloud.tasks.stop(&of.id).await.map(Json).map_err(|e| Refusal::of(&e))
}
