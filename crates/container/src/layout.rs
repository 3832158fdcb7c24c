//! Where images and containers live: one folder, `<home>/containers`. Each path has one owner.

use std::path::{Path, PathBuf};

use crate::{ContainerError, ContainerId};

/// The folder of one image store and its containers.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        // Other programs get these paths, and they work in other folders.
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
    /// Buildah's image store. Read by us, written by Buildah.
    pub(crate) fn storage(&self) -> PathBuf {
        self.root.join("storage")
    }
    /// Buildah's state that only means something until the machine restarts.
    pub(crate) fn storage_run(&self) -> PathBuf {
        self.root.join("storage-run")
    }
    /// `registries.conf`, `policy.json` and the like, written by us for Buildah.
    pub(crate) fn settings(&self) -> PathBuf {
        self.root.join("settings")
    }
    /// Scratch folders of builds and imports.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }
    /// What is being pulled, a folder an image. Kept when a pull breaks off.
    pub(crate) fn pulls(&self) -> PathBuf {
        self.root.join("pulls")
    }
    /// One file an image: what a start needs to know of it.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }
    /// One folder a container, the OCI bundle.
    pub(crate) fn bundles(&self) -> PathBuf {
        self.root.join("bundles")
    }
    pub(crate) fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.bundles().join(&id.0)
    }
    /// One file a container, written by its monitor when it has ended: the exit code in digits.
    pub(crate) fn exits(&self) -> PathBuf {
        self.root.join("exits")
    }
    pub(crate) fn exit(&self, id: &ContainerId) -> PathBuf {
        self.exits().join(&id.0)
    }
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.logs().join(format!("{}.log", id.0))
    }
    /// The names that `aardvark-dns` answers.
    pub(crate) fn names(&self) -> PathBuf {
        self.root.join("names")
    }
    /// The OCI runtime's own folder (`--root`).
    pub(crate) fn runtime_state(&self) -> PathBuf {
        self.root.join("state")
    }
}

/// Turns an I/O error at `path` into ours.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ContainerError {
    let path = path.into();
    move |source| ContainerError::Io { path, source }
}
