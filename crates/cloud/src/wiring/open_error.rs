//! Why a cloud cannot be opened.

use std::{io, path::PathBuf};

use tandem_container::ContainerError;
use tandem_model::Explain;
use tandem_store::{BlobError, OpenError as StoreError};

use crate::{
    credential::RootKeyError, gateway::BindError, log::LogError, service::ServiceError,
    settings::SettingsError, target::TargetFault, task::RunError, workflow::WorkflowError,
};

/// A cloud that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use `{}`", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("`{}` holds a part of a backup: `tandem restore` was interrupted there", home.display())]
    Restoring { home: PathBuf },
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Containers(#[from] ContainerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Blobs(#[from] BlobError),
    #[error(transparent)]
    Target(#[from] TargetFault),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Runs(#[from] RunError),
    #[error(transparent)]
    Services(#[from] ServiceError),
    #[error(transparent)]
    Workflows(#[from] WorkflowError),
}

impl Explain for OpenError {
    fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } => "E0314",
            Self::Restoring { .. } => "E0918",
            Self::Settings(e) => e.code(),
            Self::Containers(e) => e.code(),
            Self::Store(e) => e.code(),
            Self::Blobs(e) => e.code(),
            Self::Target(e) => e.code(),
            Self::RootKey(e) => e.code(),
            Self::Bind(e) => e.code(),
            Self::Log(e) => e.code(),
            Self::Runs(e) => e.code(),
            Self::Services(e) => e.code(),
            Self::Workflows(e) => e.code(),
        }
    }
    fn help(&self) -> String {
        match self {
            Self::Folder { .. } => "check space and permissions there".into(),
            Self::Restoring { .. } => "run `tandem restore FILE` again; it starts over".into(),
            Self::Settings(e) => e.help(),
            Self::Containers(e) => e.help(),
            Self::Store(e) => e.help(),
            Self::Blobs(e) => e.help(),
            Self::Target(e) => e.help(),
            Self::RootKey(e) => e.help(),
            Self::Bind(e) => e.help(),
            Self::Log(e) => e.help(),
            Self::Runs(e) => e.help(),
            Self::Services(e) => e.help(),
            Self::Workflows(e) => e.help(),
        }
    }
}
