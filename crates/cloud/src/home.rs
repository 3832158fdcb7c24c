//! Where everything lives: the folder `$TANDEM_HOME`.

use std::path::{Path, PathBuf};

use tandem_model::PhysicalId;

/// The folder of one cloud, and the names inside it. Each path has one owner; nothing else writes there.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

impl Home {
    /// How the names of files begin that are on their way into the image store, in [`run`](Self::run).
    const IMPORT_PREFIX: &str = "import-";

    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// The control API's socket, mode 0600.
    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }
    /// What whoever runs the cloud has set, if anything. Written by people only.
    pub fn settings(&self) -> PathBuf {
        self.0.join("config.yaml")
    }
    /// Held locked by the one running cloud.
    pub fn lock(&self) -> PathBuf {
        self.0.join("cloud.lock")
    }
    /// What the cloud prints when it runs in the background.
    pub fn serve_log(&self) -> PathBuf {
        self.0.join("serve.log")
    }
    /// The store's file and the bodies of large objects.
    pub fn data(&self) -> PathBuf {
        self.0.join("data")
    }
    /// What all credentials are derived from, mode 0600.
    pub fn root_key(&self) -> PathBuf {
        self.0.join("root-key.json")
    }
    /// The address at which clients reach the services, chosen at the first start.
    pub fn address(&self) -> PathBuf {
        self.0.join("address")
    }
    /// Archives of programs and build contexts, named by hash.
    pub fn archives(&self) -> PathBuf {
        self.0.join("archives")
    }
    /// What became of events.
    pub fn trail(&self) -> PathBuf {
        self.0.join("trail")
    }
    /// Logs of functions, a folder a stack.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }
    /// The image store, containers and their logs.
    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }
    /// What containers that run code of programs have of this binary, a folder a version.
    pub fn engines(&self) -> PathBuf {
        self.containers().join("engine")
    }
    /// Where such containers reach the cloud, a folder each.
    pub fn code_of_containers(&self) -> PathBuf {
        self.containers().join("code")
    }
    /// What clients pushed, and what they pull: blobs of images, a file each.
    pub fn registry(&self) -> PathBuf {
        self.0.join("registry")
    }
    /// The files of volumes, a folder each.
    pub fn volumes(&self) -> PathBuf {
        self.0.join("volumes")
    }
    pub fn volume(&self, id: &PhysicalId) -> PathBuf {
        self.volumes().join(&id.0)
    }
    /// What only means something while the cloud runs: the workers' root, sockets.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }
    /// There while a backup is restored, and until it is whole: what is in it is not true yet.
    pub fn restoring(&self) -> PathBuf {
        self.0.join("restoring")
    }
    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.data().join("store.redb")
    }
    /// The bodies of large objects, a file each.
    pub fn blobs(&self) -> PathBuf {
        self.data().join("blobs")
    }
    /// The engine's states, a folder a stack.
    pub fn stacks(&self) -> PathBuf {
        self.0.join("stacks")
    }
    /// A new name for a file on its way into the image store. A restart removes what is left under such names.
    pub fn import(&self) -> PathBuf {
        self.run().join(format!("{}{}", Self::IMPORT_PREFIX, uuid::Uuid::new_v4().simple()))
    }
    /// Whether a name in [`run`](Self::run) is one of [`import`](Self::import)'s.
    pub fn is_import(name: &str) -> bool {
        name.starts_with(Self::IMPORT_PREFIX)
    }
}
