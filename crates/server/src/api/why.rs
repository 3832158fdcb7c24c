//! What became of something.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::post};
use tandem_cloud::{Cloud, why::Node};

use super::Refusal;
use crate::wire::Why;

pub(super) fn routes() -> Router<super::State> {
    Router::new().route("/v1/why", post(why))
}

async fn why(State(cloud): State<Arc<Cloud>>, Json(asked): Json<Why>) -> Result<Json<Vec<Node>>, Refusal> {
    cloud.why(&asked.stack, &asked.what).await.map(Json).map_err(|e| Refusal::of(&e))
}
