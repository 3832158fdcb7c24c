//! The images of tasks and services: built once for the same content, found again by digest.
//!
//! | key | value |
//! |---|---|
//! | `task/image/<digest>` | the [`Image`], so that a start need not ask the image store |
//! | `task/built/<hash>` | the digest of the image that was built from what the hash stands for |
//!
//! Both only repeat what is true elsewhere: losing one costs a build or a question.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_container::{BuildRequest, Builder, ContainerError, Image, ImageRef, Lines};
use tandem_model::{ByteSize, Urn, inputs};
use tandem_store::{Batch, Store};

pub(crate) mod context;
mod error;
mod run;

#[cfg(test)]
pub(crate) use self::run::PATH;
pub(crate) use self::{
    error::ImageError,
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

/// Where an image comes from: exactly one of the two.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) build: Option<&'a inputs::Build>,
    pub(crate) image: Option<&'a str>,
}

pub(crate) struct Images {
    home: Home,
    store: Arc<dyn Store>,
    builder: Arc<dyn Builder>,
    /// One build of the same content at a time: the second one finds the first one's image.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Images {
    pub(crate) fn new(home: Home, store: Arc<dyn Store>, builder: Arc<dyn Builder>) -> Self {
        Self { home, store, builder, turns: Mutex::default() }
    }

    /// The image of a resource, built if need be.
    pub(crate) async fn of(
        &self,
        urn: &Urn,
        source: Source<'_>,
        lines: &dyn provider::Lines,
    ) -> Result<Image, ImageError> {
        let image = match (source.build, source.image) {
            (Some(build), None) => self.build(urn, build, lines).await?,
            (None, Some(name)) => self.builder.resolve(&ImageRef(name.to_owned())).await?,
            _ => return Err(ImageError::Source { of: urn.clone() }),
        };
        self.remember(&image, None).await?;
        Ok(image)
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
        let image = match self.builder.resolve(&ImageRef(digest.to_owned())).await {
            Err(ContainerError::NoImage { .. }) => {
                tracing::info!(%urn, digest, "an image is gone; making it again");
                self.of(urn, source, &Logged(urn)).await?
            }
            resolved => resolved?,
        };
        let mut batch = Batch::default();
        batch.put(image_key(digest), encode(&image));
        self.store.commit(batch).await?;
        Ok(image)
    }

