//! Buckets as a whole: over a store on a disk, as resources of the real target, and through the real gateway.

mod crash;
mod crash_versions;
mod deletion;
mod lifecycle;
mod notifications;
mod objects;
mod paging;
mod uploads;
mod versions;
mod wire;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use tandem_engine::CloudId;
use tandem_model::{
    ByteSize, Kind, OpId, PhysicalId, Report, Urn,
    event::ObjectData,
    plan::{Applied, Change},
    resource::{Properties, Recorded},
};
use tandem_store::{Blobs, FileBlobs, Options, RedbStore, Store};
use tempfile::TempDir;

use super::{Buckets, http, made};
use crate::{
    credential::Credentials,
    dispatch::{Delivery, Dispatcher, Hints, Subscriptions},
    endpoint::Endpoint,
    gateway::{Bound, Limits, Routes, serve},
    home::Home,
    provider::{Lines, Provider},
    resource::Resources,
    target::{self, CloudTarget, Providers},
};

pub(super) const BUCKET: &str = "photos";

/// A cloud of buckets and subscriptions only.
pub(super) struct Fixture {
    pub(super) buckets: Arc<Buckets>,
    pub(super) store: Arc<dyn Store>,
    pub(super) blobs: Arc<dyn Blobs>,
    pub(super) resources: Arc<Resources>,
    target: Arc<CloudTarget>,
    credentials: Arc<Credentials>,
    bound: Option<Bound>,
    endpoint: Endpoint,
    _hints: Hints,
    _folder: Option<TempDir>,
}

struct Silent;

impl Lines for Silent {
    fn line(&self, _: &str) {}
}

