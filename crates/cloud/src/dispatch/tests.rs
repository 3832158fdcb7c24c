//! Delivery, against an in-memory store and consumers that follow a script. Time is paused: back-off costs nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_model::{
    Event, Kind, PhysicalId, Report, Urn,
    event::{OBJECT_PUT, SpecVersion},
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, CommitError, MemoryStore, Store};
use tokio::sync::mpsc;

use super::{
    Consumer, Consumers, Delivery, Dispatcher, Outbox, Subscriptions, Undelivered,
    row::{DEAD, DELIVERIES, dead_key, delivery_key, encode, scan},
};
use crate::{
    log::{Line, Sink},
    provider::Provider,
    resource::Resources,
};

mod dead;
mod many;

/// Answers by script, then succeeds; tells of each delivery it saw.
struct Scripted {
    answers: Mutex<VecDeque<Result<(), Undelivered>>>,
    seen: mpsc::UnboundedSender<Delivery>,
}

#[async_trait]
impl Consumer for Scripted {
    async fn deliver(&self, delivery: &Delivery) -> Result<(), Undelivered> {
        self.seen.send(delivery.clone()).unwrap();
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }
}

struct Silent;
impl Sink for Silent {
    fn write(&self, _: Line) {}
}

fn urn(kind: &str, name: &str) -> Urn {
    format!("urn:tandem:p:dev:{kind}:{name}").parse().unwrap()
}

fn properties(value: Value) -> Properties {
    value.as_object().unwrap().clone()
}

fn failed() -> Result<(), Undelivered> {
    let error =
        Report { code: "E0601".into(), message: "it threw".into(), help: String::new(), causes: vec![] };
    Err(Undelivered::Failed { error, log_tail: vec!["last words".into()] })
}

struct World {
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    outbox: Arc<Outbox>,
    subscriptions: Subscriptions,
    hints: Option<super::Hints>,
}

impl World {
    fn new() -> Self {
        Self::over(Arc::new(MemoryStore::default()), Arc::default())
    }

    fn over(store: Arc<dyn Store>, resources: Arc<Resources>) -> Self {
        let (outbox, hints) = Dispatcher::outbox();
        let subscriptions = Subscriptions::new(store.clone(), outbox.clone(), resources.clone());
        Self { store, resources, outbox, subscriptions, hints: Some(hints) }
    }

    /// The same store and resources after a restart.
    async fn restarted(self) -> Self {
        let world = Self::over(self.store, self.resources);
        for r in world.resources.list(None) {
            world.subscriptions.settle(&r.urn, &r.id, Some(&r)).await;
        }
        world
    }

    fn start(
        &mut self,
        answers: Vec<Result<(), Undelivered>>,
    ) -> (Dispatcher, mpsc::UnboundedReceiver<Delivery>) {
        let (seen, receiver) = mpsc::unbounded_channel();
        let consumer = Arc::new(Scripted { answers: Mutex::new(answers.into()), seen });
        let consumers = Consumers::from([(Kind::Function, consumer as Arc<dyn Consumer>)]);
        let hints = self.hints.take().unwrap();
        (Dispatcher::start(self.store.clone(), hints, consumers, Arc::new(Silent)).unwrap(), receiver)
    }

    async fn subscribe(&self, name: &str, inputs: Value) {
        let urn = urn("subscription", name);
        let id = PhysicalId(name.into());
        let change = Change::Create { urn: urn.clone(), inputs: properties(inputs.clone()) };
        let mut batch = Batch::default();
        self.subscriptions.write(&mut batch, &change, &id).unwrap();
        self.store.commit(batch).await.unwrap();
        let inputs = properties(inputs);
        let recorded = Recorded {
            urn: urn.clone(),
            id: id.clone(),
            inputs,
            outputs: Properties::new(),
            depends_on: vec![],
        };
        let recorded = self.resources.put(recorded);
        self.subscriptions.settle(&urn, &id, Some(&recorded)).await;
    }

    async fn unsubscribe(&self, name: &str) {
        let (urn, id) = (urn("subscription", name), PhysicalId(name.into()));
        let change = Change::Delete { urn: urn.clone(), id: id.clone(), force: false };
        let mut batch = Batch::default();
        self.subscriptions.write(&mut batch, &change, &id).unwrap();
        self.store.commit(batch).await.unwrap();
        self.resources.remove(Kind::Subscription, &id);
        self.subscriptions.settle(&urn, &id, None).await;
    }

