//! Streams as a whole: over a store on a disk, as resources of the real target, and through the real gateway.

mod consume;
mod crash;
mod lanes;
mod model;
mod overtaken;
mod wire;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tandem_model::{
    ByteSize, Explain, Kind, OpId, PhysicalId, Report, Urn,
    inputs::StartingPosition,
    plan::{Applied, Change},
};
use tandem_store::{Blobs, FileBlobs, MemoryStore, Options, RedbStore, Store};
use tempfile::TempDir;

use super::{Clock, Outgoing, Provided, Put, Record, StreamError, Streams, Tail, http, read::Range, refusal};
use crate::{
    bucket::{self, Buckets},
    credential::Credentials,
    dispatch::Dispatcher,
    gateway::{Bound, Limits, Routes, serve},
    home::Home,
    provider::{Lines, Provider},
    resource::Resources,
    target::{self, CloudTarget, Providers},
};

const HOUR: u64 = 3_600_000;

/// A cloud of streams only, with a clock of its own.
pub(super) struct Fixture {
    pub(super) streams: Arc<Streams>,
    pub(super) store: Arc<dyn Store>,
    pub(super) target: Arc<CloudTarget>,
    pub(super) time: Arc<AtomicU64>,
    pub(super) resources: Arc<Resources>,
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
        Self::with_clock(store, time, clock).await
    }

    async fn with_clock(store: Arc<dyn Store>, time: Arc<AtomicU64>, clock: Clock) -> Self {
        let resources = Arc::new(Resources::default());
        let id = target::load(&store, &resources).await.unwrap();
        let streams = Arc::new(Streams::with_clock(store.clone(), resources.clone(), clock));
        let provider = Arc::new(Provided(streams.clone())) as Arc<dyn Provider>;
        let providers = Providers::from([(Kind::Stream, provider)]);
        let target = Arc::new(CloudTarget::new(id, store.clone(), resources.clone(), providers));
        target.settle_all().await;
        Self { streams, store, target, time, resources }
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
    pub(super) async fn create(&self, stream: &str, mut inputs: Value) -> Result<Option<Applied>, Report> {
        inputs["streamName"] = stream.into();
        let Value::Object(inputs) = inputs else { unreachable!("an object was written") };
        self.apply(&Change::Create { urn: urn(stream), inputs }).await
    }

    pub(super) async fn delete_stream(&self, stream: &str, force: bool) -> Result<(), Report> {
        let id = PhysicalId(stream.to_owned());
        self.apply(&Change::Delete { urn: urn(stream), id, force }).await.map(|_| ())
    }

    pub(super) async fn put(&self, stream: &str, records: &[(&str, &str)]) -> Vec<Put> {
        self.streams.put(stream, records.iter().map(outgoing).collect(), None).await.unwrap()
    }

    /// All records of a shard from a number on.
    pub(super) async fn read(&self, stream: &str, shard: u32, mut from: u64) -> Vec<Record> {
        let open = self.streams.open(stream).await.unwrap();
        let mut all = Vec::new();
        loop {
            let page = self.streams.read(&open, Range::from(shard, from, 7, 1 << 20)).await.unwrap();
            all.extend(page.records);
            if page.ended {
                return all;
            }
            from = page.next;
        }
    }

    pub(super) async fn at(&self, stream: &str, shard: u32, position: StartingPosition) -> u64 {
        let open = self.streams.open(stream).await.unwrap();
        self.streams.number_at(&open, shard, position).await.unwrap()
    }
}

pub(super) fn urn(stream: &str) -> Urn {
    Urn::new("shop/dev".parse().unwrap(), Kind::Stream, stream.parse().unwrap())
}

fn outgoing((key, data): &(&str, &str)) -> Outgoing {
    Outgoing { key: (*key).to_owned(), data: (*data).to_owned().into(), hash: None }
}

pub(super) fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8(record.data.to_vec()).unwrap()).collect()
}