    async fn build(
        &self,
        urn: &Urn,
        build: &inputs::Build,
        lines: &dyn provider::Lines,
    ) -> Result<Image, ImageError> {
        let (unpacking_home, unpacking_urn, unpacking) = (self.home.clone(), urn.clone(), build.clone());
        let unpacked = tokio::task::spawn_blocking(move || {
            let folder = context::unpack(&unpacking_home, &unpacking_urn, &unpacking)?;
            let path = folder.path().join(&unpacking.dockerfile);
            let dockerfile = fs::read_to_string(&path).map_err(|source| ImageError::Io { path, source })?;
            Ok::<_, ImageError>((folder, dockerfile))
        });
        let (folder, dockerfile) = match unpacked.await {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let bases = self.base_digests(&dockerfile, &build.args).await?;
        let hash = hash(build, bases.as_ref());
        let turn = self.turn(&hash);
        let _turn = turn.lock().await;
        if bases.is_some()
            && let Some(image) = self.built(&hash).await?
        {
            lines.line(&format!("{} was built before: {}", build.folder, image.digest));
            return Ok(image);
        }
        let request = BuildRequest {
            context: folder.path().to_owned(),
            dockerfile: build.dockerfile.clone(),
            args: build.args.clone(),
            target: build.target.clone(),
            name: name(urn, &hash),
        };
        let image = self.builder.build(&request, &Passed(lines)).await?;
        self.remember(&image, Some(&hash)).await?;
        Ok(image)
    }

    /// The digests of the images that the Dockerfile reads; `None` if that cannot be told.
    async fn base_digests(
        &self,
        dockerfile: &str,
        args: &BTreeMap<String, String>,
    ) -> Result<Option<Vec<String>>, ImageError> {
        let Some(bases) = context::bases(dockerfile, args) else { return Ok(None) };
        let mut digests = Vec::new();
        for base in bases {
            digests.push(self.builder.resolve(&ImageRef(base)).await?.digest);
        }
        Ok(Some(digests))
    }

    /// The image that was built from that, if it is still there.
    async fn built(&self, hash: &str) -> Result<Option<Image>, ImageError> {
        let Some(digest) = self.store.snapshot()?.get(&built_key(hash))? else { return Ok(None) };
        match self.builder.resolve(&ImageRef(String::from_utf8_lossy(&digest).into_owned())).await {
            Ok(image) => Ok(Some(image)),
            Err(ContainerError::NoImage { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn remember(&self, image: &Image, built_from: Option<&str>) -> Result<(), ImageError> {
        let mut batch = Batch::default();
        batch.put(image_key(&image.digest), encode(image));
        if let Some(hash) = built_from {
            batch.put(built_key(hash), image.digest.clone().into_bytes());
        }
        Ok(self.store.commit(batch).await?)
    }

    fn turn(&self, hash: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(hash.to_owned()).or_default().clone()
    }
}

/// What is wrong with a limit below which no container starts: a mistake of the unit.
pub(crate) fn too_small(property: &str, memory: ByteSize) -> Option<String> {
    (memory.bytes() < 4 << 20).then(|| {
        format!(
            "`{property}` is {memory}; a container cannot start with less than 4 MiB (a plain number is MiB)"
        )
    })
}

/// Whether a row only repeats what the image store of this machine has, and so is not to be restored on another.
pub(crate) fn is_of_this_machine(row: &[u8]) -> bool {
    [&b"task/image/"[..], b"task/built/", b"service/replica/", b"service/network/"]
        .iter()
        .any(|prefix| row.starts_with(prefix))
}

fn encode(image: &Image) -> Vec<u8> {
    serde_json::to_vec(image).expect("an image has no maps")
}

fn image_key(digest: &str) -> Bytes {
    format!("task/image/{digest}").into()
}

fn built_key(hash: &str) -> Bytes {
    format!("task/built/{hash}").into()
}

/// What a build reads, as one name: context, Dockerfile, arguments, target and base images. Not what it is called.
fn hash(build: &inputs::Build, bases: Option<&Vec<String>>) -> String {
    let inputs::Build { folder: _, context, dockerfile, args, target } = build;
    let read = serde_json::json!([context, dockerfile, args, target, bases]);
    HEXLOWER.encode(&Sha256::digest(read.to_string()))
}

/// `localhost/tandem/<project>-<stack>-<task>:<hash>`, in the characters that names of images may have.
fn name(urn: &Urn, hash: &str) -> String {
    let raw = format!("{}-{}-{}", urn.stack.project, urn.stack.stack, urn.name).to_lowercase();
    let words: Vec<&str> =
        raw.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    format!("localhost/tandem/{}:{}", words.join("-"), &hash[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(json: serde_json::Value) -> inputs::Build {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_name_of_an_image_is_legal_whatever_the_task_is_called() {
        let urn = "urn:tandem:My.Shop:dev_1:task:ffmpeg--Task_".parse().unwrap();
        assert_eq!(name(&urn, "0123456789abcdef"), "localhost/tandem/my-shop-dev-1-ffmpeg-task:0123456789ab");
    }

    #[test]
    fn the_same_content_is_the_same_build_and_anything_it_reads_makes_another() {
        let one = build(serde_json::json!({ "folder": "./a", "context": "sha256:1" }));
        let moved = build(serde_json::json!({ "folder": "./b", "context": "sha256:1" }));
        let base = vec!["sha256:b".to_owned()];
        assert_eq!(hash(&one, Some(&base)), hash(&moved, Some(&base)));
        assert_ne!(hash(&one, Some(&base)), hash(&one, Some(&vec!["sha256:c".to_owned()])));
        let args = build(serde_json::json!({ "folder": "./a", "context": "sha256:1", "args": { "A": "1" } }));
        assert_ne!(hash(&one, Some(&base)), hash(&args, Some(&base)));
    }
}
