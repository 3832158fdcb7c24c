//! The registry over the wire, through the real gateway, beside an image store that only knows names.
//!
//! What stock clients do with it, and what containers make of the images, is in `e2e`.

mod crash;
mod faults;
mod wire;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tandem_container::{BuildRequest, Builder, Built, ContainerError, Image, ImageRef, Lines, Platform};
use tandem_model::{ByteSize, Kind, PhysicalId, Urn, resource::Recorded};
use tandem_store::{FileBlobs, MemoryStore, Options, RedbStore, Store};
use tempfile::TempDir;

use super::{Digest, Reference, Registry, RegistryError, Repository, http};
use crate::{
    bucket::{self, Buckets},
    credential::Credentials,
    dispatch::Dispatcher,
    endpoint::Endpoint,
    gateway::{Bound, Limits, Routes, serve},
    home::Home,
    resource::Resources,
    target::{CloudTarget, Providers},
};

/// Names of images. Taking one in reads its layout; writing one out makes an image of one layer, whose content is its
/// digest.
#[derive(Debug, Default)]
struct Shelf {
    names: Mutex<BTreeMap<String, String>>,
    /// How often an image was written out.
    exports: Mutex<usize>,
    /// Takes nothing in.
    broken: Mutex<bool>,
}

impl Shelf {
    fn put(&self, name: &str, digest: &str) {
        self.names.lock().unwrap().insert(name.to_owned(), digest.to_owned());
    }

    fn get(&self, name: &str) -> Option<String> {
        self.names.lock().unwrap().get(name).cloned()
    }
}

fn missing(name: &str) -> ContainerError {
    ContainerError::NoImage { image: name.to_owned(), reason: "not here".to_owned() }
}

#[async_trait]
impl Builder for Shelf {
    async fn build(&self, _: &BuildRequest, _: &dyn Lines) -> Result<Built, ContainerError> {
        unreachable!("the registry builds nothing")
    }

    async fn pull(&self, _: &ImageRef, _: Option<&Platform>, _: &dyn Lines) -> Result<Image, ContainerError> {
        unreachable!("the registry pulls nothing")
    }

    async fn resolve(&self, _: &ImageRef, _: &dyn Lines) -> Result<Image, ContainerError> {
        unreachable!("the registry pulls nothing")
    }

    async fn import(&self, folder: &Path, name: &str) -> Result<Image, ContainerError> {
        if *self.broken.lock().unwrap() {
            return Err(ContainerError::Tool {
                tool: "buildah",
                reason: "no space left on device".to_owned(),
            });
        }
        let read =
            |path: &str| -> Value { serde_json::from_slice(&fs::read(folder.join(path)).unwrap()).unwrap() };
        let index = read("index.json");
        let blob = |digest: &Value| format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"));
        let manifest = read(&blob(&index["manifests"][0]["digest"]));
        for layer in manifest["layers"].as_array().unwrap() {
            let size = fs::metadata(folder.join(blob(&layer["digest"]))).unwrap().len();
            assert_eq!(size, layer["size"].as_u64().unwrap());
        }
        let digest = manifest["config"]["digest"].as_str().unwrap().to_owned();
        self.put(name, &digest);
        Ok(Image {
            digest,
            names: vec![name.to_owned()],
            size: ByteSize(0),
            created: jiff::Timestamp::UNIX_EPOCH,
            entrypoint: vec![],
            command: vec![],
            environment: vec![],
            working_dir: String::new(),
            user: String::new(),
            platform: None,
        })
    }

    async fn list(&self) -> Result<Vec<Image>, ContainerError> {
        unreachable!("the registry asks for names only")
    }

    async fn names(&self) -> Result<Vec<(String, String)>, ContainerError> {
        Ok(self.names.lock().unwrap().clone().into_iter().collect())
    }

    async fn export(&self, digest: &str, folder: &Path) -> Result<(), ContainerError> {
        *self.exports.lock().unwrap() += 1;
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |content: &str, kind: &str| {
            let digest = Digest::of(content.as_bytes());
            fs::write(blobs.join(digest.hex()), content).unwrap();
            json!({ "mediaType": kind, "digest": digest.to_string(), "size": content.len() })
        };
        let config = put("{}", "application/vnd.oci.image.config.v1+json");
        let layer = put(digest, "application/vnd.oci.image.layer.v1.tar+gzip");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        let manifest = put(&manifest.to_string(), "application/vnd.oci.image.manifest.v1+json");
        fs::write(folder.join("index.json"), json!({ "manifests": [manifest] }).to_string()).unwrap();
        Ok(())
    }

    async fn remove(&self, image: &ImageRef) -> Result<(), ContainerError> {
        let removed = self.names.lock().unwrap().remove(&image.0);
        removed.map(drop).ok_or_else(|| missing(&image.0))
    }
}

