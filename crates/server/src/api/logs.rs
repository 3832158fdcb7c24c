//! Logs, read and followed.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::BytesMut;
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
        let lines = cloud.log.replay(asked.filter).await.map_err(|e| Refusal::of(&e))?;
        return Ok(streamed(lines));
    }
    let lines = cloud.log.follow(asked.filter).await.map_err(|e| Refusal::of(&e))?;
    let mut stopping = state.stop.subscribe();
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    Ok(streamed(lines.take_until(Box::pin(stopped)).map(Ok::<_, Infallible>)))
}

/// How many lines go out in one piece, if so many are there: a piece a line costs more than the lines.
const BATCH: usize = 512;

/// An error breaks the answer off, so that it does not pass for all there is.
fn streamed<E>(lines: impl Stream<Item = Result<Line, E>> + Send + 'static) -> Response
where
    E: Into<axum::BoxError> + Send + 'static,
{
    let pieces = lines.ready_chunks(BATCH).map(|lines| {
        lines.into_iter().try_fold(BytesMut::new(), |mut piece, line| {
            piece.extend_from_slice(&record(&line?));
            Ok::<_, E>(piece)
        })
    });
    Body::from_stream(pieces.map(|piece| piece.map(BytesMut::freeze))).into_response()
}
