//! What goes when: a tag with its manifest, a manifest with what only it names, a blob that nothing names.
//!
//! | | goes |
//! |---|---|
//! | a manifest whose last tag is deleted, and that no index names | with the tag |
//! | a manifest whose tag was moved to another | seven days later, unless it has a tag again |
//! | a manifest that was pushed by its digest alone | when it is deleted, or the index that names it |
//! | a blob that no manifest names any more | with the last manifest, unless a client that pushes was told that it is here |
//! | a blob that no manifest ever named | a day after it came |
//! | an upload | at the next start, or a day after it was last used |

use std::{collections::HashSet, sync::Weak, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tandem_failpoint::hit;
use tandem_store::Batch;

use super::{
    Registry, RegistryError,
    manifests::is_tagged,
    name::{Digest, Repository, Tag},
    store::{self, ManifestRow},
};

/// How long a manifest whose tag was moved can still be pulled by its digest. The guide says so.
const UNTAGGED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a blob may wait for its manifest.
const WAITING: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Sweeps at once and then every hour, until it is dropped or the cloud is gone.
pub async fn run<S: Future<Output = ()>>(
    registry: Weak<Registry>,
    now: impl Fn() -> Timestamp,
    sleep: impl Fn(Duration) -> S,
) {
    loop {
        {
            let Some(registry) = registry.upgrade() else { return };
            match registry.sweep(now()).await {
                Ok(0) => {}
                Ok(blobs) => tracing::info!(blobs, "removed blobs of images that nothing refers to"),
                Err(error) => tracing::warn!(%error, "cannot sweep the registry; the next hour tries again"),
            }
        }
        sleep(EVERY).await;
    }
}

impl Registry {
    /// Removes what has outlived its use, and answers how many blobs that were.
    ///
    /// # Errors
    /// [`RegistryError`] if the rows or the folder cannot be read or written; the next sweep goes on.
    pub async fn sweep(&self, now: Timestamp) -> Result<usize, RegistryError> {
        self.uploads.end_old();
        self.files.forget_old_promises();
        let old: Vec<_> = {
            let all = store::manifests(&*self.store.snapshot()?, None)?.into_iter();
            let old =
                |row: &ManifestRow| row.untagged.is_some_and(|since| now.duration_since(since) > UNTAGGED);
            all.filter(|(_, _, row)| old(row)).map(|(repository, digest, _)| (repository, digest)).collect()
        };
        for (repository, digest) in old {
            let _changes = self.changes.lock().await;
            let (batch, released) = {
                let snapshot = self.store.snapshot()?;
                let row = store::manifest(&*snapshot, &repository, &digest)?;
                let Some(row) = row.filter(|row| row.untagged.is_some()) else { continue };
                if is_tagged(&*snapshot, &repository, &digest, None)? {
                    continue;
                }
                self.removal(&repository, &digest, row)?
            };
            self.store.commit(batch).await?;
            self.release(&released).await?;
        }
        let _changes = self.changes.lock().await;
        let referenced = self.referenced()?;
        let mut removed = 0;
        for (digest, age) in self.files.list().await? {
            if age > WAITING && !referenced.contains(&digest) && self.files.remove(&digest).await {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// All that a manifest is or names.
    pub(super) fn referenced(&self) -> Result<HashSet<Digest>, RegistryError> {
        let all = store::manifests(&*self.store.snapshot()?, None)?.into_iter();
        Ok(all.flat_map(|(_, digest, row)| row.refers.into_iter().chain([digest])).collect())
    }

    /// The batch that removes a manifest, and what it lets go.
    fn removal(
        &self,
        repository: &Repository,
        digest: &Digest,
        row: ManifestRow,
    ) -> Result<(Batch, Vec<Digest>), RegistryError> {
        let mut batch = Batch::default();
        if self.arriving.contains(repository, digest) {
            // It is just being pushed under another tag.
            let row = ManifestRow { untagged: Some(Timestamp::now()), ..row };
            batch.put(store::manifest_key(repository, digest), store::encode(&row)).frees();
            return Ok((batch, Vec::new()));
        }
        batch.delete(store::manifest_key(repository, digest));
        let mut released = row.refers;
        // The manifests of an index go with it, unless they are there for themselves.
        let snapshot = self.store.snapshot()?;
        let others: HashSet<Digest> = store::manifests(&*snapshot, Some(repository))?
            .into_iter()
            .filter(|(_, other, _)| other != digest)
            .flat_map(|(_, _, row)| row.refers)
            .chain(store::tags(&*snapshot, Some(repository))?.into_iter().map(|(_, _, row)| row.digest))
            .collect();
        for child in released.clone() {
            if !others.contains(&child)
                && !self.arriving.contains(repository, &child)
                && let Some(row) = store::manifest(&*snapshot, repository, &child)?
            {
                batch.delete(store::manifest_key(repository, &child));
                released.extend(row.refers);
            }
        }
        released.push(digest.clone());
        Ok((batch, released))
    }

    /// Takes a tag away, and its manifest if nothing else keeps it.
    pub(super) async fn remove_tag(&self, repository: &Repository, tag: &Tag) -> Result<(), RegistryError> {
        let _changes = self.changes.lock().await;
        let (batch, released) = {
            let snapshot = self.store.snapshot()?;
            let Some(row) = store::tag(&*snapshot, repository, tag)? else { return Ok(()) };
            let manifest = store::manifest(&*snapshot, repository, &row.digest)?;
            let (mut batch, released) = match manifest {
                Some(manifest) if !is_tagged(&*snapshot, repository, &row.digest, Some(tag))? => {
                    self.removal(repository, &row.digest, manifest)?
                }
                _ => Default::default(),
            };
            batch.delete(store::tag_key(repository, tag));
            (batch, released)
        };
        self.store.commit(batch).await?;
        hit("registry.tag.removed");
        self.release(&released).await
    }

    pub(super) async fn remove_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let _changes = self.changes.lock().await;
        let (batch, released) = {
            // Its last tag may have taken it along.
            let Some(row) = store::manifest(&*self.store.snapshot()?, repository, digest)? else {
                return Ok(());
            };
            self.removal(repository, digest, row)?
        };
        self.store.commit(batch).await?;
        hit("registry.manifest.removed");
        self.release(&released).await
    }

    /// Removes the blobs among these to which nothing refers any more. Under the lock of changes.
    async fn release(&self, digests: &[Digest]) -> Result<(), RegistryError> {
        let referenced = self.referenced()?;
        for digest in digests.iter().filter(|digest| !referenced.contains(digest)) {
            self.files.remove(digest).await;
        }
        Ok(())
    }
}
