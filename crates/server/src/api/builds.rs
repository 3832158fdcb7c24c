//! Long work on images that belong to no task and no service: they are built by hand, pulled, cleared away.

use std::sync::Arc;

use axum::{Json, Router, body::Body, extract::State, response::IntoResponse, routing::post};
use futures::StreamExt;
use tandem_cloud::{Cloud, Pruned, provider::Lines};
use tandem_container::{Image, ImageRef};
use tandem_model::{Explain, Report};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::Refusal;
use crate::wire::{BuildFolder, Building, ImageName, Prune, record};

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/images/build", post(build))
        .route("/v1/images/pull", post(pull))
        .route("/v1/images/prune", post(prune))
}

async fn prune(
    State(cloud): State<Arc<Cloud>>,
    Json(Prune { all, dry_run }): Json<Prune>,
) -> Result<Json<Pruned>, Refusal> {
    cloud.prune_images(all, dry_run).await.map(Json).map_err(Refusal::from)
}

#[derive(Clone)]
struct Sent(mpsc::UnboundedSender<Building>);

impl Lines for Sent {
    fn line(&self, line: &str) {
        let _ = self.0.send(Building::Line(line.to_owned()));
    }
}

impl tandem_container::Lines for Sent {
    fn line(&self, line: &str) {
        Lines::line(self, line);
    }
}

/// Passes on what work tells and then what came of it. It ends when nobody waits for it any more.
fn told<W>(work: impl FnOnce(Sent) -> W) -> impl IntoResponse
where
    W: Future<Output = Result<Image, Report>> + Send + 'static,
{
    let (sender, receiver) = mpsc::unbounded_channel();
    let work = work(Sent(sender.clone()));
    let working = AbortOnDropHandle::new(tokio::spawn(async move {
        let last = match work.await {
            Ok(image) => Building::Done(image),
            Err(report) => Building::Failed(report),
        };
        let _ = sender.send(last);
    }));
    let records = futures::stream::unfold((receiver, working), |(mut receiver, working)| async {
        receiver.recv().await.map(|one| (one, (receiver, working)))
    });
    Body::from_stream(records.map(|r| Ok::<_, std::convert::Infallible>(record(&r))))
}

async fn build(
    State(cloud): State<Arc<Cloud>>,
    Json(BuildFolder { build, name }): Json<BuildFolder>,
) -> impl IntoResponse {
    told(async move |lines| cloud.build(&build, name.as_deref(), &lines).await)
}

/// Takes what the name means in its registry now.
async fn pull(
    State(cloud): State<Arc<Cloud>>,
    Json(ImageName { name }): Json<ImageName>,
) -> impl IntoResponse {
    told(async move |lines| pulled(&cloud, name, &lines).await)
}

async fn pulled(cloud: &Cloud, name: String, lines: &Sent) -> Result<Image, Report> {
    let image = ImageRef(name);
    let names = cloud.images.names().await.map_err(|error| error.report())?;
    let full = tandem_container::complete(&image.0).map_err(|error| error.report())?;
    let known = match names.into_iter().find(|(name, _)| *name == full) {
        Some(_) => cloud.images.resolve(&image, lines).await.ok(),
        None => None,
    };
    // A registry's image of that name is somebody else's.
    if let Some(known) = &known
        && (cloud.builds.is_made_here(&known.digest).map_err(|error| error.report())?
            || cloud.registry.was_pushed(&image.0).map_err(|error| error.report())?)
    {
        return Ok(known.clone());
    }
    let platform = known.and_then(|known| known.platform);
    cloud.images.pull(&image, platform.as_ref(), lines).await.map_err(|error| error.report())
}
