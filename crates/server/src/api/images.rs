//! The image store.

use std::{io, path::PathBuf, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Query, State},
    routing::{get, post},
};
use futures::{StreamExt, TryStreamExt};
use tandem_cloud::{Cloud, image::BuildFacts};
use tandem_container::{ContainerError, Image, ImageRef};
use tokio_util::io::StreamReader;

use super::Refusal;
use crate::wire::{ImageName, OfStack};

pub(super) fn routes() -> Router<super::State> {
    Router::new()
        .route("/v1/images", get(list).post(import))
        .route("/v1/images/remove", post(remove))
        .route("/v1/builds", post(builds))
        .layer(DefaultBodyLimit::disable())
}

async fn list(State(cloud): State<Arc<Cloud>>) -> Result<Json<Vec<Image>>, Refusal> {
    cloud.images.list().await.map(Json).map_err(|e| Refusal::of(&e))
}

async fn builds(
    State(cloud): State<Arc<Cloud>>,
    Json(OfStack { stack }): Json<OfStack>,
) -> Result<Json<Vec<BuildFacts>>, Refusal> {
    let resources = cloud.resources.list(stack.as_ref());
    cloud.builds.facts(&resources).await.map(Json).map_err(|e| Refusal::of(&e))
}

/// Keeps the file beside the images until it is imported; what a crash leaves of it goes at the next start.
async fn import(
    State(cloud): State<Arc<Cloud>>,
    Query(ImageName { name }): Query<ImageName>,
    body: Body,
) -> Result<Json<Image>, Refusal> {
    let path = cloud.home.import();
    let received = async {
        let mut file = tokio::fs::File::create_new(&path).await?;
        let chunks = body.into_data_stream().map(|chunk| chunk.map_err(io::Error::other));
        tokio::io::copy(&mut StreamReader::new(chunks.boxed().into_stream()), &mut file).await?;
        tokio::io::AsyncWriteExt::flush(&mut file).await
    };
    let _file = Temporary(path.clone());
    let imported = match received.await {
        Ok(()) => cloud.images.import(&path, &name).await,
        Err(source) => Err(ContainerError::Io { path: path.clone(), source }),
    };
    imported.map(Json).map_err(|e| Refusal::of(&e))
}

/// Removes the file however the import ends, also when the asker goes away.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn remove(
    State(cloud): State<Arc<Cloud>>,
    Json(ImageName { name }): Json<ImageName>,
) -> Result<Json<()>, Refusal> {
    let removed = cloud.images.remove(&ImageRef(name.clone())).await;
    match removed {
        // Clients pull it no more, either. What no container runs from only the registry has.
        Ok(()) | Err(ContainerError::NoImage { .. }) => {
            let known = cloud.registry.forget(&name).await.map_err(|e| Refusal::of(&e))?;
            if known { Ok(Json(())) } else { removed.map(Json).map_err(|e| Refusal::of(&e)) }
        }
        Err(error) => Err(Refusal::of(&error)),
    }
}
