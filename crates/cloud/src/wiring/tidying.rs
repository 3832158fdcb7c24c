//! What of the image store and of the registry goes, and when: what no resource, no run, no container and no name needs.
//!
//! | | goes by `tandem image prune` | by itself |
//! |---|---|---|
//! | an image that `up` or `tandem build` named, or without a name | at once | seven days after it was last asked for |
//! | steps of builds that nothing is built upon | at once | seven days after they were made |
//! | an image with a name that somebody gave it | with `--all` | never |
//! | what only the registry has | by its own rules ([`crate::registry`]) | likewise |
//!
//! While the disk is nearly full, "by itself" is after an hour.
//!
//! What is needed is asked for last: first since when the oldest change has been under way, then which images resources and
//! runs have. A change that ends between the two is seen in its resource; of one that goes on, all that it has asked for
//! since stays. The image store looks again at the moment of each removal ([`Tidy::discard`]). The rows, also the
//! registry's, go before the image that they speak of; a kill at any point leaves what the next time removes.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_container::tidy::{Needs, Tidy, Unused};
use tandem_failpoint::hit;
use tandem_model::{ByteSize, Explain, Kind, Report};
use tandem_store::Store;

use crate::{
    home::Home, image, registry::Registry, resource::Resources, service::Services, target::CloudTarget,
    task::Tasks,
};

/// How long what nobody needs is kept by itself. The guide says so.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How long while the disk is nearly full.
const KEPT_FULL: Duration = Duration::from_secs(60 * 60);
/// A disk is nearly full if so much is free at most, and less than a tenth of it.
const NEARLY_FULL: u64 = 5 << 30;
/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// What went, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pruned {
    /// Images and steps of builds.
    pub images: Vec<Unused>,
    /// How many blobs of the registry; not foreseen by a dry run.
    pub blobs: usize,
    /// Of the image store.
    pub freed: ByteSize,
}

/// Tidies the images of a cloud.
pub(crate) struct Tidying {
    pub(crate) home: Home,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) target: Arc<CloudTarget>,
    pub(crate) tasks: Tasks,
    pub(crate) services: Services,
    pub(crate) registry: Arc<Registry>,
    pub(crate) images: Arc<dyn Tidy>,
}

impl Tidying {
    /// Removes what nobody needs, at once. Waits for builds under way.
    ///
    /// # Errors
    /// A [`Report`] if something cannot be read or removed; what went is gone, and asking again goes on.
    pub(crate) async fn prune(&self, all: bool, dry_run: bool) -> Result<Pruned, Report> {
        match dry_run {
            true => {
                let images = self.unused(!all, None).await?;
                let freed = images.iter().map(|one| one.size.0).sum();
                Ok(Pruned { images, blobs: 0, freed: ByteSize(freed) })
            }
            false => {
                let _quiet = self.images.quiet(true).await.map_err(|error| error.report())?;
                self.remove(!all, None).await
            }
        }
    }

    /// What runs by itself: nothing while somebody builds.
    async fn tidy(&self, now: SystemTime) -> Result<Pruned, Report> {
        if !self.home.containers().exists() {
            return Ok(Pruned::default());
        }
        let Some(_quiet) = self.images.quiet(false).await.map_err(|error| error.report())? else {
            return Ok(Pruned::default());
        };
        let kept = if nearly_full(&self.home.containers()) { KEPT_FULL } else { KEPT };
        self.remove(true, now.checked_sub(kept)).await
    }

    async fn unused(&self, named: bool, since: Option<SystemTime>) -> Result<Vec<Unused>, Report> {
        let since = self.target.oldest_change().into_iter().chain(since).min();
        // Resources before runs: a run has the image that its task had when it was accepted.
        let deployed = self.resources.list(None).into_iter();
        let deployed = deployed.filter(|r| matches!(r.urn.kind, Kind::Task | Kind::Service));
        let mut images: BTreeSet<String> = deployed.flat_map(|r| image::digests_of(&r.outputs)).collect();
        images.extend(self.tasks.images_of_open_runs().map_err(|error| error.report())?);
        // A version that serves until the deployed one is healthy.
        images.extend(self.services.images());
        // What was made again after a restore has another digest than the outputs say.
        let snapshot = self.store.snapshot().map_err(|error| error.report())?;
        for digest in images.clone() {
            let stand_in = image::stand_in(&*snapshot, &digest).map_err(|error| error.report())?;
            images.extend(stand_in);
        }
        let needs = Needs { images, named, since };
        self.images.unused(&needs).await.map_err(|error| error.report())
    }

    async fn remove(&self, named: bool, since: Option<SystemTime>) -> Result<Pruned, Report> {
        let planned = SystemTime::now();
        let mut pruned = Pruned::default();
        for one in self.unused(named, since).await? {
            let forgotten = self.store.commit(image::forgetting(&one.digest)).await;
            forgotten.map_err(|error| error.report())?;
            hit("images.prune.forgotten");
            // A name that stays after all is made pullable again by the next pull.
            for name in &one.names {
                self.registry.forget(name).await.map_err(|error| error.report())?;
            }
            match self.images.discard(&one.digest, planned).await {
                Ok(true) => {}
                Ok(false) => continue,
                // One that cannot go must not keep the others.
                Err(error) => {
                    tracing::warn!(image = one.digest, %error, "an image cannot be removed; the next time tries again");
                    continue;
                }
            }
            pruned.freed.0 += one.size.0;
            pruned.images.push(one);
        }
        pruned.blobs = self.registry.sweep(Timestamp::now()).await.map_err(|error| error.report())?;
        Ok(pruned)
    }
}

/// Tidies at once and then every hour, until it is dropped or the cloud is gone.
pub(crate) async fn run<S: Future<Output = ()>>(tidying: Weak<Tidying>, sleep: impl Fn(Duration) -> S) {
    loop {
        {
            let Some(tidying) = tidying.upgrade() else { return };
            match tidying.tidy(SystemTime::now()).await {
                Ok(Pruned { images, freed, .. }) if !images.is_empty() => {
                    tracing::info!(images = images.len(), %freed, "removed images that nobody needs");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = error.message, "cannot tidy the images; the next hour tries again")
                }
            }
        }
        sleep(EVERY).await;
    }
}

fn nearly_full(folder: &Path) -> bool {
    let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return false };
    let (free, all) = (disk.blocks_available() * disk.fragment_size(), disk.blocks() * disk.fragment_size());
    free < NEARLY_FULL && free < all / 10
}
