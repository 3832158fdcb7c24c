//! Queues as a whole: over a store on a disk, as resources of the real target, and through the real gateway.

mod batches;
mod crash;
mod model;
mod wire;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tandem_engine::CloudId;
use tandem_model::{
    ByteSize, Kind, OpId, PhysicalId, Report, Urn,
    plan::{Applied, Change},
};
use tandem_store::{Blobs, FileBlobs, MemoryStore, Options, RedbStore, Store};
use tempfile::TempDir;

use super::{Outgoing, Provided, Queues, Receive, Received, Sent, clock::Clock, http};
use crate::{
    bucket::{self, Buckets},
    credential::Credentials,
    dispatch::Dispatcher,
    endpoint::Endpoint,
    gateway::{Bound, Limits, Routes, serve},
    home::Home,
    provider::{Lines, Provider},
    resource::Resources,
    target::{self, CloudTarget, Providers},
};

/// A cloud of queues only, with a clock of its own.
pub(super) struct Fixture {
    pub(super) queues: Arc<Queues>,
    pub(super) store: Arc<dyn Store>,
    pub(super) target: Arc<CloudTarget>,
    pub(super) time: Arc<AtomicU64>,
    resources: Arc<Resources>,
}

struct Silent;

impl Lines for Silent {
    fn line(&self, _: &str) {}
}

impl Fixture {
    /// In memory.
    pub(super) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::default()), 1_000_000_000).await
    }

    /// As a start of the cloud does it.
    pub(super) async fn on(folder: &Path) -> Self {
        let options = Options { keep_free: ByteSize(0), ..Options::default() };
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.join("store.redb"), options).unwrap());
        Self::over(store, 1_000_000_000).await
    }

    pub(super) async fn over(store: Arc<dyn Store>, now: u64) -> Self {
        let time = Arc::new(AtomicU64::new(now));
        let told = time.clone();
        let clock: Clock = Arc::new(move || told.load(Ordering::SeqCst));
        Self::with_clock(store, time, clock, Endpoint::new(([127, 0, 0, 1], 1).into())).await
    }

    async fn with_clock(
        store: Arc<dyn Store>,
        time: Arc<AtomicU64>,
        clock: Clock,
        endpoint: Endpoint,
    ) -> Self {
        let resources = Arc::new(Resources::default());
        let id: CloudId = target::load(&store, &resources).await.unwrap();
        let queues = Arc::new(Queues::with_clock(store.clone(), resources.clone(), endpoint, clock));
        let provider = Arc::new(Provided(queues.clone())) as Arc<dyn Provider>;
        let target = Arc::new(CloudTarget::new(
            id,
            store.clone(),
            resources.clone(),
            Providers::from([(Kind::Queue, provider)]),
        ));
        target.settle_all().await;
        Self { queues, store, target, time, resources }
    }

    /// What the next start of the cloud finds.
    pub(super) async fn restarted(&self) -> Self {
        Self::over(self.store.clone(), self.time.load(Ordering::SeqCst)).await
    }

    pub(super) fn pass(&self, milliseconds: u64) {
        self.time.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub(super) async fn apply(&self, change: &Change) -> Result<Option<Applied>, Report> {
        self.target.apply(&OpId(uuid::Uuid::new_v4().to_string()), change, &Silent).await
    }

    /// Of the stack `shop/dev`, called as it is named.
    pub(super) async fn create(&self, queue: &str, mut inputs: Value) -> Result<Option<Applied>, Report> {
        inputs["queueName"] = queue.into();
        let urn = Urn::new("shop/dev".parse().unwrap(), Kind::Queue, queue.parse().unwrap());
        let Value::Object(inputs) = inputs else { unreachable!("an object was written") };
        self.apply(&Change::Create { urn, inputs }).await
    }

    pub(super) async fn delete_queue(&self, queue: &str, force: bool) -> Result<(), Report> {
        let id = PhysicalId(queue.to_owned());
        let urn = self.resources.by_id(Kind::Queue, &id).unwrap().urn.clone();
        self.apply(&Change::Delete { urn, id, force }).await.map(|_| ())
    }

    pub(super) async fn send(&self, queue: &str, body: &str) -> Sent {
        let outgoing = Outgoing { body: body.into(), ..Outgoing::default() };
        self.queues.send(queue, vec![outgoing]).await.unwrap().pop().unwrap().unwrap()
    }

    pub(super) async fn receive(&self, queue: &str, most: usize) -> Vec<Received> {
        self.queues
            .receive(queue, &Receive { most, wait: Some(Duration::ZERO), ..Receive::default() })
            .await
            .unwrap()
    }
}