    async fn put(&self, key: &str) {
        let mut batch = Batch::default();
        let enqueued = self.outbox.enqueue(&mut batch, &event(key));
        self.store.commit(batch).await.unwrap();
        self.outbox.committed(enqueued);
    }

    fn open(&self) -> Vec<Delivery> {
        scan(&*self.store.snapshot().unwrap(), DELIVERIES.as_bytes()).unwrap()
    }

    fn dead(&self) -> Vec<super::DeadLetter> {
        scan(&*self.store.snapshot().unwrap(), DEAD.as_bytes()).unwrap()
    }
}

fn event(key: &str) -> Event {
    Event {
        specversion: SpecVersion::V1,
        id: key.into(),
        source: urn("bucket", "b").to_string(),
        kind: OBJECT_PUT.into(),
        subject: Some(key.into()),
        time: Timestamp::UNIX_EPOCH,
        traceparent: None,
        datacontenttype: "application/json".into(),
        data: json!({}),
    }
}

fn to(function: &str, suffix: &str, attempts: u32) -> Value {
    json!({
        "source": urn("bucket", "b"), "consumer": urn("function", function), "events": [OBJECT_PUT],
        "filter": {"suffix": suffix}, "maxAttempts": attempts,
    })
}

#[tokio::test(start_paused = true)]
async fn an_event_reaches_the_subscriptions_that_match_and_no_other() {
    let mut world = World::new();
    world.subscribe("jpg", to("f", ".jpg", 3)).await;
    world.subscribe("all", to("g", "", 3)).await;
    let (dispatcher, mut seen) = world.start(vec![]);
    world.put("a.jpg").await;
    let consumers = [seen.recv().await.unwrap().consumer, seen.recv().await.unwrap().consumer];
    assert!(consumers.contains(&urn("function", "f")) && consumers.contains(&urn("function", "g")));
    world.put("a.png").await;
    assert_eq!(seen.recv().await.unwrap().consumer, urn("function", "g"));
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!(world.open(), []);
    assert!(seen.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failing_event_is_retried_under_its_id_and_then_dead_with_its_reason() {
    let mut world = World::new();
    world.subscribe("s", to("f", "", 3)).await;
    let (dispatcher, mut seen) = world.start(vec![failed(), failed(), failed()]);
    world.put("k").await;
    let mut tries = Vec::new();
    for _ in 0..3 {
        tries.push(seen.recv().await.unwrap());
    }
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!(tries.iter().map(|d| d.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(tries.iter().all(|d| d.id == tries[0].id));
    assert_eq!(world.open(), []);
    let dead = world.dead();
    assert_eq!((dead.len(), dead[0].error.message.as_str()), (1, "it threw"));
    assert_eq!(dead[0].log_tail, ["last words"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_will_be_tried_again_is_on_its_way_meanwhile() {
    let mut world = World::new();
    world.subscribe("s", to("f", "", 3)).await;
    let (dispatcher, mut seen) = world.start(vec![failed()]);
    world.put("k").await;
    let expected = HashMap::from([(urn("subscription", "s"), 1)]);
    assert_eq!(dispatcher.backlog().unwrap(), expected);
    seen.recv().await.unwrap();
    // Its first attempt has failed, and half of the shortest pause goes by.
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(dispatcher.backlog().unwrap(), expected);
    seen.recv().await.unwrap();
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!(dispatcher.backlog().unwrap(), HashMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_consumer_without_room_costs_no_attempt() {
    let mut world = World::new();
    world.subscribe("s", to("f", "", 1)).await;
    let (dispatcher, mut seen) = world.start(vec![Err(Undelivered::Throttled); 20]);
    world.put("k").await;
    for _ in 0..21 {
        assert_eq!(seen.recv().await.unwrap().attempt, 1);
    }
    dispatcher.close(Duration::from_secs(9)).await;
    assert!(world.dead().is_empty() && world.open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_before_a_crash_is_delivered_after_it() {
    let world = World::new();
    world.subscribe("s", to("f", "", 3)).await;
    world.put("k").await;
    let mut world = world.restarted().await;
    let (dispatcher, mut seen) = world.start(vec![]);
    assert_eq!(seen.recv().await.unwrap().attempt, 1);
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!(world.open(), []);
}

/// Begins an attempt that never ends, and "crashes" once it is counted.
async fn crash_while_handling(world: World) -> World {
    struct Stuck;
    #[async_trait]
    impl Consumer for Stuck {
        async fn deliver(&self, _: &Delivery) -> Result<(), Undelivered> {
            std::future::pending().await
        }
    }
    let mut world = world;
    let before = world.open()[0].attempt;
    let consumers = Consumers::from([(Kind::Function, Arc::new(Stuck) as Arc<dyn Consumer>)]);
    let hints = world.hints.take().unwrap();
    let _stuck = Dispatcher::start(world.store.clone(), hints, consumers, Arc::new(Silent)).unwrap();
    while world.open()[0].attempt == before {
        tokio::task::yield_now().await;
    }
    world.restarted().await
}

#[tokio::test(start_paused = true)]
async fn an_event_that_takes_the_cloud_down_each_time_ends_in_the_dead_letters() {
    let world = World::new();
    world.subscribe("s", to("f", "", 2)).await;
    world.put("poison").await;
    let world = crash_while_handling(world).await;
    assert_eq!(world.open()[0].attempt, 1);
    let mut world = crash_while_handling(world).await;
    let (dispatcher, mut seen) = world.start(vec![]);
    while world.dead().is_empty() {
        tokio::task::yield_now().await;
    }
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!(world.dead()[0].error.code, "E0650");
    assert!(seen.try_recv().is_err(), "it was tried once more than it may be");
}

/// Its work outlives the cloud, as a container's does.
struct Outliving;

#[async_trait]
impl Consumer for Outliving {
    async fn deliver(&self, _: &Delivery) -> Result<(), Undelivered> {
        std::future::pending().await
    }

    async fn resume(&self, _: &Delivery) -> Option<Result<(), Undelivered>> {
        Some(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_last_attempt_that_outlived_the_cloud_is_not_given_up() {
    let world = World::new();
    world.subscribe("s", to("f", "", 1)).await;
    world.put("k").await;
    let mut world = crash_while_handling(world).await;
    let consumers = Consumers::from([(Kind::Function, Arc::new(Outliving) as Arc<dyn Consumer>)]);
    let hints = world.hints.take().unwrap();
    let dispatcher = Dispatcher::start(world.store.clone(), hints, consumers, Arc::new(Silent)).unwrap();
    while !world.open().is_empty() {
        tokio::task::yield_now().await;
    }
    dispatcher.close(Duration::from_secs(9)).await;
    assert_eq!(world.dead(), []);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_reaches_no_other_stack() {
    let world = World::new();
    let theirs: Urn = "urn:tandem:p:prod:bucket:b".parse().unwrap();
    let recorded = |urn: Urn| Recorded {
        id: PhysicalId(urn.to_string()),
        urn,
        inputs: Properties::new(),
        outputs: Properties::new(),
        depends_on: vec![],
    };
    world.resources.put(recorded(theirs.clone()));
    world.resources.put(recorded(urn("function", "f")));
    let mut inputs = properties(to("f", "", 1));
    inputs.insert("source".into(), json!(theirs));
    let change = Change::Create { urn: urn("subscription", "s"), inputs };
    let refused = world.subscriptions.prepare(&change, &PhysicalId("s".into()), &NoLines).await.unwrap_err();
    assert_eq!(refused.code, "E0302");
}

struct NoLines;
impl crate::provider::Lines for NoLines {
    fn line(&self, _: &str) {}
}

#[tokio::test(start_paused = true)]
async fn an_event_matched_against_old_subscriptions_cannot_commit() {
    let world = World::new();
    let mut batch = Batch::default();
    let enqueued = world.outbox.enqueue(&mut batch, &event("k"));
    world.subscribe("s", to("f", "", 3)).await;
    assert!(matches!(world.store.commit(batch).await, Err(CommitError::Conflict { .. })));
    drop(enqueued);
    world.put("k").await;
    assert_eq!(world.open().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_subscription_takes_its_events_along_and_leaves_others_alone() {
    let world = World::new();
    world.subscribe("s", to("f", "", 3)).await;
    world.subscribe("s2", to("f", "", 3)).await;
    world.put("k").await;
    world.unsubscribe("s").await;
    assert_eq!(world.open().iter().map(|d| d.subscription.name.as_str()).collect::<Vec<_>>(), ["s2"]);
    let mut world = world.restarted().await;
    let (dispatcher, mut seen) = world.start(vec![]);
    assert_eq!(seen.recv().await.unwrap().subscription, urn("subscription", "s2"));
    dispatcher.close(Duration::from_secs(9)).await;
    assert!(seen.try_recv().is_err());
}
