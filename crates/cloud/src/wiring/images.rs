//! The image store under the names that clients push by: the cloud's own address in front of one means nothing, since
//! what is pushed there has the name without it (0140). So a program may ask for an image as it was pushed.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tandem_container::{BuildRequest, Builder, Built, ContainerError, Image, ImageRef, Lines, Platform};

use crate::endpoint::Endpoint;

/// The image store of a cloud with this address.
#[derive(Debug)]
pub(crate) struct OwnNames {
    store: Arc<dyn Builder>,
    addresses: [String; 2],
}

impl OwnNames {
    pub(crate) fn new(store: Arc<dyn Builder>, endpoint: Endpoint) -> Self {
        let address = endpoint.address();
        Self { store, addresses: [format!("{address}/"), format!("localhost:{}/", address.port())] }
    }

    fn own(&self, image: &ImageRef) -> ImageRef {
        let text = image.0.trim();
        let rest = self.addresses.iter().find_map(|address| text.strip_prefix(address));
        ImageRef(rest.unwrap_or(text).to_owned())
    }
}

#[async_trait]
impl Builder for OwnNames {
    async fn build(&self, request: &BuildRequest, lines: &dyn Lines) -> Result<Built, ContainerError> {
        self.store.build(request, lines).await
    }

    async fn resolve(&self, image: &ImageRef, lines: &dyn Lines) -> Result<Image, ContainerError> {
        self.store.resolve(&self.own(image), lines).await
    }

    async fn pull(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError> {
        self.store.pull(&self.own(image), platform, lines).await
    }

    async fn import(&self, file: &Path, name: &str) -> Result<Image, ContainerError> {
        self.store.import(file, name).await
    }

    async fn list(&self) -> Result<Vec<Image>, ContainerError> {
        self.store.list().await
    }

    async fn names(&self) -> Result<Vec<(String, String)>, ContainerError> {
        self.store.names().await
    }

    async fn export(&self, digest: &str, folder: &Path) -> Result<(), ContainerError> {
        self.store.export(digest, folder).await
    }

    async fn remove(&self, image: &ImageRef) -> Result<(), ContainerError> {
        self.store.remove(image).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_clouds_address_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = tandem_container::BuildahStore::open(folder.path());
        let names = OwnNames::new(store, Endpoint::new(([127, 0, 0, 1], 21000).into()));
        for (asked, own) in [
            ("127.0.0.1:21000/team/app:v1", "team/app:v1"),
            ("localhost:21000/app", "app"),
            ("127.0.0.1:2100/app", "127.0.0.1:2100/app"),
            ("localhost/tandem/app", "localhost/tandem/app"),
            ("docker.io/127.0.0.1:21000/app", "docker.io/127.0.0.1:21000/app"),
        ] {
            assert_eq!(names.own(&ImageRef(asked.to_owned())).0, own);
        }
    }
}
