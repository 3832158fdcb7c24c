//! Manifests and tags: recorded, found, deleted.

use jiff::Timestamp;
use tandem_failpoint::hit;
use tandem_store::{Batch, Snapshot};

use super::{
    Registry, RegistryError,
    manifest::{Descriptor, Manifest},
    name::{Digest, Reference, Repository, Tag},
    store::{self, ManifestRow, TagRow},
};

/// A manifest that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) size: u64,
}

impl Registry {
    /// Takes a manifest. Once this returns, it is on disk, and if it came under a tag, programs and builds find its image
    /// by that name. Answers its digest, and the manifest that it says it belongs to.
    ///
    /// # Errors
    /// [`RegistryError::ManifestInvalid`], [`RegistryError::ManifestBlobUnknown`]; nothing is recorded then.
    /// [`RegistryError::Image`] if the image store cannot take the image; the tag is as it was.
    pub(super) async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        content: Vec<u8>,
        media_type: Option<&str>,
    ) -> Result<(Digest, Option<Digest>), RegistryError> {
        let digest = Digest::of(&content);
        if let Reference::Digest(said) = reference
            && *said != digest
        {
            let reason = format!("the manifest has the digest {digest}, not {said}");
            return Err(RegistryError::DigestInvalid { reason });
        }
        let manifest = Manifest::parse(&content, media_type)?;
        let tag = match reference {
            Reference::Tag(tag) => Some(tag),
            Reference::Digest(_) => None,
        };
        let _arrival = self.arriving.begin(repository, &digest);
        self.record(repository, &digest, &manifest, content, tag.is_none()).await?;
        if let Some(tag) = tag {
            let name = repository.image(tag);
            let turn = self.turn(&name);
            let _turn = turn.lock().await;
            self.take_in(repository, &digest, &manifest, &name).await?;
            let seen = self.image_named(&name).await;
            self.set_tag(repository, tag, TagRow { digest: digest.clone(), seen }).await?;
        }
        Ok((digest, manifest.subject))
    }

    /// Records a manifest, once all that it names is here.
    async fn record(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: &Manifest,
        content: Vec<u8>,
        for_good: bool,
    ) -> Result<(), RegistryError> {
        let size = content.len() as u64;
        let _changes = self.changes.lock().await;
        for blob in &manifest.blobs {
            self.require(blob, self.files.size(&blob.digest).await?)?;
        }
        let known = {
            let snapshot = self.store.snapshot()?;
            for child in &manifest.manifests {
                let row = store::manifest(&*snapshot, repository, &child.digest)?;
                self.require(child, row.map(|row| row.size))?;
            }
            store::manifest(&*snapshot, repository, digest)?
        };
        self.files.put(content, digest).await?;
        hit("registry.manifest.stored");
        let untagged = match known {
            // Whoever keeps it already keeps it.
            Some(known) if known.untagged.is_none() => None,
            _ => (!for_good).then(Timestamp::now),
        };
        let row = ManifestRow {
            media_type: manifest.media_type.clone(),
            size,
            refers: manifest.refers(),
            subject: manifest.subject.clone(),
            artifact_type: manifest.artifact_type.clone(),
            annotations: manifest.annotations.clone(),
            image: manifest.image.clone(),
            untagged,
        };
        let mut batch = Batch::default();
        batch.put(store::manifest_key(repository, digest), store::encode(&row));
        self.store.commit(batch).await?;
        self.files.redeem(row.refers.iter().chain([digest]));
        hit("registry.manifest.committed");
        Ok(())
    }

    fn require(&self, named: &Descriptor, size: Option<u64>) -> Result<(), RegistryError> {
        match size {
            Some(size) if size == named.size => Ok(()),
            Some(size) => Err(RegistryError::ManifestInvalid(format!(
                "it says that {} has {} bytes, and it has {size}",
                named.digest, named.size
            ))),
            None => Err(RegistryError::ManifestBlobUnknown(named.digest.clone())),
        }
    }

    /// Lets a tag mean a manifest, which is recorded. The caller has the name's turn.
    pub(super) async fn set_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        row: TagRow,
    ) -> Result<(), RegistryError> {
        let _changes = self.changes.lock().await;
        let mut batch = Batch::default();
        {
            let snapshot = self.store.snapshot()?;
            let now = store::manifest(&*snapshot, repository, &row.digest)?
                .ok_or_else(|| RegistryError::ManifestUnknown(row.digest.to_string()))?;
            if let Some(before) = store::tag(&*snapshot, repository, tag)?
                && before.digest != row.digest
                && let Some(old) = store::manifest(&*snapshot, repository, &before.digest)?
                && !is_tagged(&*snapshot, repository, &before.digest, Some(tag))?
            {
                let old = ManifestRow { untagged: Some(Timestamp::now()), ..old };
                batch.put(store::manifest_key(repository, &before.digest), store::encode(&old));
            }
            if now.untagged.is_some() {
                let now = ManifestRow { untagged: None, ..now };
                batch.put(store::manifest_key(repository, &row.digest), store::encode(&now));
            }
        }
        batch.put(store::tag_key(repository, tag), store::encode(&row));
        self.store.commit(batch).await?;
        hit("registry.tag.committed");
        Ok(())
    }

    /// The manifest that a tag or digest means now. An image that only the image store has is made pullable first, which
    /// takes as long as compressing it does.
    ///
    /// # Errors
    /// [`RegistryError::ManifestUnknown`]
    pub(super) async fn find(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Found, RegistryError> {
        let (digest, asked) = match reference {
            Reference::Digest(digest) => (Some(digest.clone()), digest.to_string()),
            Reference::Tag(tag) => (self.meaning(repository, tag).await?, tag.as_str().to_owned()),
        };
        let unknown = || RegistryError::ManifestUnknown(format!("{repository}:{asked}"));
        let digest = digest.ok_or_else(unknown)?;
        let row = store::manifest(&*self.store.snapshot()?, repository, &digest)?.ok_or_else(unknown)?;
        Ok(Found { digest, media_type: row.media_type, size: row.size })
    }

    /// Takes away a tag, or a manifest with all its tags; what nothing else refers to then goes too. The image store
    /// forgets the names.
    ///
    /// # Errors
    /// [`RegistryError::ManifestUnknown`]; [`RegistryError::InUse`] if a container runs from the image, or a deployed task
    /// would have no image any more.
    pub(super) async fn delete_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<(), RegistryError> {
        let tags = match reference {
            Reference::Tag(tag) => vec![tag.clone()],
            Reference::Digest(digest) => {
                let snapshot = self.store.snapshot()?;
                if store::manifest(&*snapshot, repository, digest)?.is_none() {
                    return Err(RegistryError::ManifestUnknown(format!("{repository}@{digest}")));
                }
                let tags = store::tags(&*snapshot, Some(repository))?.into_iter();
                tags.filter(|(_, _, row)| row.digest == *digest).map(|(_, tag, _)| tag).collect()
            }
        };
        for tag in tags {
            let name = repository.image(&tag);
            let turn = self.turn(&name);
            let _turn = turn.lock().await;
            let row = store::tag(&*self.store.snapshot()?, repository, &tag)?;
            if let (Reference::Digest(digest), Some(row)) = (reference, &row)
                && row.digest != *digest
            {
                // It was moved just now.
                continue;
            }
            let named = self.image_named(&name).await;
            // A manifest that is deleted by its digest takes the name only if the name means it.
            let ours =
                matches!(reference, Reference::Tag(_)) || row.as_ref().is_some_and(|row| row.seen == named);
            let was_named = match named {
                Some(image) if ours => self.forget_name(&name, &image).await.map(|()| true)?,
                _ => false,
            };
            hit("registry.name.forgotten");
            if row.is_none() && !was_named {
                return Err(RegistryError::ManifestUnknown(format!("{repository}:{}", tag.as_str())));
            }
            self.remove_tag(repository, &tag).await?;
        }
        match reference {
            Reference::Digest(digest) => self.remove_manifest(repository, digest).await,
            Reference::Tag(_) => Ok(()),
        }
    }

    /// After the image store forgot an image, or one of its names: the registry forgets it, too. Answers whether it knew it.
    ///
    /// # Errors
    /// [`RegistryError`] if that cannot be recorded; it can be repeated.
    pub async fn forget(&self, image: &str) -> Result<bool, RegistryError> {
        let tags = store::tags(&*self.store.snapshot()?, None)?;
        let name = tandem_container::complete(image).unwrap_or_default();
        let meant = |(repository, tag, row): &(Repository, Tag, TagRow)| {
            repository.image(tag) == name || row.seen.as_deref() == Some(image)
        };
        let mut known = false;
        for (repository, tag, _) in tags.into_iter().filter(meant) {
            self.remove_tag(&repository, &tag).await?;
            known = true;
        }
        Ok(known)
    }
}

impl Registry {
    /// Whether clients pushed an image of that name.
    ///
    /// # Errors
    /// [`RegistryError`] if that cannot be read.
    pub fn was_pushed(&self, image: &str) -> Result<bool, RegistryError> {
        let name = tandem_container::complete(image).unwrap_or_default();
        let tags = store::tags(&*self.store.snapshot()?, None)?;
        Ok(tags.iter().any(|(repository, tag, _)| repository.image(tag) == name))
    }
}

/// Whether a tag other than this one means a manifest, or an index names it.
pub(super) fn is_tagged(
    snapshot: &dyn Snapshot,
    repository: &Repository,
    digest: &Digest,
    but: Option<&Tag>,
) -> Result<bool, RegistryError> {
    let tags = store::tags(snapshot, Some(repository))?;
    if tags.iter().any(|(_, tag, row)| row.digest == *digest && Some(tag) != but) {
        return Ok(true);
    }
    let manifests = store::manifests(snapshot, Some(repository))?;
    Ok(manifests.iter().any(|(_, _, row)| row.refers.contains(digest)))
}