/// A fixture behind the real gateway, by the wall clock.
pub(super) struct Served {
    pub(super) fixture: Fixture,
    pub(super) credentials: Arc<Credentials>,
    pub(super) endpoint: crate::endpoint::Endpoint,
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
        let wall = || u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap();
        let fixture = Fixture::with_clock(store.clone(), Arc::default(), Arc::new(wall)).await;
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
            others: HashMap::from([("kinesis", http::router(fixture.streams.clone()))]),
            limits: Limits::of_this_process(),
        };
        tokio::spawn(serve(bound, routes, Default::default()));
        Self { fixture, credentials, endpoint, _folder: folder }
    }
}

#[tokio::test]
async fn records_of_a_key_are_in_one_shard_in_the_order_of_their_puts_and_stay_when_they_are_read() {
    let f = Fixture::new().await;
    f.create("posts", json!({ "shards": 4 })).await.unwrap();
    let mut of_shards = HashMap::<u32, Vec<String>>::new();
    for n in 0..50 {
        let (key, data) = (format!("user {}", n % 7), format!("{n}"));
        let put = f.put("posts", &[(&key, &data)]).await[0];
        of_shards.entry(put.shard).or_default().push(data);
    }
    assert!(of_shards.len() > 1);
    for _ in 0..2 {
        for (shard, put) in &of_shards {
            assert_eq!(texts(&f.read("posts", *shard, 0).await), *put);
        }
    }
    let f = f.restarted().await;
    for (shard, put) in &of_shards {
        assert_eq!(texts(&f.read("posts", *shard, 0).await), *put);
    }
}

#[tokio::test]
async fn many_puts_at_once_share_commits_and_each_keeps_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let f = Fixture::on(folder.path()).await;
    f.create("posts", json!({})).await.unwrap();
    let puts = (0..40).map(|client| {
        let streams = f.streams.clone();
        tokio::spawn(async move {
            let records = (0..100).map(|n| Outgoing {
                key: format!("client {client}"),
                data: format!("{n}").into(),
                hash: None,
            });
            streams.put("posts", records.collect(), None).await.unwrap()
        })
    });
    for put in futures::future::join_all(puts).await {
        let numbers: Vec<_> = put.unwrap().iter().map(|put| put.number).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    }
    let all = f.read("posts", 0, 0).await;
    assert_eq!(all.len(), 4000);
    assert!(all.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
    let mut of_clients = HashMap::<&str, Vec<String>>::new();
    for record in &all {
        of_clients.entry(&record.key).or_default().extend(texts(std::slice::from_ref(record)));
    }
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert!(of_clients.values().all(|data| *data == expected));
    let rows = f.store.snapshot().unwrap().prefix(b"stream-record/posts/").unwrap().count();
    assert!(rows < 40, "{rows} rows for 40 puts at once");
}

#[tokio::test]
async fn what_is_older_than_the_retention_is_not_read_and_its_numbers_are_not_given_again() {
    let f = Fixture::new().await;
    f.create("posts", json!({ "retention": 2 })).await.unwrap();
    f.put("posts", &[("k", "old"), ("k", "old too")]).await;
    f.pass(HOUR);
    let at = StartingPosition::At(jiff::Timestamp::from_millisecond(1_000_000_000 + 1).unwrap());
    assert_eq!(f.at("posts", 0, at).await, 3);
    f.put("posts", &[("k", "young")]).await;
    assert_eq!(f.at("posts", 0, at).await, 3);
    assert_eq!(f.at("posts", 0, StartingPosition::Latest).await, 4);
    f.pass(HOUR);
    assert_eq!(texts(&f.read("posts", 0, 0).await), ["young"]);
    assert_eq!(f.streams.count("posts").await.unwrap(), 1);
    assert_eq!(f.streams.expire("posts").await.unwrap(), 2);
    assert_eq!(texts(&f.read("posts", 0, 0).await), ["young"]);
    f.pass(HOUR);
    assert_eq!(f.streams.expire("posts").await.unwrap(), 1);
    let f = f.restarted().await;
    assert_eq!(f.read("posts", 0, 0).await, []);
    assert_eq!(f.put("posts", &[("k", "next")]).await[0].number, 4);
    // An empty stream goes without force, one that is not does not.
    let refused = f.delete_stream("posts", false).await.unwrap_err();
    assert_eq!(refused.code, "E0842");
    assert_eq!(f.put("posts", &[("k", "it is still there")]).await[0].number, 5);
    f.delete_stream("posts", true).await.unwrap();
    assert!(matches!(f.streams.open("posts").await, Err(StreamError::NoSuchStream { .. })));
    let left = f.store.snapshot().unwrap().prefix(b"stream").unwrap().count();
    assert_eq!(left, 0, "rows of a stream that is gone");
}

