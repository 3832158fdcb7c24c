//! The engine's port, over the wire.

use std::{collections::BTreeMap, io, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use futures::StreamExt;
use tandem_cloud::{Cloud, archive::ArchiveError, image, is_made_by_client, provider::Lines};
use tandem_engine::{CloudId, Contents};
use tandem_model::{Recorded, Report};
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::Refusal;
use crate::wire::{Acknowledge, Apply, Applying, Entrust, Named, OfStack, Resources, record};

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/resources", post(list))
        .route("/v1/contents", post(contents))
        .route("/v1/made", post(made))
        .route("/v1/apply", post(apply))
        .route("/v1/secrets", post(entrust))
        .route("/v1/acknowledge", post(acknowledge))
        .route("/v1/call-off", post(call_off))
        .route("/v1/archives/{hash}", put(upload))
        .route("/v1/archives/{hash}/files", get(files))
        .layer(DefaultBodyLimit::disable())
}

async fn list(State(cloud): State<Arc<Cloud>>, Json(of): Json<Resources>) -> Json<Vec<Recorded>> {
    Json(cloud.target.list(&of.stack))
}

async fn contents(
    State(cloud): State<Arc<Cloud>>,
    Json(named): Json<Named>,
) -> Result<Json<Vec<Contents>>, Refusal> {
    Ok(Json(cloud.target.contents(&named.resources).await?))
}

async fn made(
    State(cloud): State<Arc<Cloud>>,
    Json(OfStack { stack }): Json<OfStack>,
) -> Json<Vec<Recorded>> {
    let all = cloud.resources.list(stack.as_ref()).into_iter();
    Json(all.filter(|r| is_made_by_client(&r.urn)).map(|r| (*r).clone()).collect())
}

async fn entrust(State(cloud): State<Arc<Cloud>>, Json(Entrust { urn, secrets }): Json<Entrust>) -> Json<()> {
    cloud.builds.entrust(&urn, secrets);
    Json(())
}

/// What is in a packed folder, to be compared with another one.
async fn files(
    State(cloud): State<Arc<Cloud>>,
    Path(hash): Path<String>,
) -> Result<Json<BTreeMap<String, String>>, Refusal> {
    let path = cloud.archives.path(&hash).map_err(|e| Refusal::of(&e))?;
    let read = tokio::task::spawn_blocking(move || image::files(std::fs::File::open(path)?)).await;
    match read {
        Ok(files) => {
            files.map(Json).map_err(|source| Refusal::of(&ArchiveError::Read { name: hash, source }))
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn acknowledge(
    State(cloud): State<Arc<Cloud>>,
    Json(asked): Json<Acknowledge>,
) -> Result<Json<()>, Refusal> {
    cloud.target.acknowledge(&asked.ops).await?;
    Ok(Json(()))
}

/// Ends what is being prepared for a stack, because nobody waits for it any more.
async fn call_off(State(cloud): State<Arc<Cloud>>, Json(OfStack { stack }): Json<OfStack>) -> Json<()> {
    if let Some(stack) = stack {
        cloud.target.call_off(&stack);
    }
    Json(())
}

async fn upload(
    State(cloud): State<Arc<Cloud>>,
    Path(hash): Path<String>,
    body: Body,
) -> Result<Json<()>, Refusal> {
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(io::Error::other));
    let content = SyncIoBridge::new(StreamReader::new(chunks));
    let stored = tokio::task::spawn_blocking(move || cloud.archives.put(&hash, content)).await;
    match stored {
        Ok(result) => result.map(Json).map_err(|e| Refusal::of(&e)),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// The engine compares when it begins; this is for a cloud that takes the place of another one meanwhile.
fn other_cloud(meant: &CloudId, found: &CloudId) -> Report {
    Report {
        code: "E0207".into(),
        message: format!(
            "the plan was made for the cloud {:.8}, but this is another cloud, {:.8}",
            meant.0, found.0
        ),
        help: "run the command again: it says how the two differ, and how to go on".into(),
        causes: vec![],
    }
}

struct Sent(mpsc::UnboundedSender<Applying>);

impl Lines for Sent {
    fn line(&self, line: &str) {
        // Whoever asked may have gone; the change goes on, and its result is kept under its operation's id.
        let _ = self.0.send(Applying::Line(line.to_owned()));
    }
}

/// The change runs in a task of its own: a broken connection does not stop it half-way.
async fn apply(
    State(cloud): State<Arc<Cloud>>,
    Json(Apply { op, change, cloud: meant }): Json<Apply>,
) -> Response {
    if let Some(meant) = meant.filter(|meant| meant != cloud.target.identity()) {
        return Refusal(other_cloud(&meant, cloud.target.identity())).into_response();
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let last = match cloud.target.apply(&op, &change, &Sent(sender.clone())).await {
            Ok(applied) => Applying::Done(applied),
            Err(report) => Applying::Failed(report),
        };
        let _ = sender.send(last);
    });
    let records = futures::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|applying| (applying, receiver))
    });
    Body::from_stream(records.map(|r| Ok::<_, std::convert::Infallible>(record(&r)))).into_response()
}
