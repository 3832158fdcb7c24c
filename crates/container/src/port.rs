//! The ports: what the cloud asks of a builder and of a runtime.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{ByteSize, Report, Secrets};

use crate::{
    exchange::{Exchange, Left},
    platform::Platform,
    pull::PullError,
};

/// An image in the store: its digest, and what it says about running it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// `sha256:<hex>` of the image's configuration.
    pub digest: String,
    /// The names it goes by: `docker.io/jrottenberg/ffmpeg:latest`.
    pub names: Vec<String>,
    pub size: ByteSize,
    pub created: Timestamp,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `KEY=value`.
    pub environment: Vec<String>,
    pub working_dir: String,
    /// `user[:group]` as the image has it; empty is root.
    pub user: String,
    /// What machine it is for. `None`: the image does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A name or digest by which an image is asked for. Short names are completed as Docker does it:
/// `ffmpeg` is `docker.io/library/ffmpeg:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageRef(pub String);

/// Receives the lines a long work prints.
pub trait Lines: Send + Sync {
    fn line(&self, line: &str);
}

/// For work that nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Unheard;

impl Lines for Unheard {
    fn line(&self, _: &str) {}
}

/// What to build. The folder is ours for the time of the build.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    pub context: PathBuf,
    /// Path inside the context.
    pub dockerfile: String,
    pub args: BTreeMap<String, String>,
    pub target: Option<String>,
    /// The name that the image gets.
    pub name: String,
    /// Certificates (PEM) that the steps trust besides the machine's. In no layer.
    pub certificates: Vec<String>,
    /// What steps may mount. In no layer, variable or argument of a process.
    pub secrets: Secrets,
    /// Repositories in which to look for steps that were built elsewhere. One that does not answer is passed over.
    pub cache_from: Vec<String>,
    /// This machine's if it is not given.
    pub platform: Option<Platform>,
    /// Steps that were made longer ago are made again.
    pub max_age: Option<Duration>,
}

/// A new image.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    pub image: Image,
    /// When the oldest of the steps was made that it consists of; those of its base image aside.
    pub since: Timestamp,
}

/// Builds images and keeps them.
#[async_trait]
pub trait Builder: fmt::Debug + Send + Sync {
    /// Builds an image. Leaves nothing behind when it fails or is dropped.
    ///
    /// # Errors
    /// [`ContainerError::Build`] names the instruction that failed, with its last lines.
    /// [`ContainerError::NoImage`] if a base image is neither in the store nor to be pulled.
    /// [`ContainerError::Platform`] if it is for machines whose programs cannot run here.
    async fn build(&self, request: &BuildRequest, lines: &dyn Lines) -> Result<Built, ContainerError>;

    /// Finds an image in the store, or pulls it; `lines` are told how far that is, about once a second.
    ///
    /// # Errors
    /// [`ContainerError::NoImage`] if it is neither in the store nor to be pulled, [`ContainerError::Pull`] if its registry
    /// has something against it.
    async fn resolve(&self, image: &ImageRef, lines: &dyn Lines) -> Result<Image, ContainerError>;

    /// Asks the image's registry what the name means now, and takes that, whether the name is in the store or not.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve). What was in the store stays.
    async fn pull(
        &self,
        image: &ImageRef,
        platform: Option<&Platform>,
        lines: &dyn Lines,
    ) -> Result<Image, ContainerError>;

    /// Imports a root file system (a tar), an image archive (OCI or Docker), or the folder of an OCI image layout, under
    /// a name.
    ///
    /// # Errors
    /// [`ContainerError`] if the file is neither, or cannot be read.
    async fn import(&self, file: &std::path::Path, name: &str) -> Result<Image, ContainerError>;

    /// # Errors
    /// [`ContainerError::Tool`] if the store cannot be read.
    async fn list(&self) -> Result<Vec<Image>, ContainerError>;

    /// The names in the store, in full, and the digest of the image that each means now. Cheap: a start or a pull may ask.
    ///
    /// # Errors
    /// [`ContainerError::Tool`] if the store cannot be read.
    async fn names(&self) -> Result<Vec<(String, String)>, ContainerError>;

