//! Runs of tasks, by hand.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    routing::post,
};
use tandem_cloud::{
    Cloud,
    task::{RunRequest, RunStatus},
};

use super::Refusal;
use crate::wire::{OfRun, Run};

/// In bytes. A client that sends more is cut off without an answer.
const LARGEST_BODY: usize = 64 << 20;

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/runs", post(run))
        .route("/v1/runs/status", post(status))
        .route("/v1/runs/wait", post(wait))
        .route("/v1/runs/stop", post(stop))
        // Beyond the largest input, so that it is our refusal that is told.
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}

async fn run(State(cloud): State<Arc<Cloud>>, Json(run): Json<Run>) -> Result<Json<OfRun>, Refusal> {
    let Run { task, environment, command, input } = run;
    let request = RunRequest { task, environment, command, input, event: None, key: None, traceparent: None };
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