#[tokio::test]
async fn a_clock_that_is_set_back_puts_no_record_before_an_earlier_one() {
    let f = Fixture::new().await;
    f.create("posts", json!({})).await.unwrap();
    f.put("posts", &[("k", "first")]).await;
    f.time.fetch_sub(HOUR, Ordering::SeqCst);
    f.put("posts", &[("k", "second")]).await;
    let f = f.restarted().await;
    f.put("posts", &[("k", "third")]).await;
    let times: Vec<_> = f.read("posts", 0, 0).await.iter().map(|record| record.arrived).collect();
    assert_eq!(times, [1_000_000_000; 3]);
}

#[tokio::test]
async fn what_cannot_be_put_is_refused_and_nothing_of_its_batch_is_there() {
    let f = Fixture::new().await;
    f.create("posts", json!({})).await.unwrap();
    let big = "x".repeat(1 << 20);
    let long = "é".repeat(257);
    let third = "x".repeat(700_000);
    let cases: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![], "E0844"),
        (vec![("k", ""); 501], "E0844"),
        (vec![("k", &third); 15], "E0844"),
        (vec![("ok", "ok"), ("", "x")], "E0843"),
        (vec![("ok", "ok"), (&long, "x")], "E0843"),
        (vec![("ok", "ok"), ("k", &big)], "E0843"),
    ];
    for (records, code) in cases {
        let refused = f.streams.put("posts", records.iter().map(outgoing).collect(), None).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let hash = Outgoing { hash: Some("-1".into()), ..outgoing(&("k", "x")) };
    assert_eq!(f.streams.put("posts", vec![hash], None).await.unwrap_err().code(), "E0843");
    let unknown = f.streams.put("other", vec![outgoing(&("k", "x"))], None).await.unwrap_err();
    assert_eq!(unknown.code(), "E0840");
    assert_eq!(f.read("posts", 0, 0).await, []);
    let longest = "é".repeat(256);
    assert_eq!(f.put("posts", &[(&longest, &"x".repeat((1 << 20) - 512))]).await.len(), 1);
    assert_eq!(f.put("posts", &vec![("k", "x".repeat(20_000).as_str()); 500]).await.len(), 500);
}

#[tokio::test]
async fn a_program_reads_all_shards_by_the_time_at_which_records_came() {
    let f = Fixture::new().await;
    f.create("posts", json!({ "shards": 3 })).await.unwrap();
    for n in 0..2500 {
        f.put("posts", &[(&format!("{}", n % 17), &format!("{n}"))]).await;
        f.pass(1);
    }
    let mut cursor = f.streams.cursor("posts", StartingPosition::TrimHorizon).await.unwrap();
    let mut read = Vec::new();
    loop {
        let tail = f.streams.read_on("posts", &cursor, false).await.unwrap();
        read.extend(tail.records.into_iter().map(|(_, record)| record));
        cursor = serde_json::from_value(json!(tail.cursor)).unwrap();
        if tail.ended {
            break;
        }
    }
    let expected: Vec<_> = (0..2500).map(|n| n.to_string()).collect();
    assert_eq!(texts(&read), expected);
    // Nothing is there: it waits for what comes.
    let waiting = {
        let (streams, cursor) = (f.streams.clone(), cursor.clone());
        tokio::spawn(async move { streams.read_on("posts", &cursor, true).await.unwrap() })
    };
    tokio::task::yield_now().await;
    f.put("posts", &[("k", "later")]).await;
    let tail = waiting.await.unwrap();
    assert_eq!(tail.records.iter().map(|(_, record)| &record.data[..]).collect::<Vec<_>>(), [b"later"]);
}

