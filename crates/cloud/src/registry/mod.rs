//! The registry: images over the OCI distribution API (spec 1.1), for stock clients (`skopeo`, `buildah`, `docker`).
//!
//! A repository and a tag are the name of an image, completed as Docker completes it: what is pushed as `app:v1` is what a
//! program means by `image: "app:v1"`, and what Tandem built or imported is pulled by its name. See decision 0140.
//!
//! Who owns it: the rows named in [`store`] and the folder `registry/` are written here and nowhere else. A blob is a file
//! named by its digest, durable before its client is told; a manifest is a blob with a row; a tag is a row. Which image a
//! name means is the image store's to say; a tag's row says which manifest stands for that image, and a blob means nothing
//! until a manifest's row names it. A push by tag is acknowledged once the image is in the image store *and* the tag's row
//! is committed. What a restart finds at each gap:
//!
//! | killed | found | then |
//! |---|---|---|
//! | while a blob arrives, or before it has its name | a file in `uploads/` | the start removes it; the client begins again |
//! | after a blob has its name, before its manifest | a blob that nothing refers to | the client finds it; else a sweep takes it after a day |
//! | after the manifest's commit, before its tag's | a manifest without a tag | the client pushes again; else a sweep takes it after seven days |
//! | after the image store has the image, before the tag's commit | the image under its name; the tag's former manifest | a pull makes the new image's manifest anew |
//! | after the tag's commit, before the answer | the image and its tag | the client pushes again, which changes nothing |
//! | while an image is made pullable | files in `uploads/`, perhaps blobs | the next pull makes it again |
//! | in a deletion, after the image store forgot the name | the tag's row | the client deletes again |
//! | in a deletion, after its commit | blobs that nothing refers to | a sweep takes them |
//!
//! Start at [`Registry`]; the protocol is in [`http`], taking images in and out of the image store in [`images`], what goes
//! when in [`garbage`].

mod arriving;
mod blobs;
mod error;
mod files;
mod garbage;
pub mod http;
mod images;
mod listing;
mod manifest;
mod manifests;
mod name;
mod store;
mod upload;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tandem_container::Builder;
use tandem_model::ByteSize;
use tandem_store::Store;

use crate::{home::Home, resource::Resources};

pub use self::{
    error::RegistryError,
    garbage::run as run_garbage,
    name::{Digest, Reference, Repository, Tag},
};
pub(crate) use store::is_of_this_machine;

use self::{arriving::Arriving, files::Files, upload::Uploads};

/// All images of the cloud, for clients. Who may use it is for the caller to check.
#[derive(Debug)]
pub struct Registry {
    home: Home,
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    images: Arc<dyn Builder>,
    files: Files,
    uploads: Uploads,
    arriving: Arriving,
    /// Held while rows change, and while blobs are removed: so no manifest is recorded whose blobs are just going.
    changes: tokio::sync::Mutex<()>,
    /// One change of what a name means at a time.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Registry {
    /// Opens the registry, and removes what uploads of an earlier start left.
    ///
    /// # Errors
    /// If its folder cannot be made or read.
    pub fn open(
        home: &Home,
        keep_free: ByteSize,
        store: Arc<dyn Store>,
        resources: Arc<Resources>,
        images: Arc<dyn Builder>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            home: home.clone(),
            store,
            resources,
            images,
            files: Files::open(&home.registry(), keep_free)?,
            uploads: Uploads::default(),
            arriving: Arriving::default(),
            changes: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
        })
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(name.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests;
