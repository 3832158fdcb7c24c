//! Tasks as a whole, with real processes as containers.

mod build;
mod crash;
mod deploy;
mod exchange;
mod life;
mod processes;
mod restart;
mod retry;

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tandem_container::{
    BuildRequest, Builder, Built, ContainerError, ContainerId, Image, ImageRef, Platform,
};
use tandem_model::{ByteSize, Kind, PhysicalId};
use tandem_store::MemoryStore;

use super::*;
use crate::log::{Line, Log};
use processes::Processes;

/// Images by name and by digest; a build makes one whose digest says what was built.
#[derive(Debug, Default)]
struct Shelf {
    images: Mutex<HashMap<String, Image>>,
    builds: AtomicUsize,
    /// What was asked for, in order.
    requests: Mutex<Vec<BuildRequest>>,
    /// What builds think that the time is. The true time if not set.
    now: Mutex<Option<Timestamp>>,
}

impl Shelf {
    fn put(&self, name: &str, digest: &str) -> Image {
        let image = Image {
            digest: digest.to_owned(),
            names: vec![name.to_owned()],
            size: ByteSize::mebibytes(1),
            created: Timestamp::UNIX_EPOCH,
            entrypoint: vec!["sh".into(), "-c".into()],
            command: vec!["exit 0".into()],
            environment: vec!["FROM_IMAGE=yes".into()],
            working_dir: "/".into(),
            user: String::new(),
            platform: None,
        };
        let mut images = self.images.lock().unwrap();
        images.insert(name.to_owned(), image.clone());
        images.insert(digest.to_owned(), image.clone());
        image
    }
}

#[async_trait]
impl Builder for Shelf {
    async fn build(
        &self,
        request: &BuildRequest,
        lines: &dyn tandem_container::Lines,
    ) -> Result<Built, ContainerError> {
        let dockerfile = std::fs::read_to_string(request.context.join(&request.dockerfile)).unwrap();
        if let Some(failing) = dockerfile.lines().find(|line| line.contains("false")) {
            let tail = vec!["nope".to_owned()];
            return Err(ContainerError::Build { step: None, instruction: failing.to_owned(), tail });
        }
        lines.line("STEP 1/1");
        let n = self.builds.fetch_add(1, Ordering::SeqCst) + 1;
        self.requests.lock().unwrap().push(request.clone());
        let image = self.put(&request.name, &format!("sha256:built{n}"));
        let since = self.now.lock().unwrap().unwrap_or_else(Timestamp::now);
        Ok(Built { image, since })
    }

    async fn pull(
        &self,
        image: &ImageRef,
        _: Option<&Platform>,
        lines: &dyn tandem_container::Lines,
    ) -> Result<Image, ContainerError> {
        self.resolve(image, lines).await
    }

    async fn resolve(
        &self,
        image: &ImageRef,
        _: &dyn tandem_container::Lines,
    ) -> Result<Image, ContainerError> {
        let found = self.images.lock().unwrap().get(&image.0).cloned();
        found.ok_or_else(|| ContainerError::NoImage { image: image.0.clone(), reason: "not here".into() })
    }

    async fn import(&self, _: &Path, _: &str) -> Result<Image, ContainerError> {
        unreachable!("tasks import nothing")
    }

    async fn list(&self) -> Result<Vec<Image>, ContainerError> {
        unreachable!("tasks list no images")
    }

    async fn names(&self) -> Result<Vec<(String, String)>, ContainerError> {
        let all = self.images.lock().unwrap();
        let named = all.iter().filter(|(name, _)| !name.starts_with("sha256:"));
        named.map(|(name, image)| Ok((tandem_container::complete(name)?, image.digest.clone()))).collect()
    }

    async fn export(&self, _: &str, _: &Path) -> Result<(), ContainerError> {
        unreachable!("tasks export no images")
    }

    async fn remove(&self, image: &ImageRef) -> Result<(), ContainerError> {
        self.images.lock().unwrap().retain(|name, i| *name != image.0 && i.digest != image.0);
        Ok(())
    }
}

struct Credentials;

impl Environment for Credentials {
    fn for_task(&self, task: &Urn) -> BTreeMap<String, String> {
        [("AWS_ACCESS_KEY_ID".to_owned(), format!("key-of-{}", task.name))].into()
    }
}

