//! Builds of folders that belong to no task and no service.

use std::sync::Arc;

use axum::{Json, Router, body::Body, extract::State, response::IntoResponse, routing::post};
use futures::StreamExt;
use tandem_cloud::{Cloud, provider::Lines};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::wire::{BuildFolder, Building, record};

pub(super) fn routes() -> Router<super::State> {
    Router::new().route("/v1/images/build", post(build))
}

struct Sent(mpsc::UnboundedSender<Building>);

impl Lines for Sent {
    fn line(&self, line: &str) {
        let _ = self.0.send(Building::Line(line.to_owned()));
    }
}

/// The build ends when nobody waits for it any more.
async fn build(
    State(cloud): State<Arc<Cloud>>,
    Json(BuildFolder { build, name }): Json<BuildFolder>,
) -> impl IntoResponse {
    let (sender, receiver) = mpsc::unbounded_channel();
    let building = AbortOnDropHandle::new(tokio::spawn(async move {
        let last = match cloud.build(&build, name.as_deref(), &Sent(sender.clone())).await {
            Ok(image) => Building::Done(image),
            Err(report) => Building::Failed(report),
        };
        let _ = sender.send(last);
    }));
    let records = futures::stream::unfold((receiver, building), |(mut receiver, building)| async {
        receiver.recv().await.map(|one| (one, (receiver, building)))
    });
    Body::from_stream(records.map(|r| Ok::<_, std::convert::Infallible>(record(&r))))
}
