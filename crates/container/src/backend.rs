//! Which pair of builder and runtime a cloud has. Nobody but this page knows more of it than the ports.

use std::{path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    BuildahStore, Builder, ContainerError, Docker, OciRuntime, Runtime,
    docker::{self, DEFAULT_HOST},
    runtime,
    tidy::Tidy,
};

/// What builds the images of a cloud and runs its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Backend {
    /// Buildah, and an OCI runtime under `conmon`.
    #[default]
    Oci,
    /// A Docker engine at this address.
    Docker { host: String },
}

/// The two of them, and the image store's other side.
#[derive(Debug, Clone)]
pub struct Parts {
    pub builder: Arc<dyn Builder>,
    pub runtime: Arc<dyn Runtime>,
    pub tidy: Arc<dyn Tidy>,
}

impl Backend {
    /// Docker, where it listens unless it is told otherwise.
    #[must_use]
    pub fn docker() -> Self {
        Self::Docker { host: DEFAULT_HOST.into() }
    }

    /// Opens what is under `folder` (`<home>/containers`). Asks nobody yet: a program or an engine that is missing is told
    /// of when it is needed.
    ///
    /// # Errors
    /// [`ContainerError::OtherBackend`] if containers of the other backend are left there, which nobody would look after.
    pub fn open(&self, folder: &Path) -> Result<Parts, ContainerError> {
        let (name, left) = match self {
            Self::Oci => ("docker", docker::left_in(folder)),
            Self::Docker { .. } => ("oci", runtime::left_in(folder)),
        };
        if !left.is_empty() {
            return Err(ContainerError::OtherBackend { name, count: left.len() });
        }
        Ok(match self {
            Self::Oci => Parts {
                builder: BuildahStore::open(folder),
                runtime: OciRuntime::open(folder, None),
                tidy: BuildahStore::tidy(folder),
            },
            Self::Docker { host } => {
                let docker = Arc::new(Docker::open(folder, host));
                Parts { builder: docker.clone(), runtime: docker.clone(), tidy: docker }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tandem_model::Explain;

    use super::*;

    #[test]
    fn containers_of_the_other_backend_are_not_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        for backend in [Backend::Oci, Backend::docker()] {
            backend.open(folder.path()).unwrap();
        }
        for (left, has, other) in [
            ("bundles/one", Backend::Oci, Backend::docker()),
            ("docker/containers/one", Backend::docker(), Backend::Oci),
        ] {
            fs::create_dir_all(folder.path().join(left)).unwrap();
            has.open(folder.path()).unwrap();
            let error = other.open(folder.path()).unwrap_err();
            assert_eq!(error.code(), "E0424");
            assert!(error.help().contains("tandem destroy"), "{}", error.help());
            fs::remove_dir_all(folder.path().join(left)).unwrap();
        }
    }
}
