//! The image store and builder: Buildah, in a store of its own, without a daemon.
//!
//! # Who knows what
//!
//! Buildah's store (`storage/`) knows which images there are, their names and layers. `images/<hex>.json` says that an
//! image can be run, and from which folders (see [`crate::prepared`]); writing it is the single commit at the end of a
//! build, a pull or an import. Between the two stands a *pin*: a working container named `tandem-…`, for which Buildah
//! keeps the image's layers whatever happens to its names.
//!
//! # What a restart finds
//!
//! | killed | found | then |
//! |---|---|---|
//! | during a pull | what came, in `pulls/` | the next pull of that name goes on; else it is cleared after a week |
//! | during a build or an import | perhaps a working container, scratch files | the next build or import clears them |
//! | after Buildah committed the image (`container.image.built`) | an image without pin | `resolve` pins it |
//! | after it was pinned (`container.image.pinned`) | pin, no file | `resolve` writes the file |
//! | while tidying (`container.discard.*`) | an image without file, then without pin, then without some names | the next time goes on |
//! | during `remove` (`container.image.forgotten`) | an image without file | `resolve` or `remove` again |
//!
//! Start reading at [`BuildahStore`]; [`build`] runs builds, [`transcript`] reads their output, [`import`] and
//! [`archive`] take images from files, [`host`] says what a step may use of this machine, [`session`] clears up after
//! builds that were killed, [`storage`] reads the store,
//! [`tidy`] takes out what nobody needs.

pub(crate) mod archive;
pub(crate) mod build;
mod export;
pub(crate) mod host;
pub(crate) mod import;
mod session;
mod settings;
mod storage;
mod tidy;
mod transcript;

