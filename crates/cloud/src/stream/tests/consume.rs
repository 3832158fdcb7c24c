//! What subscriptions make of records, with handlers that the tests are.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};
use tandem_model::{Report, Urn, event::STREAM_RECORDS, inputs::Subscription};
use tandem_store::{MemoryStore, Store};
use tokio::sync::Notify;

use super::Fixture;
use crate::{
    dispatch::{BatchHandler, DeadLetter, Delivery, Undelivered},
    log::{Line, Sink},
    stream::{Subscribers, lanes_of},
};

/// How a handler answers a batch that has no bad record in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Answer {
    Handled,
    Failed,
    Throttled,
    /// Until it is killed.
    Never,
    Panics,
}

/// Remembers what it was given.
#[derive(Default)]
pub(super) struct Told {
    /// The key and the data of what was handled, in that order.
    pub(super) handled: Mutex<Vec<(String, String)>>,
    /// The ids, attempts and sizes of all batches.
    pub(super) calls: Mutex<Vec<(String, u32, usize)>>,
    pub(super) answers: Mutex<VecDeque<Answer>>,
    /// Data that always fails.
    pub(super) bad: Mutex<HashSet<String>>,
    /// It says which record failed, and has handled those before.
    pub(super) tells: bool,
    /// It prints what it has handled.
    says: bool,
    pub(super) more: Notify,
    /// How many answers will never come.
    hangs: AtomicUsize,
    /// How many are at work, and how many were at most.
    at_once: (AtomicUsize, AtomicUsize),
    /// Data at which it waits until it is released.
    pub(super) slow: Mutex<Option<(String, Arc<Notify>)>>,
}

fn failed() -> Undelivered {
    let error = Report { code: "E0601".into(), message: "no".into(), help: String::new(), causes: vec![] };
    Undelivered::Failed { error, log_tail: vec!["last words".into()] }
}

#[async_trait]
impl BatchHandler for Told {
    async fn handle(&self, batch: &Delivery) -> Result<HashSet<String>, Undelivered> {
        let now = self.at_once.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.at_once.1.fetch_max(now, Ordering::SeqCst);
        let outcome = self.answer(batch).await;
        self.at_once.0.fetch_sub(1, Ordering::SeqCst);
        self.more.notify_waiters();
        outcome
    }
}

impl Told {
    /// One that prints what it has handled.
    pub(super) fn saying() -> Self {
        Self { says: true, ..Self::default() }
    }

    async fn answer(&self, batch: &Delivery) -> Result<HashSet<String>, Undelivered> {
        let records: Vec<(String, String, String)> = batch.event.data["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|record| {
                let text = |name: &str| record[name].as_str().unwrap().to_owned();
                (text("key"), text("data"), text("sequenceNumber"))
            })
            .collect();
        self.calls.lock().unwrap().push((batch.id.clone(), batch.attempt, records.len()));
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Handled);
        match answer {
            Answer::Handled => {}
            Answer::Failed => return Err(failed()),
            Answer::Throttled => return Err(Undelivered::Throttled),
            Answer::Panics => panic!("as a test wants it"),
            Answer::Never => {
                self.hangs.fetch_add(1, Ordering::SeqCst);
                std::future::pending().await
            }
        }
        let waits = self.slow.lock().unwrap().clone();
        if let Some((data, release)) = waits
            && records.iter().any(|(_, its, _)| *its == data)
        {
            release.notified().await;
        }
        let bad = self.bad.lock().unwrap().clone();
        let first = records.iter().position(|(_, data, _)| bad.contains(data));
        if first.is_some() && !self.tells {
            return Err(failed());
        }
        let done = first.unwrap_or(records.len());
        for (key, data, _) in records[..done].iter().filter(|_| self.says) {
            println!("\nhandled {key} {data}");
        }
        let handled = records[..done].iter().map(|(key, data, _)| (key.clone(), data.clone()));
        self.handled.lock().unwrap().extend(handled);
        Ok(first.map(|first| records[first].2.clone()).into_iter().collect())
    }

    pub(super) fn data(&self) -> Vec<String> {
        self.handled.lock().unwrap().iter().map(|(_, data)| data.clone()).collect()
    }

    /// Waits until that is so.
    pub(super) async fn until(&self, so: impl Fn(&Self) -> bool) {
        loop {
            let more = self.more.notified();
            if so(self) {
                return;
            }
            // What it depends on may also be what a lane does after the answer.
            tokio::select! {
                () = more => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
            }
        }
    }
}