#[tokio::test]
async fn a_page_of_many_shards_is_no_larger_than_one_of_few_and_keeps_no_rows_in_memory() {
    let f = Fixture::new().await;
    f.create("posts", json!({ "shards": 64 })).await.unwrap();
    let large = "x".repeat(1 << 19);
    for n in 0..64 {
        f.put("posts", &[(&format!("key {n}"), &large), (&format!("key {n}"), "small")]).await;
    }
    let mut cursor = f.streams.cursor("posts", StartingPosition::TrimHorizon).await.unwrap();
    let mut read = 0;
    loop {
        let Tail { records, cursor: next, ended } = f.streams.read_on("posts", &cursor, false).await.unwrap();
        let size: usize = records.iter().map(|(_, record)| record.data.len()).sum();
        assert!(size <= 4 << 20, "{size}");
        read += records.len();
        for (_, record) in records.into_iter().filter(|(_, record)| record.data.len() < 10) {
            let held = record.data.try_into_mut().expect("nobody else has it").capacity();
            assert!(held < 1000, "{held}");
        }
        cursor = next;
        if ended {
            break;
        }
    }
    assert_eq!(read, 128);
}

#[test]
fn another_number_of_shards_under_a_pinned_name_is_refused_before_anything_is_made() {
    let inputs = |inputs: Value| inputs.as_object().unwrap().clone();
    let pinned = inputs(json!({ "streamName": "posts", "shards": 2 }));
    let refused_as = |old: &_, new: Value| refusal(&urn("posts"), Some(old), &inputs(new));
    let refused = refused_as(&pinned, json!({ "streamName": "posts", "shards": 3 })).unwrap();
    assert_eq!(refused.code, "E0849");
    assert!(refused.message.starts_with("stream/posts has 2 shards; with 3"), "{}", refused.message);
    assert_eq!(refused_as(&pinned, json!({ "streamName": "posts-2", "shards": 3 })), None);
    assert_eq!(refused_as(&pinned, json!({ "shards": 3 })), None);
    assert_eq!(refused_as(&pinned, json!({ "streamName": "posts", "shards": 2, "retention": 48 })), None);
    assert_eq!(refused_as(&inputs(json!({ "shards": 2 })), json!({ "shards": 3 })), None);
    assert_eq!(refusal(&urn("posts"), None, &pinned), None);
}

#[tokio::test]
async fn retention_changes_in_place_and_what_a_client_set_stays_until_the_program_says_otherwise() {
    let f = Fixture::new().await;
    f.create("posts", json!({ "retention": 24 })).await.unwrap();
    let id = PhysicalId("posts".into());
    let update = |old: u32, new: u32, force: bool| {
        let inputs = |hours: u32, force: bool| {
            let inputs = json!({ "streamName": "posts", "retention": hours, "forceDestroy": force });
            inputs.as_object().unwrap().clone()
        };
        Change::Update { urn: urn("posts"), id: id.clone(), old: inputs(old, false), new: inputs(new, force) }
    };
    f.streams.set_retention("posts", 100).await.unwrap();
    f.apply(&update(24, 24, true)).await.unwrap();
    let retention = async || f.streams.open("posts").await.unwrap().settings().retention;
    assert_eq!(retention().await, 100);
    f.apply(&update(24, 48, true)).await.unwrap();
    assert_eq!(retention().await, 48);
}