    /// Writes the image with this digest as an OCI image layout, into a folder that is not there yet.
    ///
    /// # Errors
    /// [`ContainerError::NoImage`] if there is none.
    async fn export(&self, digest: &str, folder: &std::path::Path) -> Result<(), ContainerError>;

    /// # Errors
    /// [`ContainerError::NoImage`] if there is none; [`ContainerError::InUse`] if a container runs from it.
    async fn remove(&self, image: &ImageRef) -> Result<(), ContainerError>;
}

/// The id of a container: letters, digits and `-`, at most 64. Chosen by the caller and committed before `start`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub String);

impl ContainerId {
    /// # Errors
    /// [`ContainerError::Start`] if it is none, and so cannot be the name of a file and of a control group.
    pub(crate) fn check(&self) -> Result<(), ContainerError> {
        let text = &self.0;
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if text.is_empty() || text.len() > 64 || !plain || text.starts_with('-') {
            return Err(ContainerError::Start {
                reason: format!("`{text}` is no container id: letters, digits and `-`, at most 64"),
            });
        }
        Ok(())
    }
}

/// What to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The digest of an image in the store.
    pub image: String,
    /// Entrypoint and command together.
    pub args: Vec<String>,
    /// The complete environment.
    pub environment: BTreeMap<String, String>,
    pub working_dir: String,
    pub user: String,
    pub memory: Option<ByteSize>,
    /// In cores.
    pub cpu: Option<f64>,
    /// The processors that it may run on: `0-1,3`. `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<String>,
    /// Character devices of the host that it may use, at the same path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// `None`: the host's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Networking>,
    /// Folders of the host that it sees.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// How much it may write to its own file system, deletions aside: then that is full. `None`: as much as there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<ByteSize>,
    /// For programs that look at containers; the container itself does not see them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether it gets an input or leaves a result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<Exchange>,
}

/// A folder of the host that a container sees, with all that others write there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// On the host; it exists.
    pub source: PathBuf,
    /// In the container, absolute; made if it is not there.
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
}

/// Which network a container has that has not the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Networking {
    /// A place of its own.
    Own(Network),
    /// That of another container, which has one of its own and is removed after this one: they reach each other as
    /// `localhost`, and no port is both's.
    Of(ContainerId),
}

/// A place on a network of its own: a bridge that containers share, with addresses and names that only they see.
///
/// Whoever starts containers hands out the addresses; the bridge is made with its first container and goes with its last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The bridge's interface on the host: at most 15 characters, and unique on the machine.
    pub bridge: String,
    /// `10.89.7.0/24`.
    pub subnet: String,
    /// The host's address on the bridge, where names are answered, too.
    pub gateway: Ipv4Addr,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The names by which its neighbours find it; several containers may share one.
    pub aliases: Vec<String>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "exit")]
pub enum Exit {
    /// 128 + n after signal n, as shells have it.
    Code { code: i32 },
    /// The kernel ended it for its memory limit.
    OutOfMemory { code: i32 },
    /// Its monitor is gone and left no code. `full`: it found no room on the disk for it.
    Lost {
        #[serde(default)]
        full: bool,
    },
}

/// What is known about a container id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// Nothing: it was never started, or was removed.
    Absent,
    /// It was begun and never ran (the process that started it died in between). Safe to remove and start again.
    Unstarted,
    Running,
    Exited(Exit),
}

/// A started container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The main process, in our pid namespace.
    pub pid: i32,
    /// When its root file system and its configuration were there.
    pub mounted: Timestamp,
    /// When its monitor and its namespaces were there, with its main process waiting to be let go.
    pub created: Timestamp,
}

