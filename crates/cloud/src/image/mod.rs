//! The images of tasks and services: built once for the same content, found again by digest.
//!
//! | key | value |
//! |---|---|
//! | `task/image/<digest>` | the [`Image`], so that a start need not ask the image store |
//! | `task/built/<hash>` | the digest of the image that was built from what the hash stands for |
//! | `task/made/<digest>` | how an image was built, as far as a preview wants to know ([`facts`]) |
//!
//! All only repeat what is true elsewhere: losing one costs a build, a question or a remark.
//!
//! The secrets of a build are brought before each change ([`Images::entrust`]) and are in memory only, until then.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tandem_container::{Builder, ContainerError, Image, ImageRef, Lines, Unheard};
use tandem_model::{Secrets, Urn, inputs};
use tandem_store::{Batch, Store};

mod bare;
mod build;
pub(crate) mod context;
mod error;
mod facts;
mod files;
mod folder;
mod forgotten;
mod needed;
mod run;

#[cfg(test)]
pub(crate) use self::run::PATH;
pub use self::{
    error::ImageError,
    facts::{Base, BuildFacts},
    files::files,
};
pub(crate) use self::{
    forgotten::forgetting,
    needed::{digests_of, stand_in},
    run::{Unrunnable, Wanted},
};

use crate::{home::Home, provider};

/// Passes the lines of a build on.
struct Passed<'a>(&'a dyn provider::Lines);

impl Lines for Passed<'_> {
    fn line(&self, line: &str) {
        self.0.line(line);
    }
}

/// Where nobody looks on: the cloud's own log has the lines, for those who ask for them.
struct Logged<'a>(&'a Urn);

impl provider::Lines for Logged<'_> {
    fn line(&self, line: &str) {
        tracing::debug!(urn = %self.0, "{line}");
    }
}

/// Where an image comes from: exactly one of the three.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub build: Option<&'a inputs::Build>,
    pub image: Option<&'a str>,
    /// Code of the program, for which an image is next to nothing.
    pub function: Option<&'a inputs::Code>,
}

impl<'a> From<&'a inputs::Task> for Source<'a> {
    fn from(task: &'a inputs::Task) -> Self {
        Self { build: task.build.as_ref(), image: task.image.as_deref(), function: task.function.as_ref() }
    }
}

impl<'a> From<&'a inputs::Container> for Source<'a> {
    fn from(one: &'a inputs::Container) -> Self {
        Self { build: one.build.as_ref(), image: one.image.as_deref(), function: one.function.as_ref() }
    }
}

/// One for all of a cloud, so that a task and a service of one content are built once.
pub struct Images {
    home: Home,
    store: Arc<dyn Store>,
    builder: Arc<dyn Builder>,
    /// One build of the same content at a time: the second one finds the first one's image.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    entrusted: Mutex<HashMap<Urn, Secrets>>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").field("builder", &self.builder).finish_non_exhaustive()
    }
}

impl Images {
    pub fn new(home: Home, store: Arc<dyn Store>, builder: Arc<dyn Builder>) -> Self {
        let (turns, entrusted) = (Mutex::default(), Mutex::default());
        Self { home, store, builder, turns, entrusted }
    }

    /// Takes the secrets that the next build of this resource may need. Its next change uses them up.
    pub fn entrust(&self, urn: &Urn, secrets: Secrets) {
        self.entrusted().insert(urn.clone(), secrets);
    }

    /// The secrets for the builds of a resource's change, once.
    pub(crate) fn take_secrets(&self, urn: &Urn) -> Secrets {
        self.entrusted().remove(urn).unwrap_or_default()
    }

    fn entrusted(&self) -> MutexGuard<'_, HashMap<Urn, Secrets>> {
        self.entrusted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image of a resource, built if need be.
    pub(crate) async fn of(
        &self,
        urn: &Urn,
        source: Source<'_>,
        secrets: &Secrets,
        lines: &dyn provider::Lines,
    ) -> Result<Image, ImageError> {
        let image = match (source.build, source.image, source.function) {
            (None, None, Some(_)) => self.bare().await?,
            (Some(build), None, None) => self.build(urn, build, secrets, None, lines).await?,
            (None, Some(name), None) => {
                let image = self.builder.resolve(&ImageRef(name.to_owned()), &Passed(lines)).await?;
                if let Some(platform) = &image.platform {
                    platform.check_runs_here(&format!("the image `{name}`"))?;
                }
                image
            }
            _ => return Err(ImageError::Source { of: urn.clone() }),
        };
        let mut batch = Batch::default();
        batch.put(image_key(&image.digest), encode(&image));
        self.store.commit(batch).await?;
        Ok(image)
    }

    /// Whether `tandem` made this image on this machine, so that no registry has a newer one of it.
    ///
    /// # Errors
    /// [`ImageError`] if the store cannot be read.
    pub fn is_made_here(&self, digest: &str) -> Result<bool, ImageError> {
        Ok(self.made(digest)?.is_some())
    }

    /// Whether [`deployed`](Self::deployed) answers at once.
    pub(crate) fn knows(&self, digest: &str) -> bool {
        self.store
            .snapshot()
            .and_then(|snapshot| snapshot.get(&image_key(digest)))
            .is_ok_and(|known| known.is_some())
    }

    /// The image that a resource was deployed with. One that the image store does not have any more, as after a restore, is
    /// made again from what it was made of, and stands in for it from then on.
    pub(crate) async fn deployed(
        &self,
        urn: &Urn,
        source: Source<'_>,
        digest: &str,
    ) -> Result<Image, ImageError> {
        let known = self.store.snapshot()?.get(&image_key(digest))?;
        if let Some(image) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return Ok(image);
        }
        let image = match self.builder.resolve(&ImageRef(digest.to_owned()), &Unheard).await {
            Err(ContainerError::NoImage { .. }) => {
                tracing::info!(%urn, digest, "an image is gone; making it again");
                self.of(urn, source, &Secrets::default(), &Logged(urn)).await?
            }
            resolved => resolved?,
        };
        let mut batch = Batch::default();
        batch.put(image_key(digest), encode(&image));
        self.store.commit(batch).await?;
        Ok(image)
    }

    fn turn(&self, hash: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(hash.to_owned()).or_default().clone()
    }
}

/// Whether a row only repeats what the image store of this machine has, and so is not to be restored on another.
pub(crate) fn is_of_this_machine(row: &[u8]) -> bool {
    [&b"task/image/"[..], b"task/built/", b"task/made/", b"service/replica/", b"service/network/"]
        .iter()
        .any(|prefix| row.starts_with(prefix))
}

fn encode(image: &Image) -> Vec<u8> {
    serde_json::to_vec(image).expect("an image has no maps")
}

fn image_key(digest: &str) -> Bytes {
    format!("task/image/{digest}").into()
}