use std::{collections::HashSet, env, path::Path, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use tandem_failpoint::hit;
use tandem_model::ByteSize;
use tokio::{process::Command, sync::OnceCell};

use crate::{
    BuildRequest, Builder, Built, ContainerError, Image, ImageRef, Lines, Platform,
    layout::Layout,
    prepared::{self, Prepared},
    pull::{Pauses, Puller, Sources},
    reference::{self, Reference},
    tidy::Tidy,
    tool,
};
use storage::{Driver, ImageRecord};

/// Images by Buildah.
#[derive(Debug, Clone)]
pub struct BuildahStore {
    layout: Layout,
    driver: Arc<OnceCell<Driver>>,
    puller: Arc<Puller>,
}

impl BuildahStore {
    /// Opens the image store under `folder` (`<home>/containers`), which containers share.
    ///
    /// Touches nothing and looks for no program yet: that happens at the first use.
    #[must_use]
    pub fn open(folder: &Path) -> Arc<dyn Builder> {
        Arc::new(Self::new(folder))
    }

    /// The same store, to be tidied.
    #[must_use]
    pub fn tidy(folder: &Path) -> Arc<dyn Tidy> {
        Arc::new(Self::new(folder))
    }

    fn new(folder: &Path) -> Self {
        Self::pulling(folder, None, Pauses::default())
    }

    /// With settings for registries that are not this user's.
    fn pulling(folder: &Path, sources: Option<Sources>, pauses: Pauses) -> Self {
        let layout = Layout::new(folder);
        let puller = Arc::new(Puller::new(layout.pulls(), sources, pauses));
        Self { layout, driver: Arc::default(), puller }
    }

    /// How the store keeps layers; found out once, when there is no store yet.
    async fn driver(&self) -> Result<Driver, ContainerError> {
        self.driver.get_or_try_init(|| self.probe()).await.copied()
    }

    async fn probe(&self) -> Result<Driver, ContainerError> {
        if !tool::is_root() {
            return Err(ContainerError::Tool { tool: "the image store", reason: "this needs root".into() });
        }
        tool::require("buildah", "buildah")?;
        let root = self.layout.storage();
        settings::write(&self.layout)?;
        for driver in [Driver::Overlay, Driver::Vfs] {
            if root.join(format!("{}-images", driver.name())).exists() {
                return Ok(driver);
            }
        }
        let mut attempt = self.command(Driver::Overlay)?;
        match tool::output("buildah", attempt.arg("images")).await {
            Ok(_) => Ok(Driver::Overlay),
            // Some file systems cannot carry overlays: another overlay, some network mounts.
            Err(ContainerError::Tool { reason, .. }) if reason.contains("overlay") => {
                tracing::warn!(%reason, "no overlay file system here: images are kept as whole copies");
                Ok(Driver::Vfs)
            }
            Err(error) => Err(error),
        }
    }

    async fn buildah(&self) -> Result<Command, ContainerError> {
        self.command(self.driver().await?)
    }

    /// Buildah with our store and settings, and of our environment only what it is to know.
    fn command(&self, driver: Driver) -> Result<Command, ContainerError> {
        let mut command = Command::new(tool::require("buildah", "buildah")?);
        command.env_clear().env("TMPDIR", self.layout.scratch());
        for name in host::BUILDAH_VARIABLES.iter().chain(&host::PROXY_VARIABLES) {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        settings::apply(&mut command, &self.layout);
        command
            .arg("--root")
            .arg(self.layout.storage())
            .arg("--runroot")
            .arg(self.layout.storage_run())
            .args(["--storage-driver", driver.name()]);
        if driver == Driver::Overlay {
            // Else each command mounts the folder of all layers over itself for as long as it runs: a container that is just
            // being started from them finds its layers in a mount that is gone.
            command.args(["--storage-opt", "overlay.skip_mount_home=true"]);
        }
        Ok(command)
    }

    async fn images(&self) -> Result<Vec<ImageRecord>, ContainerError> {
        storage::images(&self.layout.storage(), self.driver().await?)
    }

    /// Makes an image of the store runnable, if it is not yet, and describes it.
    async fn prepare(&self, record: &ImageRecord) -> Result<Image, ContainerError> {
        let digest = format!("sha256:{}", record.id);
        let names = record.names.clone().unwrap_or_default();
        if let Some(known) = prepared::read(&self.layout, &digest)?
            && prepared::ask_for(&self.layout, &digest)?
        {
            return Ok(Image { names, ..known.image });
        }
        // Whoever tidies is done with it then, or has not begun.
        let _tidied =
            session::take(self, session::open(self)?, rustix::fs::FlockOperation::LockShared).await?;
        if !self.images().await?.iter().any(|image| image.id == record.id) {
            let reason = "it was removed just now".into();
            return Err(ContainerError::NoImage { image: digest, reason });
        }
        let driver = self.driver().await?;
        let pin = pin_name(&record.id);
        let layer = match self.pinned(driver, &record.id)? {
            Some(layer) => layer,
            None => {
                let mut from = self.buildah().await?;
                from.args(["from", "--pull-never", "--name", &pin, &record.id]);
                let made = tool::output("buildah", &mut from).await;
                // Somebody else may have made it at the same moment.
                match (self.pinned(driver, &record.id)?, made) {
                    (Some(layer), _) => layer,
                    (None, Err(error)) => return Err(error),
                    (None, Ok(_)) => {
                        let reason = "it made a working container that is not there".into();
                        return Err(ContainerError::Tool { tool: "buildah", reason });
                    }
                }
            }
        };
        hit("container.image.pinned");
        let chain = storage::chain_below(&self.layout.storage(), driver, &layer)?;
        let described = self.describe(&record.id).await?;
        let image = Image {
            digest,
            names: Vec::new(),
            size: ByteSize(chain.size),
            created: described.created.unwrap_or(Timestamp::UNIX_EPOCH),
            entrypoint: described.config.entrypoint.unwrap_or_default(),
            command: described.config.cmd.unwrap_or_default(),
            environment: described.config.env.unwrap_or_default(),
            working_dir: described.config.working_dir,
            user: described.config.user,
            platform: Platform::of(&described.os, &described.architecture, described.variant.as_deref()),
        };
        prepared::write(&self.layout, &Prepared { image: image.clone(), layers: chain.folders, pin })?;
        Ok(Image { names, ..image })
    }

    /// The layer of an image's pin, if there is one.
    fn pinned(&self, driver: Driver, id: &str) -> Result<Option<String>, ContainerError> {
        let pin = pin_name(id);
        let containers = storage::containers(&self.layout.storage(), driver)?;
        let ours =
            |one: &storage::ContainerRecord| one.image == id && one.names.iter().flatten().any(|n| *n == pin);
        Ok(containers.into_iter().find(ours).map(|container| container.layer))
    }

    /// The image's configuration, as the OCI image spec has it.
    async fn describe(&self, id: &str) -> Result<Configuration, ContainerError> {
        #[derive(Deserialize)]
        struct Inspected {
            #[serde(rename = "OCIv1")]
            oci: Configuration,
        }
        let mut inspect = self.buildah().await?;
        let text = tool::output("buildah", inspect.args(["inspect", "--type", "image", id])).await?;
        let inspected: Inspected = serde_json::from_str(&text).map_err(|error| ContainerError::Tool {
            tool: "buildah",
            reason: format!("it describes the image in a way we do not know: {error}"),
        })?;
        Ok(inspected.oci)
    }

    async fn find(&self, wanted: &Reference) -> Result<Option<ImageRecord>, ContainerError> {
        Ok(self.images().await?.into_iter().find(|image| match wanted {
            Reference::Digest(digest) => digest.strip_prefix("sha256:") == Some(&image.id),
            Reference::Name(name) => {
                image.names.iter().flatten().any(|one| one == name) || by_manifest(image, name)
            }
        }))
    }

    async fn image_of(&self, id: &str) -> Result<Image, ContainerError> {
        let digest = Reference::Digest(format!("sha256:{id}"));
        let record = self.find(&digest).await?.ok_or_else(|| ContainerError::Tool {
            tool: "buildah",
            reason: format!("the image {id} that it made is not in the store"),
        })?;
        self.prepare(&record).await
    }

    /// Pulls an image by its complete name, whether one of that name is there or not.
    async fn fetch(
        &self,
        name: &str,
        platform: Option<&Platform>,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError> {
        let layers = storage::layers(&self.layout.storage(), self.driver().await?)?;
        let stored = layers.into_values().filter_map(|layer| layer.compressed_diff_digest).collect();
        self.fetch_without(name, platform, stored, lines).await
    }

    /// Pulls all but the layers with these digests, which the store has.
    async fn fetch_without(
        &self,
        name: &str,
        platform: Option<&Platform>,
        mut stored: HashSet<String>,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError> {
        loop {
            let pulled = self.puller.pull(name, platform, &stored, lines).await?;
            lines.line(&format!("unpacking {name}"));
            match import::run(self, &pulled.folder, name, pulled.platform.as_ref()).await {
                // Layers that were in the store are gone since.
                Err(_) if pulled.lacking => stored = HashSet::new(),
                Err(error) => return Err(error),
                Ok(id) => {
                    let image = self.image_of(&id).await;
                    pulled.finish();
                    return image;
                }
            }
        }
    }

    async fn tag(&self, id: &str, name: &str) -> Result<(), ContainerError> {
        let mut tag = self.buildah().await?;
        tool::output("buildah", tag.args(["tag", id, &reference::stored(name)])).await.map(drop)
    }

    async fn unpin(&self, id: &str) -> Result<(), ContainerError> {
        if self.pinned(self.driver().await?, id)?.is_some() {
            let mut unpin = self.buildah().await?;
            tool::output("buildah", unpin.args(["rm", &pin_name(id)])).await?;
        }
        Ok(())
    }

    /// Takes names away; an image goes with its last. One by one: of several in one command, Buildah forgets some.
    async fn remove_names(&self, names: &[String]) -> Result<(), ContainerError> {
        for name in names {
            let mut remove = self.buildah().await?;
            tool::output("buildah", remove.arg("rmi").arg(reference::stored(name))).await?;
        }
        Ok(())
    }

    /// Takes away the names that images had on their way in.
    async fn remove_interim_names(&self, prefix: &str) -> Result<(), ContainerError> {
        let interim = |name: &String| name.starts_with(prefix);
        let images = self.images().await?;
        let names: Vec<String> =
            images.into_iter().flat_map(|image| image.names.unwrap_or_default()).collect();
        self.remove_names(&names.into_iter().filter(interim).collect::<Vec<_>>()).await
    }
}

/// `name@sha256:…` means the image whose manifest has that digest, if it goes by that name at all.
fn by_manifest(image: &ImageRecord, wanted: &str) -> bool {
    let Some((path, digest)) = wanted.split_once('@') else { return false };
    let same_path = |name: &String| {
        let name = name.split_once('@').map_or(name.as_str(), |(path, _)| path);
        name == path || name.rsplit_once(':').is_some_and(|(bare, _)| bare == path)
    };
    let of_it = || image.big_data_names.iter().any(|one| one.strip_prefix("manifest-") == Some(digest));
    (image.digest == digest || of_it()) && image.names.iter().flatten().any(same_path)
}

/// The working container that keeps an image's layers.
fn pin_name(id: &str) -> String {
    format!("{PIN_PREFIX}{}", id.get(..24).unwrap_or(id))
}

const PIN_PREFIX: &str = "tandem-";

/// How the names begin that builds make up.
pub(super) const OWN_NAMES: &str = "localhost/tandem/";

/// OCI image spec 1.1, "Image configuration".
#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    created: Option<Timestamp>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    config: Execution,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Execution {
    user: String,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: String,
}

#[async_trait]
impl Builder for BuildahStore {
    async fn build(&self, request: &BuildRequest, lines: &dyn Lines) -> Result<Built, ContainerError> {
        let build::Made { id, reused, begun } = build::run(self, request, lines).await?;
        hit("container.image.built");
        let image = self.image_of(&id).await?;
        let taken_over = |record: &ImageRecord| reused.iter().any(|id| record.id.starts_with(id.as_str()));
        let since = self.images().await?.iter().filter(|r| taken_over(r)).filter_map(|r| r.created).min();
        Ok(Built { image, since: since.map_or(begun, |since| since.min(begun)) })
    }

    async fn resolve(&self, image: &ImageRef, lines: &dyn Lines) -> Result<Image, ContainerError> {
        let wanted = reference::parse(image)?;
        if let Some(record) = self.find(&wanted).await? {
            return self.prepare(&record).await;
        }
        let Reference::Name(name) = &wanted else {
            let reason = "there is no image with this digest in the store".into();
            return Err(ContainerError::NoImage { image: image.0.clone(), reason });
        };
        self.fetch(name, None, lines).await
    }

    async fn pull(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError> {
        let name = reference::name(&image.0)?;
        self.fetch(&name, platform, lines).await
    }

    async fn import(&self, file: &Path, name: &str) -> Result<Image, ContainerError> {
        let name = reference::name(name)?;
        let id = import::run(self, file, &name, None).await?;
        self.image_of(&id).await
    }

    async fn list(&self) -> Result<Vec<Image>, ContainerError> {
        let mut all = Vec::new();
        for record in self.images().await? {
            let names = record.names.clone().unwrap_or_default();
            // Who lists them asks for none of them: one that nobody uses goes all the same.
            if let Some(known) = prepared::read(&self.layout, &format!("sha256:{}", record.id))? {
                all.push(Image { names, ..known.image });
                continue;
            }
            // Without a name it is a step of some build, kept to be built upon.
            if names.is_empty() {
                continue;
            }
            match self.prepare(&record).await {
                Ok(image) => all.push(image),
                // It goes just now.
                Err(ContainerError::NoImage { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        all.sort_by(|a, b| (&a.names, &a.digest).cmp(&(&b.names, &b.digest)));
        Ok(all)
    }

    async fn names(&self) -> Result<Vec<(String, String)>, ContainerError> {
        let named = |image: ImageRecord| {
            let digest = format!("sha256:{}", image.id);
            image.names.unwrap_or_default().into_iter().map(move |name| (name, digest.clone()))
        };
        let all = self.images().await?.into_iter().flat_map(named);
        Ok(all.filter(|(name, _)| !name.starts_with(import::INTERIM)).collect())
    }

    async fn export(&self, digest: &str, folder: &Path) -> Result<(), ContainerError> {
        let Some(record) = self.find(&Reference::Digest(digest.to_owned())).await? else {
            let reason = "it is not in the store".into();
            return Err(ContainerError::NoImage { image: digest.to_owned(), reason });
        };
        export::run(self, &record.id, folder).await
    }

    async fn remove(&self, image: &ImageRef) -> Result<(), ContainerError> {
        let wanted = reference::parse(image)?;
        let Some(record) = self.find(&wanted).await? else {
            let reason = "it is not in the store".into();
            return Err(ContainerError::NoImage { image: image.0.clone(), reason });
        };
        let names = record.names.clone().unwrap_or_default();
        if let Reference::Name(name) = &wanted
            && names.len() > 1
            && names.contains(name)
        {
            return self.remove_names(std::slice::from_ref(name)).await;
        }
        prepared::forget(&self.layout, &format!("sha256:{}", record.id), &image.0)?;
        hit("container.image.forgotten");
        self.unpin(&record.id).await?;
        let last = if names.is_empty() { vec![record.id.clone()] } else { names };
        self.remove_names(&last).await
    }
}

#[cfg(test)]
mod escape;
#[cfg(test)]
mod pulling;
#[cfg(test)]
mod tests;