struct Unheard;

impl Sink for Unheard {
    fn write(&self, _: Line) {}
}

pub(super) fn its_urn() -> Urn {
    "urn:tandem:shop:dev:subscription:work".parse().unwrap()
}

pub(super) fn subscription(options: Value) -> Subscription {
    let mut inputs = json!({
        "source": super::urn("s"),
        "consumer": "urn:tandem:shop:dev:function:work",
        "events": [STREAM_RECORDS],
        "maxAttempts": 3,
    });
    inputs.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    serde_json::from_value(inputs).unwrap()
}

pub(super) fn subscribers(f: &Fixture, told: &Arc<Told>) -> Arc<Subscribers> {
    Subscribers::new(f.streams.clone(), f.resources.clone(), told.clone(), Arc::new(Unheard))
}

pub(super) async fn subscribed(f: &Fixture, told: &Arc<Told>, options: Value) -> Arc<Subscribers> {
    let subscribers = subscribers(f, told);
    subscribers.settle(&its_urn(), Some(subscription(options))).await;
    subscribers
}

pub(super) fn dead(store: &dyn Store) -> Vec<DeadLetter> {
    let snapshot = store.snapshot().unwrap();
    let rows = snapshot.prefix(b"dead/").unwrap();
    rows.map(|row| serde_json::from_slice(&row.unwrap().1).unwrap()).collect()
}

