//! Takes out of the store what nobody needs any more: images, steps of builds, and what is left of prepared images.
//!
//! What goes is found from the store's records alone ([`plan`], which is pure); taking it away is Buildah's work, an image
//! at a time, in the order of `remove`. Killed at any point, an image without its file or its pin is still one that nobody
//! needs, and is found again.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::OwnedFd,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use rustix::fs::FlockOperation;
use tandem_failpoint::hit;
use tandem_model::ByteSize;

use super::{
    BuildahStore, OWN_NAMES, import, session,
    storage::{self, LayerRecord},
};
use crate::{
    ContainerError,
    layout::at,
    prepared,
    tidy::{Needs, Quiet, Tidy, Unused},
};

/// How long a file of an image may be without its image: it is written just after.
const UNFINISHED: Duration = Duration::from_secs(60 * 60);

type Layers = HashMap<String, LayerRecord>;

/// An image, as far as it matters here.
#[derive(Debug, Clone)]
struct Known {
    id: String,
    names: Vec<String>,
    /// The uppermost layer.
    layer: String,
    /// Whether containers can run from it. One that is not and has no name is a step of a build.
    prepared: bool,
    /// When it was made or last asked for.
    asked: SystemTime,
}

impl Known {
    fn digest(&self) -> String {
        format!("sha256:{}", self.id)
    }

    fn is_step(&self) -> bool {
        self.names.is_empty() && !self.prepared
    }
}

/// What goes, and how much each frees if those before it are gone.
fn plan(
    images: Vec<Known>,
    layers: &Layers,
    needs: &Needs,
    in_use: &HashSet<String>,
) -> Vec<(Known, ByteSize)> {
    let is_young = |one: &Known| needs.since.is_some_and(|since| one.asked > since);
    let is_named = |one: &Known| one.names.iter().any(|name| !name.starts_with(OWN_NAMES));
    let is_needed = |one: &Known| {
        let digest = one.digest();
        let by_name = needs.named && is_named(one);
        needs.images.contains(&digest) || in_use.contains(&digest) || by_name || is_young(one)
    };
    let (steps, images): (Vec<_>, Vec<_>) = images.into_iter().partition(Known::is_step);
    let (mut staying, mut going): (Vec<_>, Vec<_>) = images.into_iter().partition(is_needed);
    let (young, old): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_young);
    staying.extend(young);
    let mut counted: HashSet<&str> = staying.iter().flat_map(|one| chain(layers, &one.layer)).collect();
    // A step that something builds upon frees nothing, and the next build finds it.
    going.extend(old.into_iter().filter(|step| !counted.contains(step.layer.as_str())));
    // What builds upon another goes before it.
    going.sort_by_key(|one| {
        (std::cmp::Reverse(chain(layers, &one.layer).count()), one.is_step(), one.id.clone())
    });
    let mut left: HashMap<&str, usize> = HashMap::new();
    for layer in going.iter().flat_map(|one| chain(layers, &one.layer)) {
        *left.entry(layer).or_default() += 1;
    }
    let mut freed = Vec::new();
    for one in &going {
        let mut size = 0;
        for layer in chain(layers, &one.layer) {
            // The last that has a layer frees it.
            let others = left.entry(layer).or_default();
            *others -= 1;
            if *others == 0 && counted.insert(layer) {
                size += layers.get(layer).map_or(0, |layer| layer.diff_size);
            }
        }
        freed.push(ByteSize(size));
    }
    going.iter().cloned().zip(freed).collect()
}

/// A layer and all below it.
fn chain<'a>(layers: &'a Layers, top: &str) -> impl Iterator<Item = &'a str> {
    let next = |layer: &&'a LayerRecord| layers.get(layer.parent.as_deref()?);
    std::iter::successors(layers.get(top), next).map(|layer| layer.id.as_str())
}

