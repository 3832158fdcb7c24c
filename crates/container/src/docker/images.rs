//! Answers for the engine's images, in our words: names in full, the digest of the configuration.
//!
//! Names are the engine's: what somebody else has there under a name can be asked for, and a name that is given here means
//! the new image for everybody.

use std::{fs, path::Path};

use async_trait::async_trait;
use bollard::{
    models::ImageInspect,
    query_parameters::{
        CreateImageOptionsBuilder, ImportImageOptions, ListContainersOptionsBuilder,
        ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
    },
};
use bytes::Bytes;
use futures::StreamExt;
use jiff::Timestamp;
use tandem_model::ByteSize;
use tokio::{io::AsyncWriteExt, task::spawn_blocking};

use super::{
    Docker, archive,
    engine::{TOOL, said, status},
    marks::Mark,
};
use crate::{
    BuildRequest, Builder, Built, ContainerError, Image, ImageRef, Lines, Platform,
    layout::at,
    reference::{self, Reference},
    tool,
};

/// How much of a file is handed on at once.
const PIECE: usize = 1 << 20;

/// The names of an image, in full. Those by the manifest's digest only if there are no others.
fn names(tags: &[String], digests: &[String]) -> Vec<String> {
    let real = |name: &&String| !name.contains("<none>");
    let full = |name: &String| reference::name(name).ok();
    let mut names: Vec<String> = tags.iter().filter(real).filter_map(full).collect();
    if names.is_empty() {
        names = digests.iter().filter(real).filter_map(full).collect();
    }
    names.sort();
    names
}

fn describe(found: ImageInspect) -> Image {
    let config = found.config.unwrap_or_default();
    let created = found.created.as_deref().and_then(|text| text.parse().ok());
    Image {
        digest: found.id.unwrap_or_default(),
        names: names(&found.repo_tags.unwrap_or_default(), &found.repo_digests.unwrap_or_default()),
        size: ByteSize(found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0)),
        created: created.unwrap_or(Timestamp::UNIX_EPOCH),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        environment: config.env.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
        platform: Platform::of(
            &found.os.unwrap_or_default(),
            &found.architecture.unwrap_or_default(),
            found.variant.as_deref(),
        ),
    }
}

impl Docker {
    /// What the engine has under a name or digest.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Image>, ContainerError> {
        match self.engine.client().await?.inspect_image(name).await {
            Ok(found) => Ok(Some(describe(found))),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.engine.failed(error)),
        }
    }

    /// As [`find`](Self::find), of an image that must be there.
    pub(super) async fn made(&self, name: &str) -> Result<Image, ContainerError> {
        let absent = || said(&format!("the image {name} that it made is not there"));
        self.find(name).await?.ok_or_else(absent)
    }

    /// Pulls an image by its complete name.
    pub(super) async fn fetch(
        &self,
        name: &str,
        platform: Option<&Platform>,
        absent: &str,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError> {
        let missing = |error: bollard::errors::Error| match self.engine.failed(error) {
            ContainerError::Tool { reason, .. } => ContainerError::NoImage {
                image: name.to_owned(),
                reason: format!("{absent} could not be pulled: {reason}"),
            },
            other => other,
        };
        let (path, tag) = match name.split_once('@') {
            Some((path, digest)) => (path, digest),
            None => name.rsplit_once(':').unwrap_or((name, "latest")),
        };
        let mut options = CreateImageOptionsBuilder::new().from_image(path).tag(tag);
        if let Some(platform) = platform {
            options = options.platform(&platform.to_string());
        }
        let client = self.engine.client().await?;
        lines.line(&format!("pulling {name}"));
        let mut progress = std::pin::pin!(client.create_image(Some(options.build()), None, None));
        while let Some(message) = progress.next().await {
            message.map_err(missing)?;
        }
        let image = self.made(name).await?;
        self.mark(Mark::Image, &image.digest)?;
        Ok(image)
    }

    /// The digests of the images that containers have, whoever's.
    pub(super) async fn in_use(&self) -> Result<Vec<String>, ContainerError> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let client = self.engine.client().await?;
        let all = client.list_containers(Some(options)).await.map_err(|error| self.engine.failed(error))?;
        Ok(all.into_iter().filter_map(|container| container.image_id).collect())
    }

    /// Takes a name away, or an image without one. One that others were built upon stays for them.
    pub(super) async fn delete(&self, name: &str) -> Result<(), ContainerError> {
        let options = RemoveImageOptionsBuilder::new().build();
        match self.engine.client().await?.remove_image(name, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) if error.to_string().contains("dependent child images") => Ok(()),
            Err(error) if status(&error) == Some(409) => {
                Err(ContainerError::InUse { image: name.to_owned() })
            }
            Err(error) => Err(self.engine.failed(error)),
        }
    }

    async fn load(&self, file: &Path) -> Result<(), ContainerError> {
        let file = tokio::fs::File::open(file).await.map_err(at(file))?;
        let pieces = tokio_util::io::ReaderStream::with_capacity(file, PIECE);
        let client = self.engine.client().await?;
        let mut progress =
            std::pin::pin!(client.import_image_stream(ImportImageOptions::default(), pieces, None));
        while let Some(message) = progress.next().await {
            message.map_err(|error| self.engine.failed(error))?;
        }
        Ok(())
    }

    pub(super) async fn save(&self, digest: &str, to: &Path) -> Result<(), ContainerError> {
        let mut file = tokio::fs::File::create(to).await.map_err(at(to))?;
        let client = self.engine.client().await?;
        let mut pieces = std::pin::pin!(client.export_image(digest));
        while let Some(piece) = pieces.next().await {
            let piece: Bytes = piece.map_err(|error| self.engine.failed(error))?;
            file.write_all(&piece).await.map_err(at(to))?;
        }
        file.flush().await.map_err(at(to))
    }

    pub(super) async fn scratch(&self) -> Result<archive::Scratch, ContainerError> {
        let parent = self.folder().join("scratch");
        spawn_blocking(move || archive::Scratch::new(&parent)).await.map_err(tool::broken)?
    }
}