impl Fixture {
    /// With a bucket called `photos`.
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fixture = Self::open(folder.path()).await;
        fixture._folder = Some(folder);
        fixture.create_bucket("shop/dev", BUCKET, false).await.unwrap();
        fixture
    }

    /// Waits until there are so many blobs: what nothing refers to any more is deleted behind an answer.
    pub(super) async fn blobs_become(&self, count: usize) {
        for _ in 0..1000 {
            if self.blobs.list().await.unwrap().len() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("there are other blobs than {count}: {:?}", self.blobs.list().await);
    }

    /// As a start of the cloud does it.
    pub(super) async fn open(folder: &Path) -> Self {
        let home = Home::new(folder);
        std::fs::create_dir_all(home.data()).unwrap();
        let options = Options { keep_free: ByteSize(0), ..Options::default() };
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(home.data().join("store.redb"), options).unwrap());
        let blobs: Arc<dyn Blobs> =
            Arc::new(FileBlobs::open(home.data().join("blobs"), ByteSize(0)).unwrap());
        let resources = Arc::new(Resources::default());
        let id: CloudId = target::load(&store, &resources).await.unwrap();
        let credentials = Arc::new(Credentials::open(&home, resources.clone()).unwrap());
        let bound = Bound::bind(&home).await.unwrap();
        let endpoint = bound.endpoint();
        let (outbox, hints) = Dispatcher::outbox();
        let subscriptions = Subscriptions::new(store.clone(), outbox.clone(), resources.clone());
        let buckets =
            Arc::new(Buckets::new(store.clone(), blobs.clone(), outbox, resources.clone(), endpoint));
        let providers = Providers::from([
            (Kind::Bucket, buckets.clone() as Arc<dyn Provider>),
            (Kind::Subscription, Arc::new(subscriptions) as Arc<dyn Provider>),
        ]);
        let target = Arc::new(CloudTarget::new(id, store.clone(), resources.clone(), providers));
        target.settle_all().await;
        let bound = Some(bound);
        Self {
            buckets,
            store,
            blobs,
            resources,
            target,
            credentials,
            bound,
            endpoint,
            _hints: hints,
            _folder: None,
        }
    }

    async fn apply(&self, change: &Change) -> Result<Option<Applied>, Report> {
        self.target.apply(&OpId(uuid::Uuid::new_v4().to_string()), change, &Silent).await
    }

    pub(super) async fn create_bucket(
        &self,
        stack: &str,
        name: &str,
        force_destroy: bool,
    ) -> Result<Option<Applied>, Report> {
        let urn = Urn::new(stack.parse().unwrap(), Kind::Bucket, name.parse().unwrap());
        let inputs = serde_json::json!({ "bucketName": name, "forceDestroy": force_destroy });
        let serde_json::Value::Object(inputs) = inputs else { unreachable!("an object was written") };
        self.apply(&Change::Create { urn, inputs }).await
    }

    /// As a client does it.
    pub(super) async fn make_bucket(&self, stack: &str, name: &str) -> Result<(), Report> {
        let urn = made::urn(&stack.parse().unwrap(), name).unwrap();
        let inputs = Properties::from_iter([("bucketName".to_owned(), name.into())]);
        self.target.change(&Change::Create { urn, inputs }).await
    }

    pub(super) async fn delete_bucket(&self, name: &str, force: bool) -> Result<(), Report> {
        let id = PhysicalId(name.to_owned());
        let urn = self.resources.by_id(Kind::Bucket, &id).unwrap().urn.clone();
        self.apply(&Change::Delete { urn, id, force }).await.map(|_| ())
    }

    /// A function that is deployed, and that nothing runs.
    pub(super) fn function(&self, stack: &str, name: &str) -> Urn {
        let urn = Urn::new(stack.parse().unwrap(), Kind::Function, name.parse().unwrap());
        self.resources.put(Recorded {
            urn: urn.clone(),
            id: PhysicalId(name.to_owned()),
            inputs: Properties::new(),
            outputs: Properties::new(),
            depends_on: Vec::new(),
        });
        urn
    }

    /// Subscribes a function to everything that happens in `photos`.
    pub(super) async fn subscribe(&self) {
        let consumer = self.function("shop/dev", "resize");
        let inputs = serde_json::json!({
            "source": "urn:tandem:shop:dev:bucket:photos",
            "consumer": consumer,
            "events": [tandem_model::event::OBJECT_PUT, tandem_model::event::OBJECT_DELETED],
        });
        let serde_json::Value::Object(inputs) = inputs else { unreachable!("an object was written") };
        let urn = "urn:tandem:shop:dev:subscription:resize".parse().unwrap();
        self.apply(&Change::Create { urn, inputs }).await.unwrap();
    }

    /// The events that wait for the subscribed function: what happened, and the object, in the order in which they were committed.
    pub(super) fn events(&self) -> Vec<(String, ObjectData)> {
        let snapshot = self.store.snapshot().unwrap();
        let deliveries = snapshot.prefix(b"delivery/urn:tandem:shop:dev:subscription:").unwrap();
        deliveries
            .map(|entry| {
                let delivery: Delivery = serde_json::from_slice(&entry.unwrap().1).unwrap();
                assert!(delivery.event.traceparent.is_some());
                let kind = delivery.event.kind.rsplit('.').next().unwrap().to_owned();
                (kind, serde_json::from_value(delivery.event.data).unwrap())
            })
            .collect()
    }

    /// The kinds of those events, with the keys.
    pub(super) fn happened(&self) -> Vec<String> {
        self.events().into_iter().map(|(kind, object)| format!("{kind} {}", object.key)).collect()
    }

    pub(super) async fn put(&self, key: &str, body: impl Into<Bytes>) {
        self.buckets.put(BUCKET, key, once(body), &Default::default()).await.unwrap();
    }

    pub(super) async fn get(&self, key: &str) -> Bytes {
        self.buckets.get(BUCKET, key).await.unwrap().bytes().await.unwrap()
    }

    /// Answers requests from now on; ends with the runtime.
    pub(super) fn serve(&mut self) {
        self.serve_within(Limits::of_this_process());
    }

    pub(super) fn serve_within(&mut self, limits: Limits) {
        let s3 = http::service(self.buckets.clone(), self.credentials.clone(), self.target.clone());
        let (credentials, others) = (self.credentials.clone(), Default::default());
        let routes = Routes {
            credentials,
            s3,
            others,
            registry: Default::default(),
            workflows: Default::default(),
            limits,
        };
        let bound = self.bound.take().expect("served once");
        tokio::spawn(serve(bound, routes, Default::default()));
    }
}

/// A body in one piece.
pub(super) fn once(body: impl Into<Bytes>) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send {
    let body = body.into();
    stream::once(async move { Ok(body) })
}
