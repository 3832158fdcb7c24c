//! Takes out of the engine what came by this cloud and nobody needs any more. What came otherwise is never touched.

use std::{collections::BTreeSet, time::SystemTime};

use async_trait::async_trait;
use tandem_model::ByteSize;
use tokio::sync::OwnedRwLockWriteGuard;

use super::{Docker, engine::status, marks::Mark};
use crate::{
    Builder, ContainerError,
    buildah::OWN_NAMES,
    tidy::{Needs, Quiet, Tidy, Unused},
};

/// The lock of builds.
#[derive(Debug)]
struct Held(#[expect(dead_code, reason = "held for its lock")] OwnedRwLockWriteGuard<()>);

impl Quiet for Held {}

/// An image of the engine.
#[derive(Debug, Clone, Default)]
struct Known {
    digest: String,
    names: Vec<String>,
    /// Lowest first.
    layers: Vec<String>,
    size: u64,
    step: bool,
    /// When it was asked for last; `None` if it did not come by this cloud.
    asked: Option<SystemTime>,
}

/// What goes, those that others are built upon after these, and how much each frees if those before it are gone.
fn plan(all: &[Known], needs: &Needs, in_use: &BTreeSet<String>) -> Vec<Unused> {
    let goes = |one: &&Known| {
        let young = needs.since.is_some_and(|since| one.asked.is_none_or(|asked| asked > since));
        let named = needs.named && one.names.iter().any(|name| !name.starts_with(OWN_NAMES));
        let needed = needs.images.contains(&one.digest) || in_use.contains(&one.digest);
        one.asked.is_some() && !(young || named || needed)
    };
    let mut going: Vec<&Known> = all.iter().filter(goes).collect();
    going.sort_by_key(|one| (std::cmp::Reverse(one.layers.len()), one.step, one.digest.clone()));
    let mut gone: BTreeSet<&str> = BTreeSet::new();
    let mut unused = Vec::new();
    for one in going {
        gone.insert(&one.digest);
        // What it stands upon stays as long as another image is there that is it, or all of it and more.
        let others = all.iter().filter(|other| !gone.contains(other.digest.as_str()));
        let kept = others.filter_map(|other| {
            let below = one.layers.starts_with(&other.layers);
            let above = other.layers.starts_with(&one.layers);
            (below || above).then_some(other.size.min(one.size))
        });
        let size = one.size - kept.max().unwrap_or(0);
        unused.push(Unused {
            digest: one.digest.clone(),
            names: one.names.clone(),
            step: one.step,
            size: ByteSize(size),
        });
    }
    unused
}

impl Docker {
    async fn known(&self) -> Result<Vec<Known>, ContainerError> {
        let client = self.engine.client().await?;
        let mut digests: BTreeSet<String> =
            [Mark::Image, Mark::Step].into_iter().flat_map(|mark| self.marked(mark)).collect();
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        digests.extend(self.names().await?.into_iter().map(|(_, digest)| digest));
        let mut all = Vec::new();
        for digest in digests {
            let found = match client.inspect_image(&digest).await {
                Ok(found) => found,
                Err(error) if status(&error) == Some(404) => {
                    // The engine dropped it, or somebody did.
                    self.unmark(&digest)?;
                    continue;
                }
                Err(error) => return Err(self.engine.failed(error)),
            };
            let asked = self.asked_for(Mark::Image, &digest);
            all.push(Known {
                names: self.find(&digest).await?.map(|image| image.names).unwrap_or_default(),
                layers: found.root_fs.and_then(|root| root.layers).unwrap_or_default(),
                size: found.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                step: asked.is_none(),
                asked: asked.or_else(|| self.asked_for(Mark::Step, &digest)),
                digest,
            });
        }
        Ok(all)
    }
}

#[async_trait]
impl Tidy for Docker {
    async fn quiet(&self, wait: bool) -> Result<Option<Box<dyn Quiet>>, ContainerError> {
        let builds = self.builds.clone();
        let held = match wait {
            true => Some(builds.write_owned().await),
            false => builds.try_write_owned().ok(),
        };
        Ok(held.map(|held| Box::new(Held(held)) as Box<dyn Quiet>))
    }

    async fn unused(&self, needs: &Needs) -> Result<Vec<Unused>, ContainerError> {
        let all = self.known().await?;
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let in_use = self.in_use().await?.into_iter().collect();
        Ok(plan(&all, needs, &in_use))
    }

    async fn discard(&self, digest: &str, planned: SystemTime) -> Result<bool, ContainerError> {
        if self.asked_for(Mark::Image, digest).is_some_and(|asked| asked > planned)
            || self.in_use().await?.iter().any(|used| used == digest)
        {
            return Ok(false);
        }
        while let Some(found) = self.find(digest).await? {
            let name = found.names.first().cloned();
            let last = name.is_none();
            match self.delete(name.as_deref().unwrap_or(digest)).await {
                Ok(()) => {}
                Err(ContainerError::InUse { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
            if last {
                break;
            }
        }
        self.unmark(digest)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn image(digest: &str, layers: &[&str], size: u64, asked: Option<u64>) -> Known {
        Known {
            digest: digest.into(),
            names: vec![format!("docker.io/library/{digest}:1")],
            layers: layers.iter().map(|layer| (*layer).to_owned()).collect(),
            size,
            asked: asked.map(|seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
            step: false,
        }
    }

    fn planned(all: &[Known], needs: &Needs) -> Vec<(String, u64)> {
        let used = BTreeSet::from(["used".to_owned()]);
        plan(all, needs, &used).into_iter().map(|one| (one.digest, one.size.0)).collect()
    }

    #[test]
    fn only_what_came_by_this_cloud_and_is_not_needed_goes() {
        let all = [
            image("theirs", &["a"], 10, None),
            image("base", &["b"], 100, Some(1)),
            image("child", &["b", "c"], 130, Some(1)),
            image("used", &["d"], 10, Some(1)),
            image("needed", &["e"], 10, Some(1)),
            image("young", &["f"], 10, Some(9)),
        ];
        let since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        let images = BTreeSet::from(["needed".to_owned()]);
        let needs = Needs { images, named: false, since };
        assert_eq!(planned(&all, &needs), [("child".to_owned(), 30), ("base".to_owned(), 100)]);
        assert_eq!(planned(&all, &Needs { named: true, ..needs }), []);
    }
}
