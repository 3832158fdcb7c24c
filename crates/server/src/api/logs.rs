//! Logs, read and followed.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use futures::{Stream, StreamExt};
use tandem_cloud::{Cloud, log::Line};

use super::Refusal;
use crate::wire::{Logs, record};

pub(super) fn routes() -> Router<super::State> {
    Router::new().route("/v1/logs", post(logs))
}

/// Ends at the present, or with `follow` when the asker goes, when the one run that was asked for ends, or when the
/// cloud stops.
async fn logs(State(state): State<super::State>, Json(asked): Json<Logs>) -> Result<Response, Refusal> {
    let cloud: Arc<Cloud> = state.cloud;
    if !asked.follow {
        let lines = cloud.log.read(&asked.filter).await.map_err(|e| Refusal::of(&e))?;
        return Ok(streamed(futures::stream::iter(lines)));
    }
    let lines = cloud.log.follow(asked.filter).await.map_err(|e| Refusal::of(&e))?;
    let mut stopping = state.stop.subscribe();
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    Ok(streamed(lines.take_until(Box::pin(stopped))))
}

fn streamed(lines: impl Stream<Item = Line> + Send + 'static) -> Response {
    Body::from_stream(lines.map(|line| Ok::<_, Infallible>(record(&line)))).into_response()
}