pub(super) fn bodies(received: &[Received]) -> Vec<String> {
    received.iter().map(|received| received.message.text().into_owned()).collect()
}

/// A fixture behind the real gateway, by the wall clock.
pub(super) struct Served {
    pub(super) fixture: Fixture,
    pub(super) credentials: Arc<Credentials>,
    pub(super) endpoint: Endpoint,
    _folder: TempDir,
}

impl Served {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        std::fs::create_dir_all(home.data()).unwrap();
        let bound = Bound::bind(&home).await.unwrap();
        let endpoint = bound.endpoint();
        let options = Options { keep_free: ByteSize(0), ..Options::default() };
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(home.data().join("store.redb"), options).unwrap());
        let fixture =
            Fixture::with_clock(store.clone(), Arc::default(), super::clock::system(), endpoint).await;
        let resources = fixture.resources.clone();
        let credentials = Arc::new(Credentials::open(&home, resources.clone()).unwrap());
        let blobs: Arc<dyn Blobs> =
            Arc::new(FileBlobs::open(home.data().join("blobs"), ByteSize(0)).unwrap());
        let (outbox, _) = Dispatcher::outbox();
        let buckets = Arc::new(Buckets::new(store, blobs, outbox, resources, endpoint));
        let routes = Routes {
            credentials: credentials.clone(),
            s3: bucket::http::service(buckets, credentials.clone(), fixture.target.clone()),
            registry: Default::default(),
            workflows: Default::default(),
            others: HashMap::from([("sqs", http::router(fixture.queues.clone(), fixture.target.clone()))]),
            limits: Limits::of_this_process(),
        };
        tokio::spawn(serve(bound, routes, Default::default()));
        Self { fixture, credentials, endpoint, _folder: folder }
    }
}

#[tokio::test]
async fn a_message_is_hidden_while_somebody_has_it_and_comes_back_if_it_is_not_deleted() {
    let f = Fixture::new().await;
    f.create("orders", json!({ "visibilityTimeout": 10 })).await.unwrap();
    f.send("orders", "one").await;
    let first = f.receive("orders", 10).await;
    assert_eq!(bodies(&first), ["one"]);
    assert_eq!(f.receive("orders", 10).await, []);
    f.pass(10_000);
    let again = f.receive("orders", 10).await;
    assert_eq!(
        (again[0].lease.receives, again[0].message.about.id.clone()),
        (2, first[0].message.about.id.clone())
    );
    // The first receipt is an older one: it deletes nothing.
    assert!(f.queues.delete("orders", vec![first[0].receipt.clone()]).await.unwrap()[0].is_ok());
    f.pass(10_000);
    let third = f.receive("orders", 10).await;
    assert!(f.queues.delete("orders", vec![third[0].receipt.clone()]).await.unwrap()[0].is_ok());
    f.pass(10_000);
    assert_eq!(f.receive("orders", 10).await, []);
    assert_eq!(f.queues.attributes("orders").await.unwrap()["ApproximateNumberOfMessages"], "0");
}

#[tokio::test]
async fn who_has_a_message_keeps_it_over_a_restart_and_counts_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let receipt = {
        let f = Fixture::on(folder.path()).await;
        f.create("orders", json!({})).await.unwrap();
        f.send("orders", "one").await;
        f.send("orders", "two").await;
        let receipt = f.receive("orders", 1).await.remove(0).receipt;
        f.store.close().await;
        receipt
    };
    let f = Fixture::on(folder.path()).await;
    assert_eq!(bodies(&f.receive("orders", 10).await), ["two"]);
    f.pass(30_000);
    let both = f.receive("orders", 10).await;
    assert_eq!(both.iter().map(|received| received.lease.receives).collect::<Vec<_>>(), [2, 2]);
    // An older receipt deletes nothing; nobody loses what they have.
    f.queues.delete("orders", vec![receipt]).await.unwrap();
    assert_eq!(f.queues.attributes("orders").await.unwrap()["ApproximateNumberOfMessagesNotVisible"], "2");
}