fn urn(name: &str) -> Urn {
    format!("urn:tandem:shop:dev:task:{name}").parse().unwrap()
}

/// A home with what outlives a cloud, and the clouds that are opened in it.
struct Scene {
    home: Home,
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    shelf: Arc<Shelf>,
    runtime: Arc<Processes>,
    log: Log,
    capacity: Room,
    grace: Duration,
    _folder: Option<tempfile::TempDir>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scene = Self::at(folder.path(), Arc::new(MemoryStore::new()));
        Self { _folder: Some(folder), ..scene }
    }

    fn at(folder: &Path, store: Arc<dyn Store>) -> Self {
        let home = Home::new(folder);
        Self {
            store,
            resources: Arc::default(),
            shelf: Arc::default(),
            runtime: Arc::new(Processes::new(&home.containers())),
            log: Log::open(&home).unwrap(),
            capacity: Room { memory: ByteSize::mebibytes(1024), millicores: 2000 },
            grace: GRACE,
            home,
            _folder: None,
        }
    }

    fn images(&self) -> Arc<Images> {
        Arc::new(Images::new(self.home.clone(), self.store.clone(), self.shelf.clone()))
    }

    fn open(&self) -> Tasks {
        let tasks = Tasks::open(Parts {
            home: self.home.clone(),
            store: self.store.clone(),
            resources: self.resources.clone(),
            images: self.images(),
            programs: Programs::new(
                self.home.clone(),
                self.resources.clone(),
                crate::archive::Archives::new(self.home.archives()),
            ),
            runtime: self.runtime.clone(),
            log: Arc::new(self.log.clone()),
            environment: Arc::new(Credentials),
            capacity: Capacity::new(self.capacity),
            grace: self.grace,
        });
        tasks.unwrap()
    }

    /// Deploys a task that runs a line of shell.
    fn deploy(&self, name: &str, script: &str, more: serde_json::Value) -> Urn {
        let image = self.shelf.put("busybox", "sha256:busybox");
        let mut inputs = json!({ "image": "busybox", "command": [script] });
        inputs.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let outputs = json!({ "id": name, "image": image.digest, "name": name });
        self.resources.put(Recorded {
            urn: urn(name),
            id: PhysicalId(name.to_owned()),
            inputs: inputs.as_object().unwrap().clone(),
            outputs: outputs.as_object().unwrap().clone(),
            depends_on: vec![],
        });
        urn(name)
    }

    fn undeploy(&self, name: &str) {
        self.resources.remove(Kind::Task, &PhysicalId(name.to_owned()));
    }

    /// The lines of a run, by whoever said them.
    async fn lines(&self, tasks: &Tasks, id: &RunId) -> Vec<String> {
        let runs: Arc<dyn RunLogs> = Arc::new(tasks.clone());
        self.log.attach_runs(Arc::downgrade(&runs));
        let filter = Filter { id: Some(id.0.clone()), ..Filter::default() };
        let lines = self.log.read(&filter).await.unwrap();
        lines.into_iter().map(|line: Line| line.text).collect()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// A pipe at which a container stops until the test lets it go on. The script does `read go <$GATE`.
    fn gate(&self, name: &str) -> Gate {
        let path = self.path(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Gate(path)
    }
}

struct Gate(std::path::PathBuf);

impl Gate {
    fn variable(&self) -> (String, String) {
        ("GATE".to_owned(), self.0.to_str().unwrap().to_owned())
    }

    /// Answers once a container stands there, and lets it go on.
    async fn open(&self) {
        let path = self.0.clone();
        tokio::task::spawn_blocking(move || std::fs::write(path, "go\n").unwrap()).await.unwrap();
    }
}

fn request(task: &Urn) -> RunRequest {
    RunRequest {
        task: task.clone(),
        environment: BTreeMap::new(),
        command: None,
        input: None,
        event: None,
        key: None,
        traceparent: None,
    }
}

fn at_gate(task: &Urn, gate: &Gate) -> RunRequest {
    RunRequest { environment: [gate.variable()].into(), ..request(task) }
}

fn container(id: &RunId) -> ContainerId {
    ContainerId(id.0.clone())
}

/// Waits until the run is known to run.
async fn running(tasks: &Tasks, id: &RunId) {
    let mut watched = tasks.shared.live().get(id).unwrap().record.clone();
    watched.wait_for(|record| record.run.started().is_some()).await.unwrap();
}
