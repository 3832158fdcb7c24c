use super::*;
use crate::{
    OciRuntime, Runtime,
    conformance::{Collected, Subject, build, import_base},
};

/// Buildah and an OCI runtime in a folder of their own.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::TempDir::new().unwrap())
    }
    fn folder(&self) -> std::path::PathBuf {
        self.0.path().join("containers")
    }
}

impl Subject for Home {
    fn builder(&self) -> Arc<dyn Builder> {
        BuildahStore::open(&self.folder())
    }
    fn runtime(&self) -> Arc<dyn Runtime> {
        OciRuntime::open(&self.folder(), None)
    }
    fn scratch(&self) -> std::path::PathBuf {
        let folder = self.0.path().join("scratch");
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }
}

crate::container_conformance_tests!(Home::new());