fn absent(image: &str) -> ContainerError {
    ContainerError::NoImage { image: image.to_owned(), reason: "it is not in the store".into() }
}

#[async_trait]
impl Builder for Docker {
    async fn build(&self, request: &BuildRequest, lines: &dyn Lines) -> Result<Built, ContainerError> {
        let _building = self.builds.read().await;
        self.run_build(request, lines).await
    }

    async fn resolve(&self, image: &ImageRef, lines: &dyn Lines) -> Result<Image, ContainerError> {
        match reference::parse(image)? {
            Reference::Digest(digest) => {
                let found = self.find(&digest).await?.ok_or_else(|| ContainerError::NoImage {
                    image: digest,
                    reason: "there is no image with this digest in the store".into(),
                })?;
                self.ask_for(&found.digest)?;
                Ok(found)
            }
            Reference::Name(name) => match self.find(&name).await? {
                Some(found) => {
                    self.ask_for(&found.digest)?;
                    Ok(found)
                }
                None => self.fetch(&name, None, "it is not in the store and", lines).await,
            },
        }
    }

    async fn pull(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError> {
        self.fetch(&reference::name(&image.0)?, platform, "it", lines).await
    }

    async fn import(&self, file: &Path, name: &str) -> Result<Image, ContainerError> {
        let name = reference::name(name)?;
        let _building = self.builds.read().await;
        let scratch = self.scratch().await?;
        let file = fs::canonicalize(file).map_err(at(file))?;
        let (folder, full) = (scratch.path().to_owned(), name.clone());
        let made = spawn_blocking(move || archive::to_load(&file, &full, &folder));
        let (archive, digest) = made.await.map_err(tool::broken)??;
        self.load(&archive).await?;
        self.mark(Mark::Image, &digest)?;
        let image = self.made(&name).await?;
        if image.digest != digest {
            let reason = format!("it made {} of an image that is {digest}", image.digest);
            return Err(ContainerError::Tool { tool: TOOL, reason });
        }
        Ok(image)
    }

    async fn list(&self) -> Result<Vec<Image>, ContainerError> {
        let client = self.engine.client().await?;
        let options = ListImagesOptionsBuilder::new().build();
        let all = client.list_images(Some(options)).await.map_err(|error| self.engine.failed(error))?;
        let mut found = Vec::new();
        for one in all {
            // Without a name it is a step of some build, unless it is ours.
            let shown = !names(&one.repo_tags, &one.repo_digests).is_empty()
                || self.asked_for(Mark::Image, &one.id).is_some();
            if shown && let Some(image) = self.find(&one.id).await? {
                found.push(image);
            }
        }
        found.sort_by(|a, b| (&a.names, &a.digest).cmp(&(&b.names, &b.digest)));
        Ok(found)
    }

    async fn names(&self) -> Result<Vec<(String, String)>, ContainerError> {
        let client = self.engine.client().await?;
        let options = ListImagesOptionsBuilder::new().build();
        let all = client.list_images(Some(options)).await.map_err(|error| self.engine.failed(error))?;
        let named = all.into_iter().flat_map(|one| {
            names(&one.repo_tags, &one.repo_digests).into_iter().map(move |name| (name, one.id.clone()))
        });
        Ok(named.collect())
    }

    async fn export(&self, digest: &str, folder: &Path) -> Result<(), ContainerError> {
        let found = self.find(digest).await?.filter(|found| found.digest == digest);
        found.ok_or_else(|| absent(digest))?;
        let scratch = self.scratch().await?;
        let saved = scratch.path().join("saved.tar");
        self.save(digest, &saved).await?;
        let (digest, folder) = (digest.to_owned(), folder.to_owned());
        let written = spawn_blocking(move || archive::lay_out(&saved, scratch.path(), &digest, &folder));
        written.await.map_err(tool::broken)?
    }

    async fn remove(&self, image: &ImageRef) -> Result<(), ContainerError> {
        let name = match reference::parse(image)? {
            Reference::Digest(name) | Reference::Name(name) => name,
        };
        let found = self.find(&name).await?.ok_or_else(|| absent(&image.0))?;
        if found.names.len() > 1 && found.names.contains(&name) {
            return self.delete(&name).await;
        }
        if self.in_use().await?.contains(&found.digest) {
            return Err(ContainerError::InUse { image: image.0.clone() });
        }
        let last = if found.names.is_empty() { vec![found.digest.clone()] } else { found.names };
        for name in &last {
            self.delete(name).await?;
        }
        self.unmark(&found.digest)
    }
}