/// Runs containers, each under a monitor of its own that outlives us.
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync {
    /// Starts a container. Leaves nothing behind when it fails.
    ///
    /// # Errors
    /// [`ContainerError::Start`] with the runtime's own words: a missing command, a bad user.
    async fn start(&self, id: &ContainerId, spec: &Spec) -> Result<Started, ContainerError>;

    /// Waits until the container ends, also one that was started before we were.
    ///
    /// # Errors
    /// [`ContainerError::Absent`] if there is no such container.
    async fn wait(&self, id: &ContainerId) -> Result<Exit, ContainerError>;

    /// # Errors
    /// [`ContainerError::Tool`] if the runtime's folder cannot be read.
    async fn inspect(&self, id: &ContainerId) -> Result<Container, ContainerError>;

    /// Sends a signal to the main process (`libc::SIGTERM`), or with `all` to every process of the container.
    ///
    /// # Errors
    /// [`ContainerError::Absent`] if it does not run.
    async fn signal(&self, id: &ContainerId, signal: i32, all: bool) -> Result<(), ContainerError>;

    /// How long all its processes together, also those that ended, have had a processor.
    ///
    /// # Errors
    /// [`ContainerError::Absent`] if there is no such container.
    async fn cpu_time(&self, id: &ContainerId) -> Result<Duration, ContainerError>;

    /// What an ended container left in the file that [`RESULT`](crate::exchange::RESULT) named, until `remove`.
    ///
    /// # Errors
    /// [`ContainerError::Io`] if it cannot be read.
    async fn result(&self, id: &ContainerId, limit: ByteSize) -> Result<Left, ContainerError>;

    /// The log, one line a record: `<RFC 3339 time> <stdout|stderr> <F|P> <text>` (Kubernetes' format, which `conmon`
    /// writes). `P` marks a part whose line goes on in the next record of that stream. A file that has grown large is
    /// replaced by a new one: see [`log`](crate::log).
    fn log_file(&self, id: &ContainerId) -> PathBuf;

    /// Removes what is left of an ended container, except its log. Idempotent.
    ///
    /// # Errors
    /// [`ContainerError::Tool`] if something could not be removed; calling again goes on.
    async fn remove(&self, id: &ContainerId) -> Result<(), ContainerError>;

    /// The ids of all containers of which anything is left.
    ///
    /// # Errors
    /// [`ContainerError::Tool`] if the runtime's folder cannot be read.
    async fn list(&self) -> Result<Vec<ContainerId>, ContainerError>;
}

/// Why an image or a container could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("`{program}` is not installed")]
    NotInstalled { program: String, package: &'static str },
    #[error("building the image failed at {}: {instruction}", step.as_deref().unwrap_or("a step"))]
    Build { step: Option<String>, instruction: String, tail: Vec<String> },
    #[error("there is no image `{image}`")]
    NoImage { image: String, reason: String },
    #[error("{what} is for `{wanted}`, and this machine is `{here}`")]
    Platform { what: String, wanted: Box<Platform>, here: Box<Platform> },
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error("the image `{image}` is in use")]
    InUse { image: String },
    #[error("the container could not be started: {reason}")]
    Start { reason: String },
    #[error("there is no container `{id}`", id = .0.0)]
    Absent(ContainerId),
    #[error("{tool} failed: {reason}")]
    Tool { tool: &'static str, reason: String },
    #[error("the Docker engine at `{host}` does not answer")]
    NoEngine { host: String, reason: String },
    #[error("the Docker backend cannot {what}")]
    Beyond { what: &'static str },
    #[error("the Docker engine at `{host}` keeps its images by containerd")]
    EngineStore { host: String },
    #[error("{count} containers of the backend `{name}` are left, and this cloud is to have the other one")]
    OtherBackend { name: &'static str, count: usize },
    #[error("cannot use `{}`", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl ContainerError {
    /// Whether it is for a full disk: then nothing is wrong with what was asked, and it may be asked again. The tools that
    /// we start tell so in words, in the kernel's.
    #[must_use]
    pub fn is_full(&self) -> bool {
        const WORDS: [&str; 2] = ["no space left on device", "disk quota exceeded"];
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
            }
            Self::Start { reason } | Self::Tool { reason, .. } => {
                let reason = reason.to_lowercase();
                WORDS.iter().any(|words| reason.contains(words))
            }
            _ => false,
        }
    }
}