#[tokio::test]
async fn a_clock_that_was_set_back_over_a_restart_hides_nothing() {
    let f = Fixture::new().await;
    f.create("orders", json!({})).await.unwrap();
    f.send("orders", "sent before").await;
    let back = Fixture::over(f.store.clone(), 1_000_000_000 - 3_600_000).await;
    assert_eq!(bodies(&back.receive("orders", 10).await), ["sent before"]);
    back.send("orders", "sent after").await;
    assert_eq!(bodies(&back.receive("orders", 10).await), ["sent after"]);
}

#[tokio::test]
async fn a_queue_with_messages_is_deleted_only_by_force_and_leaves_nothing() {
    let f = Fixture::new().await;
    f.create("orders", json!({})).await.unwrap();
    f.send("orders", "one").await;
    let error = f.delete_queue("orders", false).await.unwrap_err();
    assert_eq!(error.code, "E0774");
    assert_eq!(bodies(&f.receive("orders", 10).await), ["one"]);
    f.delete_queue("orders", true).await.unwrap();
    assert!(f.queues.receive("orders", &Receive { most: 1, ..Receive::default() }).await.is_err());
    f.create("orders", json!({})).await.unwrap();
    assert_eq!(f.receive("orders", 10).await, []);
    let snapshot = f.store.snapshot().unwrap();
    for table in super::key::TABLES {
        assert_eq!(snapshot.prefix(table.as_bytes()).unwrap().count(), 0, "{table}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_old_is_not_received_and_its_room_is_freed() {
    let f = Fixture::new().await;
    f.create("orders", json!({ "retention": 60 })).await.unwrap();
    f.create("calls.fifo", json!({ "retention": 60, "fifo": true, "contentBasedDeduplication": true }))
        .await
        .unwrap();
    for (queue, group) in [("orders", None), ("calls.fifo", Some("g".to_owned()))] {
        for body in ["old", "older"] {
            let outgoing = Outgoing { body: body.into(), group: group.clone(), ..Outgoing::default() };
            f.queues.send(queue, vec![outgoing]).await.unwrap()[0].as_ref().unwrap();
        }
    }
    f.pass(60_000);
    f.send("orders", "new").await;
    assert_eq!(f.queues.expire("orders").await.unwrap(), 2);
    assert_eq!(f.queues.expire("calls.fifo").await.unwrap(), 2);
    assert_eq!(bodies(&f.receive("orders", 10).await), ["new"]);
    assert_eq!(f.receive("calls.fifo", 10).await, []);
    assert_eq!(f.store.snapshot().unwrap().prefix(b"message/").unwrap().count(), 1);
}

#[tokio::test]
async fn a_consumer_that_waits_gets_what_is_sent_meanwhile_and_what_comes_back() {
    let f = Fixture::new().await;
    f.create("orders", json!({})).await.unwrap();
    let queues = f.queues.clone();
    let waiting = tokio::spawn(async move {
        queues
            .receive(
                "orders",
                &Receive { most: 10, wait: Some(Duration::from_secs(20)), ..Receive::default() },
            )
            .await
            .unwrap()
    });
    while !waiting.is_finished()
        && f.queues.attributes("orders").await.unwrap()["ApproximateNumberOfMessagesNotVisible"] == "0"
    {
        if f.queues.attributes("orders").await.unwrap()["ApproximateNumberOfMessages"] == "0" {
            f.send("orders", "one").await;
        }
        tokio::task::yield_now().await;
    }
    let received = waiting.await.unwrap();
    assert_eq!(bodies(&received)[0], "one");
    let queues = f.queues.clone();
    let waiting = tokio::spawn(async move {
        queues
            .receive(
                "orders",
                &Receive { most: 10, wait: Some(Duration::from_secs(20)), ..Receive::default() },
            )
            .await
            .unwrap()
    });
    // Given back, it is there at once.
    let given_back = received.into_iter().map(|received| (received.receipt, 0)).collect();
    f.queues.change_visibility("orders", given_back).await.unwrap();
    assert_eq!(bodies(&waiting.await.unwrap())[0], "one");
}
