//! Between the registry and the image store, which is what programs and builds take images from.
//!
//! *In*: an image that is pushed under a tag is taken into the image store under that name, from a layout that links to
//! the blobs. *Out*: an image that only the image store has (built, imported, pulled) is written as a layout at its first
//! pull, and its files become blobs; from then on it is served like any other.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;
use tandem_container::ImageRef;
use tandem_failpoint::hit;
use tandem_model::Kind;

use super::{
    Registry, RegistryError,
    files::blocking,
    manifest::Manifest,
    name::{Digest, Reference, Repository, Tag},
    store::{self, TagRow},
};

/// Removes a folder or a file when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Registry {
    /// The image that goes by a name in the image store. Without an image store (no root, no Buildah) there is none.
    pub(super) async fn image_named(&self, name: &str) -> Option<String> {
        self.image_names().await.into_iter().find(|(one, _)| one == name).map(|(_, digest)| digest)
    }

    /// All names in the image store, and what they mean.
    pub(super) async fn image_names(&self) -> Vec<(String, String)> {
        self.images.names().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the image store cannot be read");
            Vec::new()
        })
    }

    /// Takes the image of a manifest into the image store; of an index, the one for this machine. What is no image that
    /// containers could run from stays with the registry alone.
    pub(super) async fn take_in(
        &self,
        repository: &Repository,
        digest: &Digest,
        manifest: &Manifest,
        name: &str,
    ) -> Result<(), RegistryError> {
        let (digest, media_type, size, image) = match manifest.for_this_machine() {
            Some(child) => {
                let row = store::manifest(&*self.store.snapshot()?, repository, &child.digest)?;
                (child.digest.clone(), child.media_type.clone(), child.size, row.and_then(|row| row.image))
            }
            None => {
                let size = self.files.size(digest).await?.unwrap_or_default();
                (digest.clone(), manifest.media_type.clone(), size, manifest.image.clone())
            }
        };
        let Some(image) = image else { return Ok(()) };
        if self.image_named(name).await == Some(image.to_string()) {
            return Ok(());
        }
        let (folder, blobs) = (Temporary(self.home.import()), self.files().blobs());
        let layout = folder.0.clone();
        blocking(move || {
            let manifest = json!({ "mediaType": media_type, "digest": digest.to_string(), "size": size });
            fs::create_dir_all(layout.join("blobs"))?;
            symlink(fs::canonicalize(blobs)?, layout.join("blobs/sha256"))?;
            fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
            let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
            fs::write(layout.join("index.json"), index.to_string())
        })
        .await?;
        self.images.import(&folder.0, name).await?;
        hit("registry.image.imported");
        Ok(())
    }

    /// The manifest that a tag means, made of the image store's image if need be.
    pub(super) async fn meaning(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<Digest>, RegistryError> {
        let name = repository.image(tag);
        let known = async || -> Result<_, RegistryError> {
            let row = store::tag(&*self.store.snapshot()?, repository, tag)?;
            Ok(match (row, self.image_named(&name).await) {
                (None, None) => Known::Nothing,
                (Some(row), Some(image)) if row.seen.as_ref() != Some(&image) => Known::Image(image),
                (None, Some(image)) => Known::Image(image),
                (Some(row), _) => Known::Manifest(row.digest),
            })
        };
        match known().await? {
            Known::Nothing => return Ok(None),
            Known::Manifest(digest) => return Ok(Some(digest)),
            Known::Image(_) => {}
        }
        let turn = self.turn(&name);
        let _turn = turn.lock().await;
        match known().await? {
            Known::Nothing => Ok(None),
            Known::Manifest(digest) => Ok(Some(digest)),
            Known::Image(image) => self.take_out(repository, tag, image).await.map(Some),
        }
    }

    /// Makes an image of the image store pullable. The caller has the name's turn.
    async fn take_out(
        &self,
        repository: &Repository,
        tag: &Tag,
        image: String,
    ) -> Result<Digest, RegistryError> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Described>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Described {
            digest: Digest,
            media_type: String,
        }
        let folder = Temporary(self.files().incoming());
        self.images.export(&image, &folder.0).await?;
        let layout = folder.0.clone();
        let (described, files) = blocking(move || {
            let index: Index = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
            let described = index.manifests.into_iter().next();
            Ok((described.ok_or(std::io::ErrorKind::InvalidData)?, files(&layout)?))
        })
        .await?;
        for (digest, path) in files {
            if self.files().size(&digest).await?.is_none() {
                let file = blocking({
                    let path = path.clone();
                    move || File::open(path)
                });
                self.files().adopt(file.await?, path, &digest).await?;
            } else {
                self.files().promise(&digest);
            }
        }
        hit("registry.image.exported");
        let content = self.files().read(&described.digest).await?;
        let manifest = Manifest::parse(&content, Some(&described.media_type))?;
        let _arrival = self.arriving.begin(repository, &described.digest);
        let digest = Reference::Digest(described.digest.clone());
        Box::pin(self.put_manifest(repository, &digest, content, Some(&manifest.media_type))).await?;
        let row = TagRow { digest: described.digest.clone(), seen: Some(image) };
        self.set_tag(repository, tag, row).await?;
        Ok(described.digest)
    }

    /// Lets the image store forget a name, unless a deployed task or service would be left without its image.
    pub(super) async fn forget_name(&self, name: &str, image: &str) -> Result<(), RegistryError> {
        let others = self.image_names().await.into_iter().any(|(other, of)| of == image && other != name);
        let uses =
            |outputs: &tandem_model::resource::Properties| crate::image::digests_of(outputs).contains(image);
        let all = self.resources.list(None);
        let runs = |kind: Kind| matches!(kind, Kind::Task | Kind::Service);
        if let Some(user) = all.iter().find(|r| !others && runs(r.urn.kind) && uses(&r.outputs)) {
            return Err(RegistryError::InUse(format!(
                "`{}` runs from it; destroy it or give it another",
                user.urn
            )));
        }
        match self.images.remove(&ImageRef(name.to_owned())).await {
            Err(tandem_container::ContainerError::InUse { .. }) => {
                Err(RegistryError::InUse("a container runs from it (`tandem ps`)".to_owned()))
            }
            // Somebody else was faster.
            Err(tandem_container::ContainerError::NoImage { .. }) => Ok(()),
            removed => Ok(removed?),
        }
    }
}

enum Known {
    Nothing,
    Manifest(Digest),
    /// What the name means now, and no manifest stands for yet.
    Image(String),
}

/// The blobs of a layout.
fn files(layout: &Path) -> std::io::Result<Vec<(Digest, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(layout.join("blobs/sha256"))? {
        let path = entry?.path();
        let digest = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_hex);
        found.extend(digest.map(|digest| (digest, path)));
    }
    Ok(found)
}