pub(super) fn data_of(letter: &DeadLetter) -> &str {
    letter.delivery.event.data["records"][0]["data"].as_str().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_goes_to_the_dead_letters_and_all_others_are_handled_once() {
    for tells in [false, true] {
        let f = Fixture::new().await;
        f.create("s", json!({})).await.unwrap();
        let told = Arc::new(Told { tells, ..Told::default() });
        told.bad.lock().unwrap().insert("33".into());
        for n in 0..50 {
            f.put("s", &[("k", &n.to_string())]).await;
        }
        let _subscribers = subscribed(&f, &told, json!({})).await;
        told.until(|told| told.data().len() == 49).await;
        let expected: Vec<_> = (0..50).filter(|n| *n != 33).map(|n| n.to_string()).collect();
        assert_eq!(told.data(), expected);
        let letters = dead(&*f.store);
        assert_eq!(letters.len(), 1);
        assert_eq!((data_of(&letters[0]), letters[0].delivery.attempt), ("33", 3));
        assert_eq!(letters[0].delivery.subscription, its_urn());
        let code = if tells { "E0848" } else { "E0601" };
        assert_eq!(letters[0].error.code, code);
        // Alone it was tried as often as the subscription says; among others it is not counted, unless the handler told of it.
        let alone =
            told.calls.lock().unwrap().iter().filter(|(id, _, _)| *id == letters[0].delivery.id).count();
        assert_eq!(alone, if tells { 2 } else { 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_whose_handler_waits_holds_up_no_other_lane_and_lanes_never_share_a_key() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    let told = Arc::new(Told::default());
    let release = Arc::new(Notify::new());
    *told.slow.lock().unwrap() = Some(("slow".into(), release.clone()));
    let _subscribers = subscribed(&f, &told, json!({ "parallelism": 4, "batchSize": 10 })).await;
    f.put("s", &[("stuck", "slow")]).await;
    for n in 0..200 {
        f.put("s", &[(&format!("key {}", n % 20), &n.to_string())]).await;
    }
    let lane = |key: &str| crate::stream::shard::lane(key, 4);
    let free: Vec<_> = (0..200).filter(|n| lane(&format!("key {}", n % 20)) != lane("stuck")).collect();
    assert!(!free.is_empty() && free.len() < 200);
    told.until(|told| told.data().len() == free.len()).await;
    release.notify_one();
    told.until(|told| told.data().len() == 201).await;
    for n in 0..20 {
        let key = format!("key {n}");
        let of_key: Vec<usize> = told
            .handled
            .lock()
            .unwrap()
            .iter()
            .filter(|(k, _)| *k == key)
            .map(|(_, data)| data.parse().unwrap())
            .collect();
        assert!(of_key.len() == 10 && of_key.windows(2).all(|pair| pair[0] < pair[1]), "{key}: {of_key:?}");
    }
    assert!(told.at_once.1.load(Ordering::SeqCst) > 1);
}

#[tokio::test(start_paused = true)]
async fn where_a_subscription_begins_is_kept_from_the_moment_that_it_is_deployed() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    f.put("s", &[("k", "before")]).await;
    // Its program was deployed, and the cloud killed before anything was read.
    {
        let told = Arc::new(Told::default());
        told.answers.lock().unwrap().push_back(Answer::Never);
        let subscribers = subscribed(&f, &told, json!({ "startingPosition": "latest" })).await;
        subscribers.close(std::time::Duration::ZERO).await;
    }
    f.put("s", &[("k", "after")]).await;
    let f = f.restarted().await;
    let told = Arc::new(Told::default());
    let _subscribers = subscribed(&f, &told, json!({ "startingPosition": "latest" })).await;
    told.until(|told| !told.data().is_empty()).await;
    assert_eq!(told.data(), ["after"]);
}

#[tokio::test(start_paused = true)]
async fn more_lanes_begin_at_the_lowest_checkpoint_without_what_the_others_have_done() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    let told = Arc::new(Told::default());
    let subscribers = subscribed(&f, &told, json!({ "parallelism": 2, "batchSize": 1 })).await;
    let release = Arc::new(Notify::new());
    *told.slow.lock().unwrap() = Some(("0".into(), release.clone()));
    let lane = |key: usize| crate::stream::shard::lane(&format!("{key}"), 2);
    for n in 0..10 {
        f.put("s", &[(&n.to_string(), &n.to_string())]).await;
    }
    let free = (0..10).filter(|n| lane(*n) != lane(0)).count();
    told.until(|told| told.data().len() == free).await;
    subscribers.settle(&its_urn(), Some(subscription(json!({ "parallelism": 5 })))).await;
    release.notify_one();
    told.until(|told| told.data().iter().collect::<BTreeSet<_>>().len() == 10).await;
    // Until nothing is left to do: each of its rows is of five lanes, and at the end.
    let rows = |f: &Fixture| -> Vec<Value> {
        let snapshot = f.store.snapshot().unwrap();
        let rows = snapshot.prefix(&lanes_of(&its_urn())).unwrap();
        rows.map(|row| serde_json::from_slice(&row.unwrap().1).unwrap()).collect()
    };
    told.until(|_| rows(&f).iter().all(|row| row["of"] == 5 && row["d"].is_null())).await;
    assert_eq!(rows(&f).len(), 5);
    let mut data = told.data();
    data.sort_unstable();
    assert_eq!(data, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    // Fewer, while one of the five is behind: another time nothing is handed over twice.
    *told.slow.lock().unwrap() = Some(("10".into(), release.clone()));
    for n in 10..40 {
        f.put("s", &[(&n.to_string(), &n.to_string())]).await;
    }
    let lane = |key: usize| crate::stream::shard::lane(&format!("{key}"), 5);
    let free = (11..40).filter(|n| lane(*n) != lane(10)).count();
    told.until(|told| told.data().len() >= 10 + free).await;
    subscribers.settle(&its_urn(), Some(subscription(json!({ "parallelism": 3 })))).await;
    release.notify_one();
    told.until(|told| told.data().len() == 40 && rows(&f).len() == 3).await;
    f.put("s", &[("k", "end")]).await;
    told.until(|told| told.data().contains(&"end".to_owned())).await;
    assert_eq!(told.data().len(), 41);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_the_place_of_another_is_read_from_its_beginning() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    let told = Arc::new(Told::default());
    let _subscribers = subscribed(&f, &told, json!({ "startingPosition": "latest" })).await;
    f.put("s", &[("k", "one")]).await;
    told.until(|told| told.data().len() == 1).await;
    // As a replacement does it: the new one is made first, under the same urn.
    let mut inputs = json!({ "streamName": "s-2", "shards": 3 });
    let inputs = std::mem::take(inputs.as_object_mut().unwrap());
    f.apply(&tandem_model::plan::Change::Create { urn: super::urn("s"), inputs }).await.unwrap();
    f.put("s-2", &[("a", "two"), ("b", "three")]).await;
    told.until(|told| told.data().len() == 3).await;
    f.delete_stream("s", true).await.unwrap();
    f.put("s-2", &[("c", "four")]).await;
    told.until(|told| told.data().len() == 4).await;
    let rows = f.store.snapshot().unwrap().prefix(&lanes_of(&its_urn())).unwrap().count();
    assert_eq!(rows, 3);
}

#[tokio::test(start_paused = true)]
async fn a_window_gathers_what_comes_within_it_and_ends_when_the_batch_is_full() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    let told = Arc::new(Told::default());
    let _subscribers = subscribed(&f, &told, json!({ "batchWindow": 5, "batchSize": 3 })).await;
    let began = tokio::time::Instant::now();
    f.put("s", &[("k", "1")]).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    f.put("s", &[("k", "2")]).await;
    told.until(|told| told.data().len() == 2).await;
    assert!(began.elapsed().as_secs() >= 5);
    f.put("s", &[("k", "3")]).await;
    f.put("s", &[("k", "4"), ("k", "5"), ("k", "6")]).await;
    told.until(|told| told.data().len() == 5).await;
    assert!(began.elapsed().as_secs() < 10, "it was full");
    told.until(|told| told.data().len() == 6).await;
    let sizes: Vec<_> = told.calls.lock().unwrap().iter().map(|(_, _, size)| *size).collect();
    assert_eq!(sizes, [2, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_has_nothing_to_read_waits_and_does_not_look_again_and_again() {
    let f = Fixture::new().await;
    f.create("s", json!({ "retention": 1, "shards": 2 })).await.unwrap();
    let told = Arc::new(Told::default());
    // While somebody reads, time stands still.
    let minute = || tokio::time::sleep(std::time::Duration::from_secs(60));
    {
        let subscribers = subscribed(&f, &told, json!({})).await;
        minute().await;
        subscribers.settle(&its_urn(), None).await;
    }
    // All of it is gone, and its numbers were given.
    f.put("s", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]).await;
    f.pass(super::HOUR);
    f.streams.expire("s").await.unwrap();
    let f = f.restarted().await;
    let _subscribers = subscribed(&f, &told, json!({ "parallelism": 3 })).await;
    minute().await;
    f.put("s", &[("a", "5")]).await;
    told.until(|told| told.data() == ["5"]).await;
    minute().await;
}

#[tokio::test(start_paused = true)]
async fn what_retention_removes_before_it_is_handled_holds_nothing_up() {
    let f = Fixture::new().await;
    f.create("s", json!({ "retention": 1 })).await.unwrap();
    let told = Arc::new(Told::default());
    told.bad.lock().unwrap().insert("bad".into());
    f.put("s", &[("k", "a"), ("k", "bad"), ("k", "b")]).await;
    let _subscribers = subscribed(&f, &told, json!({ "maxAttempts": 10_000 })).await;
    told.until(|told| told.calls.lock().unwrap().len() > 4).await;
    f.pass(super::HOUR + 1);
    f.streams.expire("s").await.unwrap();
    f.put("s", &[("k", "young")]).await;
    told.until(|told| told.data().contains(&"young".to_owned())).await;
    assert_eq!(told.data(), ["a", "young"]);
    assert!(dead(&*f.store).is_empty());
}

#[derive(Debug, Clone)]
struct Life {
    puts: Vec<Vec<usize>>,
    answers: Vec<Answer>,
    /// After how many batches it is killed; it ends by itself if there are fewer.
    calls: usize,
    parallelism: u32,
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let answer = prop_oneof![
        4 => Just(Answer::Handled), 2 => Just(Answer::Failed), 1 => Just(Answer::Throttled), 1 => Just(Answer::Never),
    ];
    let puts = proptest::collection::vec(proptest::collection::vec(0..6usize, 1..8), 0..6);
    let life = (
        puts,
        proptest::collection::vec(answer, 0..10),
        0..12usize,
        prop_oneof![3 => Just(2u32), 1 => 1..4u32],
    )
        .prop_map(|(puts, answers, calls, parallelism)| Life { puts, answers, calls, parallelism });
    proptest::collection::vec(life, 1..6)
}

/// Runs lives of a cloud, each killed wherever it is, and a last one that comes to its end.
fn run(lives: &[Life], bad: &BTreeSet<usize>, tells: bool) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let told = Arc::new(Told { tells, ..Told::default() });
    let mut put = BTreeMap::<String, Vec<String>>::new();
    let mut count = 0;
    let last = Life { puts: vec![], answers: vec![], calls: usize::MAX, parallelism: 3 };
    let mut created = false;
    for life in lives.iter().chain([&last]) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let f = Fixture::over(store.clone(), 1_000_000_000).await;
            if !std::mem::replace(&mut created, true) {
                f.create("s", json!({ "shards": 2 })).await.unwrap();
            }
            *told.answers.lock().unwrap() = life.answers.iter().copied().collect();
            let before = told.calls.lock().unwrap().len();
            let hung = told.hangs.load(Ordering::SeqCst);
            let options = json!({ "parallelism": life.parallelism, "batchSize": 5 });
            let subscribers = subscribed(&f, &told, options).await;
            for records in &life.puts {
                let named: Vec<_> = records
                    .iter()
                    .map(|key| {
                        (format!("key {key}"), {
                            count += 1;
                            count.to_string()
                        })
                    })
                    .collect();
                for (n, (key, data)) in named.iter().enumerate() {
                    if bad.contains(&(count - named.len() + n)) {
                        told.bad.lock().unwrap().insert(data.clone());
                    }
                    put.entry(key.clone()).or_default().push(data.clone());
                }
                let records: Vec<_> = named.iter().map(|(key, data)| (key.as_str(), data.as_str())).collect();
                f.put("s", &records).await;
            }
            let done = |told: &Told| {
                let handled: HashSet<_> = told.data().into_iter().collect();
                let dead: HashSet<_> =
                    dead(&*store).iter().map(|letter| data_of(letter).to_owned()).collect();
                put.values().flatten().all(|data| handled.contains(data) || dead.contains(data))
            };
            let enough =
                |told: &Told| told.calls.lock().unwrap().len() - before >= life.calls.min(life.answers.len());
            let hangs = |told: &Told| told.hangs.load(Ordering::SeqCst) > hung;
            told.until(|told| done(told) || (life.calls != usize::MAX && (enough(told) || hangs(told))))
                .await;
            if hangs(&told) {
                // The other lanes go on meanwhile.
                tokio::time::sleep(std::time::Duration::from_millis(life.calls as u64 * 300)).await;
            }
            drop(subscribers);
        });
        // All that runs ends where it is.
        drop(runtime);
    }
    let letters: HashSet<String> = dead(&*store).iter().map(|letter| data_of(letter).to_owned()).collect();
    let bad = told.bad.lock().unwrap().clone();
    for (key, data) in &put {
        let mut seen = HashSet::new();
        let first: Vec<String> = {
            let handled = told.handled.lock().unwrap();
            let of_key = handled.iter().filter(|(k, _)| k == key).map(|(_, data)| data.clone());
            // One that was given up is handed over again if another number of lanes begins before it.
            let first = of_key.filter(|data| seen.insert(data.clone()));
            first.filter(|data| !letters.contains(data)).collect()
        };
        let kept = |data: &&String| seen.contains(*data) && !letters.contains(*data);
        let in_order: Vec<_> = data.iter().filter(kept).cloned().collect();
        assert_eq!(first, in_order, "the order of {key}");
        for data in data {
            assert!(seen.contains(data) || letters.contains(data), "{data} of {key} is lost");
            assert!(!(bad.contains(data) && seen.contains(data)), "{data} cannot be handled");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn killed_anywhere_every_record_is_handled_in_the_order_of_its_key_or_is_dead(
        lives in lives(), bad in proptest::collection::btree_set(0..60usize, 0..4), tells in any::<bool>(),
    ) {
        run(&lives, &bad, tells);
    }
}