impl tandem_model::Explain for ContainerError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotInstalled { .. } => "E0401",
            Self::Build { .. } => "E0402",
            Self::NoImage { .. } => "E0403",
            Self::InUse { .. } => "E0404",
            Self::Start { .. } => "E0405",
            Self::Absent(_) => "E0406",
            Self::Tool { .. } => "E0407",
            Self::Io { .. } => "E0408",
            Self::Platform { .. } => "E0412",
            Self::Pull(error) => error.code(),
            Self::NoEngine { .. } => "E0420",
            Self::Beyond { .. } => "E0421",
            Self::EngineStore { .. } => "E0422",
            Self::OtherBackend { .. } => "E0424",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::NotInstalled { package, .. } => format!("install it: apt-get install {package}"),
            Self::Build { .. } => "mend that instruction and run `tandem up` again".into(),
            Self::NoImage { image, .. } => {
                format!("import it (`tandem image import {image} FILE`), or see that it can be pulled")
            }
            Self::Platform { here, .. } => format!(
                "use one for `{here}`; or let the kernel run such programs (binfmt): apt-get install qemu-user-static"
            ),
            Self::Pull(error) => error.help(),
            Self::NoEngine { .. } => "start it (`systemctl start docker`), or give `container.host` in \
                 `config.yaml` of TANDEM_HOME another address"
                .into(),
            Self::Beyond { .. } => "leave it out, or use the other backend: `container.backend: oci` in \
                 `config.yaml` of TANDEM_HOME"
                .into(),
            Self::EngineStore { .. } => {
                "let it keep them itself: `\"features\": { \"containerd-snapshotter\": false \
                 }` in `/etc/docker/daemon.json`, and start it again"
                    .into()
            }
            Self::OtherBackend { name, .. } => format!(
                "set `container.backend: {name}` in `config.yaml` of TANDEM_HOME again, and remove what runs there \
                 (`tandem ps`, `tandem destroy`) before you change it"
            ),
            Self::InUse { .. } => "stop the runs that use it (`tandem ps`), then try again".into(),
            Self::Start { .. } | Self::Tool { .. } if self.is_full() => {
                "make room on the disk of TANDEM_HOME, then run it again".into()
            }
            Self::Start { .. } => "see that the command exists in the image and may be executed".into(),
            Self::Absent(_) => "list what runs with `tandem ps`".into(),
            Self::Tool { .. } => "run `tandem serve` in the foreground to see more".into(),
            Self::Io { .. } => "check space and permissions there".into(),
        }
    }

    fn report(&self) -> Report {
        let mut causes = Vec::new();
        match self {
            Self::Build { tail, .. } => causes.clone_from(tail),
            Self::NoImage { reason, .. } | Self::NoEngine { reason, .. } => causes.push(reason.clone()),
            Self::Io { source, .. } => causes.push(source.to_string()),
            Self::Pull(error) => causes = error.causes(),
            _ => {}
        }
        Report { code: self.code().into(), message: self.to_string(), help: self.help(), causes }
    }
}

#[cfg(test)]
mod tests {
    use tandem_model::Explain;

    use super::*;

    #[test]
    fn a_full_disk_is_known_from_the_words_of_tools_too() {
        let started = |reason: &str| ContainerError::Start { reason: reason.to_owned() };
        let full = started("runc create failed: write state.json: no space left on device");
        assert!(full.is_full() && full.help().contains("make room"), "{full}");
        let said = "conmon: Failed to write to pidfile: No space left on device".to_owned();
        assert!(ContainerError::Tool { tool: "conmon", reason: said }.is_full());
        let path = PathBuf::from("/x");
        let quota = std::io::ErrorKind::QuotaExceeded.into();
        assert!(ContainerError::Io { path, source: quota }.is_full());
        let other = started("exec: no-such-command: executable file not found");
        assert!(!other.is_full() && !other.help().contains("make room"), "{other}");
    }
}