/// A cloud of images only, in which one task is deployed.
struct Fixture {
    registry: Arc<Registry>,
    shelf: Arc<Shelf>,
    resources: Arc<Resources>,
    credentials: Arc<Credentials>,
    store: Arc<dyn Store>,
    home: Home,
    bound: Option<Bound>,
    endpoint: Endpoint,
    _folder: Option<TempDir>,
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self::open(folder.path()).await;
        Self { _folder: Some(folder), ..fixture }
    }

    /// As a start of the cloud does it.
    async fn open(folder: &Path) -> Self {
        let home = Home::new(folder);
        fs::create_dir_all(home.data()).unwrap();
        fs::create_dir_all(home.run()).unwrap();
        let options = Options { keep_free: ByteSize(0), ..Options::default() };
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(home.store(), options).unwrap());
        let resources = Arc::new(Resources::default());
        let credentials = Arc::new(Credentials::open(&home, resources.clone()).unwrap());
        let shelf: Arc<Shelf> = Arc::default();
        let registry =
            Registry::open(&home, ByteSize(0), store.clone(), resources.clone(), shelf.clone()).unwrap();
        let bound = Bound::bind(&home).await.unwrap();
        let endpoint = bound.endpoint();
        let fixture = Self {
            registry: Arc::new(registry),
            shelf,
            resources,
            credentials,
            store,
            home,
            bound: Some(bound),
            endpoint,
            _folder: None,
        };
        fixture.deploy("job", "sha256:of-nothing");
        fixture
    }

    /// Deploys a task that runs from this image.
    fn deploy(&self, name: &str, image: &str) -> Urn {
        let urn = Urn::new("shop/dev".parse().unwrap(), Kind::Task, name.parse().unwrap());
        let outputs = json!({ "image": image });
        self.resources.put(Recorded {
            urn: urn.clone(),
            id: PhysicalId(name.to_owned()),
            inputs: Default::default(),
            outputs: outputs.as_object().unwrap().clone(),
            depends_on: Vec::new(),
        });
        urn
    }

    /// Answers requests from now on; ends with the runtime.
    fn serve(&mut self) {
        let blobs = Arc::new(FileBlobs::open(self.home.blobs(), ByteSize(0)).unwrap());
        let (outbox, _hints) = Dispatcher::outbox();
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let buckets = Buckets::new(memory.clone(), blobs, outbox, self.resources.clone(), self.endpoint);
        let id = tandem_engine::CloudId("test".to_owned());
        let target = CloudTarget::new(id, memory, self.resources.clone(), Providers::new());
        let routes = Routes {
            credentials: self.credentials.clone(),
            s3: bucket::http::service(Arc::new(buckets), self.credentials.clone(), Arc::new(target)),
            others: Default::default(),
            registry: http::router(self.registry.clone(), self.credentials.clone()),
            workflows: Default::default(),
            limits: Limits::of_this_process(),
        };
        tokio::spawn(serve(self.bound.take().expect("served once"), routes, Default::default()));
    }

    /// The names of all blobs, in no order.
    async fn blobs(&self) -> Vec<Digest> {
        self.registry.files.list().await.unwrap().into_iter().map(|(digest, _)| digest).collect()
    }

    fn uploads(&self) -> usize {
        fs::read_dir(self.home.registry().join("uploads")).unwrap().count()
    }

    async fn push_blob(&self, content: &str) -> Result<Value, RegistryError> {
        let (repository, digest) = (repository(), Digest::of(content.as_bytes()));
        let upload = self.registry.begin_upload(&repository, "images").await?;
        let body = futures::stream::iter([Ok::<_, std::io::Error>(content.to_owned().into())]);
        self.registry.append_upload(&upload, body, None).await?;
        self.registry.finish_upload(&upload, &digest).await?;
        let described = json!({ "digest": digest.to_string(), "size": content.len() });
        Ok(described)
    }

    /// Pushes an image of one layer, under a tag or (`@`) by its digest alone, and answers its manifest's digest and its own.
    async fn push(&self, tag: &str, layer: &str) -> Result<(Digest, String), RegistryError> {
        let mut config = self.push_blob(&json!({ "of": layer }).to_string()).await?;
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let layer = self.push_blob(layer).await?;
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] }).to_string();
        let kind = Some("application/vnd.oci.image.manifest.v1+json");
        let reference = match tag {
            "@" => Reference::Digest(Digest::of(manifest.as_bytes())),
            tag => Reference::parse(tag).unwrap(),
        };
        let put = self.registry.put_manifest(&repository(), &reference, manifest.into_bytes(), kind).await;
        put.map(|(digest, _)| (digest, config["digest"].as_str().unwrap().to_owned()))
    }

    async fn meaning(&self, tag: &str) -> Option<Digest> {
        let found = self.registry.find(&repository(), &Reference::parse(tag).unwrap()).await;
        found.ok().map(|found| found.digest)
    }
}

fn repository() -> Repository {
    Repository::parse("app").unwrap()
}

const NAME: &str = "docker.io/library/app:v1";
