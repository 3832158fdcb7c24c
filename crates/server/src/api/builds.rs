//! Images that belong to no task and no service: built by hand, and cleared away.

use std::sync::Arc;

use axum::{Json, Router, body::Body, extract::State, response::IntoResponse, routing::post};
use futures::StreamExt;
use tandem_cloud::{Cloud, Pruned, provider::Lines};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Refusal;
use crate::wire::{BuildFolder, Building, Prune, record};

pub(super) fn routes() -> Router<super::State> {
    Router::new().route("/v1/images/build", post(build)).route("/v1/images/prune", post(prune))
}

async fn prune(
    State(cloud): State<Arc<Cloud>>,
    Json(Prune { all, dry_run }): Json<Prune>,
) -> Result<Json<Pruned>, Refusal> {
    cloud.prune_images(all, dry_run).await.map(Json).map_err(Refusal::from)
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