/// The lock of builds.
#[derive(Debug)]
struct Held(#[expect(dead_code, reason = "held for its lock")] OwnedFd);

impl Quiet for Held {}

#[async_trait]
impl Tidy for BuildahStore {
    async fn quiet(&self, wait: bool) -> Result<Option<Box<dyn Quiet>>, ContainerError> {
        self.driver().await?;
        if !wait {
            let lock = session::open(self)?;
            let free = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !free {
                return Ok(None);
            }
            session::clear(self).await?;
            forget_lost(self).await?;
            return Ok(Some(Box::new(Held(lock))));
        }
        let lock = session::alone(self).await?;
        session::clear(self).await?;
        forget_lost(self).await?;
        Ok(Some(Box::new(Held(lock))))
    }

    async fn unused(&self, needs: &Needs) -> Result<Vec<Unused>, ContainerError> {
        if !self.layout.storage().exists() {
            return Ok(Vec::new());
        }
        let layers = storage::layers(&self.layout.storage(), self.driver().await?)?;
        let mut images = Vec::new();
        for record in self.images().await? {
            let asked = prepared::asked_for(&self.layout, &format!("sha256:{}", record.id))?;
            let made = record.created.map(SystemTime::from);
            images.push(Known {
                names: record.names.unwrap_or_default(),
                layer: record.layer,
                prepared: asked.is_some(),
                asked: asked.or(made).unwrap_or(SystemTime::UNIX_EPOCH),
                id: record.id,
            });
        }
        // What is on its way in is the import's to clear.
        images.retain(|one| !one.names.iter().any(|name| name.starts_with(import::INTERIM)));
        let in_use = prepared::in_use(&self.layout)?;
        let planned = plan(images, &layers, needs, &in_use).into_iter();
        let unused = planned.map(|(one, size)| Unused {
            digest: one.digest(),
            step: one.is_step(),
            names: one.names,
            size,
        });
        Ok(unused.collect())
    }

    async fn discard(&self, digest: &str, planned: SystemTime) -> Result<bool, ContainerError> {
        match prepared::forget_unasked(&self.layout, digest, planned) {
            Err(ContainerError::InUse { .. }) => return Ok(false),
            forgotten => forgotten?,
        }
        hit("container.discard.forgotten");
        let id = digest.trim_start_matches("sha256:");
        self.unpin(id).await?;
        hit("container.discard.unpinned");
        while let Some(record) = self.images().await?.into_iter().find(|record| record.id == id) {
            let name = record.names.unwrap_or_default().pop();
            if let Err(error) = self.remove_names(&[name.unwrap_or_else(|| id.to_owned())]).await {
                // Buildah takes along what an image was built upon, and fails where it cannot go on from there.
                if self.images().await?.iter().any(|record| record.id == id) {
                    return Err(error);
                }
            }
            hit("container.discard.removed");
        }
        Ok(true)
    }
}

/// Removes the files of prepared images that the store has no more, and those that were never finished.
async fn forget_lost(store: &BuildahStore) -> Result<(), ContainerError> {
    let known: HashSet<String> = store.images().await?.into_iter().map(|record| record.id).collect();
    for entry in fs::read_dir(store.layout.images()).into_iter().flatten().flatten() {
        let path = entry.path();
        let age = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
        let name = entry.file_name().to_string_lossy().into_owned();
        if age.is_none_or(|age| age < UNFINISHED)
            || name.strip_suffix(".json").is_some_and(|id| known.contains(id))
        {
            continue;
        }
        match name.strip_suffix(".json") {
            None => fs::remove_file(&path).map_err(at(path))?,
            Some(id) => match prepared::forget(&store.layout, &format!("sha256:{id}"), id) {
                Err(ContainerError::InUse { .. }) => {}
                forgotten => forgotten?,
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Layers by `id` or `id<parent`, each of as many bytes as its position says.
    fn layers(all: &[&str]) -> Layers {
        let layer = |(index, text): (usize, &&str)| {
            let (id, parent) =
                text.split_once('<').map_or((*text, None), |(id, parent)| (id, Some(parent.to_owned())));
            (
                id.to_owned(),
                LayerRecord {
                    id: id.to_owned(),
                    parent,
                    compressed_diff_digest: None,
                    diff_size: 10u64.pow(u32::try_from(index).unwrap()),
                },
            )
        };
        all.iter().enumerate().map(layer).collect()
    }

    /// An image whose id is its uppermost layer's: with names, prepared (`None`), or a step (`Some("")`).
    fn image(id: &str, names: Option<&str>) -> Known {
        Known {
            id: id.to_owned(),
            names: names.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            layer: id.to_owned(),
            prepared: names != Some(""),
            asked: SystemTime::UNIX_EPOCH + Duration::from_secs(100),
        }
    }

    fn going(images: &[Known], layers: &Layers, needs: &Needs) -> Vec<(String, u64)> {
        let plan = plan(images.to_vec(), layers, needs, &HashSet::from(["sha256:run".to_owned()]));
        plan.into_iter().map(|(one, size)| (one.id, size.bytes())).collect()
    }

    fn named() -> Needs {
        Needs { named: true, ..Needs::default() }
    }

    #[test]
    fn what_has_a_name_a_user_or_a_container_stays_and_the_rest_goes() {
        let layers = layers(&["base", "used<base", "run<base", "old<base", "none<base"]);
        let images = [
            image("base", Some("docker.io/library/base:latest")),
            image("used", Some("localhost/tandem/p-dev-t:1")),
            image("run", None),
            image("old", Some("localhost/tandem/p-dev-t:0")),
            image("none", None),
        ];
        let needs = Needs { images: ["sha256:used".to_owned()].into(), ..named() };
        assert_eq!(going(&images, &layers, &needs), [("none".into(), 10_000), ("old".into(), 1000)]);
        // With all names gone the base goes, and frees nothing: others are built upon it.
        let all = Needs { named: false, ..needs };
        assert_eq!(going(&images, &layers, &all).last().unwrap(), &("base".into(), 0));
    }

    #[test]
    fn a_layer_is_freed_by_the_last_that_has_it() {
        let layers = layers(&["base", "a<base", "b<base"]);
        let images = [image("a", None), image("b", None), image("base", None)];
        let freed = going(&images, &layers, &named());
        assert_eq!(freed, [("a".into(), 10), ("b".into(), 100), ("base".into(), 1)]);
    }

    #[test]
    fn steps_stay_while_something_is_built_upon_them() {
        let layers = layers(&["base", "step<base", "app<step", "other<base", "more<other"]);
        let images = [
            image("app", Some("docker.io/library/app:latest")),
            image("step", Some("")),
            image("other", Some("")),
            image("more", Some("")),
        ];
        assert_eq!(going(&images, &layers, &named()), [("more".into(), 10_000), ("other".into(), 1000)]);
        // One that is young keeps those that it was built upon.
        let mut young = images.clone();
        young[3].asked += Duration::from_secs(50);
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(120);
        assert!(going(&young, &layers, &Needs { since: Some(since), ..named() }).is_empty());
    }

    #[test]
    fn what_was_asked_for_since_then_stays() {
        let (layers, images) = (layers(&["a"]), [image("a", None)]);
        let since =
            |seconds| Needs { since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), ..named() };
        assert!(going(&images, &layers, &since(99)).is_empty());
        assert_eq!(going(&images, &layers, &since(101)), [("a".into(), 1)]);
    }
}
