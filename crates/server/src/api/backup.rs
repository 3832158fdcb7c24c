//! Backups of the running cloud.

use std::{convert::Infallible, ops::ControlFlow, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use futures::StreamExt;
use tandem_cloud::{Cloud, backup};
use tandem_model::Explain;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::wire::{BackUp, BackingUp, record};

pub(super) fn routes() -> Router<super::State> {
    Router::new().route("/v1/backup", post(back_up))
}

/// Given up when the asker goes or the cloud stops: half a backup is of no use to anybody.
async fn back_up(State(state): State<super::State>, Json(BackUp { file, force }): Json<BackUp>) -> Response {
    let cloud: Arc<Cloud> = state.cloud;
    let (sender, receiver) = mpsc::channel(4);
    let progress = sender.clone();
    tokio::spawn(async move {
        let told = move |at| match progress.try_send(BackingUp::Progress(at)) {
            // Whoever reads slowly hears less.
            Ok(()) | Err(TrySendError::Full(_)) => ControlFlow::Continue(()),
            Err(TrySendError::Closed(_)) => ControlFlow::Break(()),
        };
        let last = match backup::take(cloud.backup_sources(), &file, force, told).await {
            Ok(summary) => BackingUp::Done(summary),
            Err(error) => BackingUp::Failed(error.report()),
        };
        let _ = sender.send(last).await;
    });
    let records = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|record| (record, receiver))
    });
    let mut stopping = state.stop.subscribe();
    let stopped = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let records = records.take_until(Box::pin(stopped));
    Body::from_stream(records.map(|r| Ok::<_, Infallible>(record(&r)))).into_response()
}
