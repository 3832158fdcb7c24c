//! The cloud itself: what it is, the credentials it gives, its end.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use tandem_cloud::Cloud;

use crate::wire::{CloudInfo, Environment};

pub(super) fn routes() -> Router<super::State> {
    Router::new().route("/v1/cloud", get(info)).route("/v1/stop", post(stop)).route("/v1/env", post(env))
}

async fn info(State(cloud): State<Arc<Cloud>>) -> Json<CloudInfo> {
    Json(CloudInfo {
        id: cloud.target.identity().0.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        endpoint: cloud.endpoint.url(),
        started: cloud.started,
    })
}

/// Answers before it stops: the asker watches the process to see it gone.
async fn stop(State(state): State<super::State>) -> Json<()> {
    state.stop.send_replace(true);
    Json(())
}

async fn env(
    State(cloud): State<Arc<Cloud>>,
    Json(asked): Json<Environment>,
) -> Json<BTreeMap<String, String>> {
    Json(cloud.operator_environment(&asked.stack))
}
