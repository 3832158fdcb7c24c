//! Finding and taking away what the image store has and nobody needs.

use std::{collections::BTreeSet, fmt, time::SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tandem_model::ByteSize;

use crate::ContainerError;

/// What is needed, for whoever looks for what is not.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Digests of images that must stay whatever they are called.
    pub images: BTreeSet<String>,
    /// Whether an image stays because it has a name that somebody gave it, and not one that a build made up.
    pub named: bool,
    /// What was made or asked for later than that stays.
    pub since: Option<SystemTime>,
}

/// Something that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unused {
    pub digest: String,
    /// None for a step of a build, which is there to be built upon.
    pub names: Vec<String>,
    /// Whether it is a step of a build.
    pub step: bool,
    /// What only this has, and what is before it in the list.
    pub size: ByteSize,
}

/// Holds off builds and imports while it lives.
pub trait Quiet: fmt::Debug + Send + Sync {}

/// The part of an image store that is tidied. Asking for an image, and starting containers, goes on meanwhile.
#[async_trait]
pub trait Tidy: fmt::Debug + Send + Sync {
    /// Keeps builds and imports from beginning, and clears what killed ones left. `None` if one is under way and `wait` is
    /// not set.
    ///
    /// # Errors
    /// [`ContainerError`] if the store cannot be used.
    async fn quiet(&self, wait: bool) -> Result<Option<Box<dyn Quiet>>, ContainerError>;

    /// What can go, in an order in which it can. Images that containers have, and steps that something else is built upon,
    /// are never among it. Changes nothing.
    ///
    /// # Errors
    /// [`ContainerError`] if the store cannot be read.
    async fn unused(&self, needs: &Needs) -> Result<Vec<Unused>, ContainerError>;

    /// Removes an image with all its names, and answers whether it is gone: not if a container has it, or somebody asked for
    /// it after `planned`. Idempotent, and goes on where one that was killed has stopped.
    ///
    /// # Errors
    /// [`ContainerError`] if the store cannot be changed.
    async fn discard(&self, digest: &str, planned: SystemTime) -> Result<bool, ContainerError>;
}
