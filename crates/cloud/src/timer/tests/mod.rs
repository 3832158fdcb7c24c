//! Timers as a whole: over a store on a disk, as resources of the real target, by a clock that the test sets.

mod crash;
mod full;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tandem_engine::CloudId;
use tandem_model::{
    ByteSize, Explain, Kind, OpId, PhysicalId, Report, Urn,
    event::{TIMER_TICK, TickData},
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Options, RedbStore, Store};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::{LOOK, Timers, run};
use crate::{
    dispatch::{Delivery, Dispatcher, Hints, Subscriptions},
    provider::{Lines, Provider},
    resource::Resources,
    target::{self, CloudTarget, Providers},
};

/// A clock that stands until it is set.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn at(text: &str) -> Self {
        let clock = Self::default();
        clock.set(text);
        clock
    }

    fn set(&self, text: &str) {
        self.0.store(text.parse::<Timestamp>().unwrap().as_millisecond(), Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// A cloud of timers and subscriptions only.
struct Fixture {
    timers: Arc<Timers>,
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    target: CloudTarget,
    clock: Clock,
    _hints: Hints,
    _folder: Option<TempDir>,
}

struct Silent;

impl Lines for Silent {
    fn line(&self, _: &str) {}
}

fn urn(kind: &str, name: &str) -> Urn {
    format!("urn:tandem:shop:dev:{kind}:{name}").parse().unwrap()
}

fn properties(value: Value) -> Properties {
    value.as_object().cloned().unwrap()
}

impl Fixture {
    async fn new(now: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut fixture = Self::open(folder.path(), Clock::at(now)).await;
        fixture._folder = Some(folder);
        fixture
    }

    /// As a start of the cloud does it.
    async fn open(folder: &Path, clock: Clock) -> Self {
        let options = Options { keep_free: ByteSize(0), ..Options::default() };
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.join("store.redb"), options).unwrap());
        Self::over(store, clock).await
    }

    async fn over(store: Arc<dyn Store>, clock: Clock) -> Self {
        let resources = Arc::new(Resources::default());
        let id: CloudId = target::load(&store, &resources).await.unwrap();
        let (outbox, hints) = Dispatcher::outbox();
        let subscriptions = Subscriptions::new(store.clone(), outbox.clone(), resources.clone());
        let given = clock.clone();
        let timers = Arc::new(Timers::new(store.clone(), outbox, move || given.now()));
        let providers = Providers::from([
            (Kind::Timer, timers.clone() as Arc<dyn Provider>),
            (Kind::Subscription, Arc::new(subscriptions) as Arc<dyn Provider>),
        ]);
        let target = CloudTarget::new(id, store.clone(), resources.clone(), providers);
        target.settle_all().await;
        Self { timers, store, resources, target, clock, _hints: hints, _folder: None }
    }

    /// The same cloud, started anew.
    async fn again(self) -> Self {
        let Self { store, clock, _folder, .. } = self;
        let mut again = Self::over(store, clock).await;
        again._folder = _folder;
        again
    }

    async fn apply(&self, change: &Change) -> Result<(), Report> {
        self.target.apply(&OpId(uuid::Uuid::new_v4().to_string()), change, &Silent).await.map(drop)
    }

    async fn declare(&self, name: &str, inputs: Value) -> Result<(), Report> {
        self.apply(&Change::Create { urn: urn("timer", name), inputs: properties(inputs) }).await
    }

    async fn redeclare(&self, name: &str, new: Value) -> Result<(), Report> {
        let recorded = self.resources.by_urn(&urn("timer", name)).unwrap();
        let (id, old) = (recorded.id.clone(), recorded.inputs.clone());
        self.apply(&Change::Update { urn: urn("timer", name), id, old, new: properties(new) }).await
    }

    /// Subscribes a function that nothing runs.
    async fn subscribe(&self, name: &str) {
        let consumer = urn("function", name);
        self.resources.put(Recorded {
            urn: consumer.clone(),
            id: PhysicalId(name.to_owned()),
            inputs: Properties::new(),
            outputs: Properties::new(),
            depends_on: Vec::new(),
        });
        let inputs = json!({ "source": urn("timer", name), "consumer": consumer, "events": [TIMER_TICK] });
        let change = Change::Create { urn: urn("subscription", name), inputs: properties(inputs) };
        self.apply(&change).await.unwrap();
    }

    async fn timer(&self, name: &str, inputs: Value) {
        self.declare(name, inputs).await.unwrap();
        self.subscribe(name).await;
    }

    /// Sets the clock, and ticks with what is due.
    async fn fire_at(&self, now: &str) -> Option<Duration> {
        self.clock.set(now);
        self.timers.fire().await
    }

    fn deliveries(&self) -> Vec<Delivery> {
        let snapshot = self.store.snapshot().unwrap();
        let rows = snapshot.prefix(b"delivery/").unwrap();
        rows.map(|row| serde_json::from_slice(&row.unwrap().1).unwrap()).collect()
    }

    /// The times that were ticked for, in the order of the commits.
    fn ticks(&self) -> Vec<String> {
        let data = |delivery: Delivery| serde_json::from_value::<TickData>(delivery.event.data).unwrap();
        self.deliveries().into_iter().map(|delivery| data(delivery).scheduled_time.to_string()).collect()
    }

    fn next(&self, name: &str) -> Option<String> {
        let all = self.timers.status(None);
        let status = all.into_iter().find(|status| status.urn == urn("timer", name)).unwrap();
        status.next.map(|next| next.to_string())
    }
}

#[tokio::test]
async fn a_tick_is_an_event_with_its_time_and_the_one_before() {
    let f = Fixture::new("2026-11-26T10:00:30Z").await;
    f.timer("report", json!({ "cron": "*/15 * * * *" })).await;
    assert_eq!(f.fire_at("2026-11-26T10:14:59.999Z").await, Some(Duration::from_millis(1)));
    assert_eq!(f.ticks(), [""; 0]);
    assert_eq!(f.fire_at("2026-11-26T10:15:00.002Z").await, Some(LOOK));
    f.fire_at("2026-11-26T10:30:00Z").await;
    let events: Vec<_> = f.deliveries().into_iter().map(|delivery| delivery.event).collect();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0].kind, "dev.tandem.timer.tick");
    assert_eq!(events[0].source, "urn:tandem:shop:dev:timer:report");
    assert_eq!(events[0].data, json!({ "timer": "report", "scheduledTime": "2026-11-26T10:15:00Z" }));
    assert_eq!(events[1].data["previousTime"], "2026-11-26T10:15:00Z");
    assert_eq!((&*events[0].id, &*events[1].id), ("2026-11-26T10:15:00Z/1", "2026-11-26T10:30:00Z/2"));
    assert_eq!(f.next("report").as_deref(), Some("2026-11-26T10:45:00Z"));
}

#[tokio::test]
async fn an_interval_goes_on_from_its_last_tick_also_after_a_restart() {
    let f = Fixture::new("2026-11-26T10:00:30Z").await;
    f.timer("poll", json!({ "every": 60 })).await;
    f.fire_at("2026-11-26T10:01:31Z").await;
    let f = f.again().await;
    f.fire_at("2026-11-26T10:02:29Z").await;
    f.fire_at("2026-11-26T10:02:30Z").await;
    assert_eq!(f.ticks(), ["2026-11-26T10:01:30Z", "2026-11-26T10:02:30Z"]);
}

#[tokio::test]
async fn what_was_missed_is_made_up_by_one_tick() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    f.timer("daily", json!({ "cron": "0 6 * * *" })).await;
    f.timer("poll", json!({ "every": 3600 })).await;
    f.timer("once", json!({ "at": "2026-11-26T12:00:00Z" })).await;
    f.clock.set("2026-12-01T05:30:00Z");
    let f = f.again().await;
    for _ in 0..3 {
        f.timers.fire().await;
    }
    let mut ticks = f.ticks();
    ticks.sort();
    assert_eq!(ticks, ["2026-11-26T12:00:00Z", "2026-11-30T06:00:00Z", "2026-12-01T05:00:00Z"]);
    assert_eq!(f.next("once"), None);
    assert_eq!(f.next("daily").as_deref(), Some("2026-12-01T06:00:00Z"));
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_tick_twice() {
    let f = Fixture::new("2026-11-26T11:59:00Z").await;
    f.timer("cron", json!({ "cron": "0 * * * *" })).await;
    f.timer("poll", json!({ "every": 60 })).await;
    f.fire_at("2026-11-26T12:00:00Z").await;
    assert_eq!(f.ticks().len(), 2);
    // An hour back: the cron timer has had 12:00, and the interval begins anew.
    f.fire_at("2026-11-26T11:00:10Z").await;
    assert_eq!(f.next("cron").as_deref(), Some("2026-11-26T13:00:00Z"));
    assert_eq!(f.next("poll").as_deref(), Some("2026-11-26T11:01:10Z"));
    for now in ["2026-11-26T11:01:10Z", "2026-11-26T11:02:10Z", "2026-11-26T12:00:00Z"] {
        f.fire_at(now).await;
    }
    let ids = f.deliveries().into_iter().map(|delivery| (delivery.event.source, delivery.event.id));
    let ids: Vec<_> = ids.collect();
    let of_noon = ids.iter().filter(|(_, id)| id.starts_with("2026-11-26T12:00:00Z")).count();
    assert_eq!(of_noon, 2, "those of before: {ids:?}");
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), ids.len());
    f.fire_at("2026-11-26T13:00:00Z").await;
    assert!(f.ticks().contains(&"2026-11-26T13:00:00Z".to_owned()));
}

#[tokio::test]
async fn a_timer_does_not_tick_before_somebody_hears_it() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    f.declare("once", json!({ "at": "2026-11-26T10:00:05Z" })).await.unwrap();
    f.fire_at("2026-11-26T10:00:06Z").await;
    assert_eq!(f.next("once").as_deref(), Some("2026-11-26T10:00:05Z"));
    // The driver hears of the subscription.
    let driving = tokio::spawn(run(Arc::downgrade(&f.timers), |_| std::future::pending::<()>()));
    f.subscribe("once").await;
    while f.ticks().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(f.ticks(), ["2026-11-26T10:00:05Z"]);
    driving.abort();
}

#[tokio::test]
async fn another_schedule_begins_anew_and_the_same_one_does_not() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    f.timer("poll", json!({ "every": 60 })).await;
    f.fire_at("2026-11-26T10:01:00Z").await;
    f.clock.set("2026-11-26T10:01:30Z");
    f.redeclare("poll", json!({ "every": 60 })).await.unwrap();
    assert_eq!(f.next("poll").as_deref(), Some("2026-11-26T10:02:00Z"));
    f.redeclare("poll", json!({ "every": 90 })).await.unwrap();
    assert_eq!(f.next("poll").as_deref(), Some("2026-11-26T10:03:00Z"));
    f.redeclare("poll", json!({ "at": "2026-11-26T10:02:30Z" })).await.unwrap();
    f.fire_at("2026-11-26T10:02:30Z").await;
    let numbers: Vec<_> = f.deliveries().into_iter().map(|d| d.event.id).collect();
    assert_eq!(numbers, ["2026-11-26T10:01:00Z/1", "2026-11-26T10:02:30Z/2"]);
    assert_eq!(f.next("poll"), None);
}

#[tokio::test]
async fn a_tick_that_was_recorded_while_the_timer_was_armed_is_not_made_again_and_others_follow() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    f.timer("poll", json!({ "every": 60 })).await;
    let id = f.resources.by_urn(&urn("timer", "poll")).unwrap().id.clone();
    let (record, _) = f.timers.record(&id).unwrap().unwrap();
    let ticked =
        super::store::Record { last: Some("2026-11-26T10:01:00Z".parse().unwrap()), ticks: 1, ..record };
    let mut batch = tandem_store::Batch::default();
    batch.put(super::store::row(&id), super::store::encode(&ticked));
    f.store.commit(batch).await.unwrap();
    f.fire_at("2026-11-26T10:01:00Z").await;
    assert_eq!(f.ticks(), [""; 0]);
    f.fire_at("2026-11-26T10:02:00Z").await;
    assert_eq!(f.ticks(), ["2026-11-26T10:02:00Z"]);
}

#[tokio::test]
async fn a_timer_that_is_deleted_leaves_nothing() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    f.declare("poll", json!({ "every": 60 })).await.unwrap();
    let id = f.resources.by_urn(&urn("timer", "poll")).unwrap().id.clone();
    f.apply(&Change::Delete { urn: urn("timer", "poll"), id, force: false }).await.unwrap();
    assert_eq!(f.timers.status(None), []);
    assert_eq!(f.store.snapshot().unwrap().prefix(b"timer/").unwrap().count(), 0);
    assert_eq!(f.fire_at("2026-11-26T11:00:00Z").await, None);
}

#[tokio::test]
async fn a_time_that_is_past_is_refused_when_it_is_new() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    for inputs in [json!({ "at": "2026-11-26T09:59:59Z" }), json!({ "cron": "cron(0 0 1 1 ? 2026)" })] {
        let report = f.declare("late", inputs).await.unwrap_err();
        assert_eq!(report.code, "E0675");
        assert!(report.message.starts_with("timer/late: "), "{report}");
    }
    let at = |text: &str| properties(json!({ "at": text }));
    let now = f.clock.now() + 48.hours();
    let (old, new) = (at("2026-11-26T12:00:00Z"), at("2026-11-27T12:00:00Z"));
    assert_eq!(super::refusal(&urn("timer", "late"), Some(&old), &old, now), None, "it has had its tick");
    let refused = super::refusal(&urn("timer", "late"), Some(&old), &new, now).unwrap();
    assert_eq!(refused.code, "E0675");
    assert_eq!(
        super::TimerError::from(tandem_model::schedule::Schedule::every(0.0).unwrap_err()).code(),
        "E0672"
    );
}

/// Waits in its sleep until the test says that the time has come.
#[tokio::test]
async fn one_task_waits_for_the_next_of_all_and_looks_at_the_clock_now_and_then() {
    let f = Fixture::new("2026-11-26T10:00:00Z").await;
    f.timer("late", json!({ "every": 3600 })).await;
    let (slept, wake) = (Arc::new(tokio::sync::Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let (notes, waking) = (slept.clone(), wake.clone());
    let driving = tokio::spawn(run(Arc::downgrade(&f.timers), move |pause| {
        let (notes, waking) = (notes.clone(), waking.clone());
        async move {
            notes.lock().await.push(pause);
            waking.notified().await;
        }
    }));
    let wait_for = async |count: usize| {
        while slept.lock().await.len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        *slept.lock().await.last().unwrap()
    };
    assert_eq!(wait_for(1).await, LOOK);
    // A nearer one wakes it.
    let before = slept.lock().await.len();
    f.timer("soon", json!({ "every": 2 })).await;
    wait_for(before + 1).await;
    while *slept.lock().await.last().unwrap() != Duration::from_secs(2) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The clock jumps: what it has gone past is made up by one tick each.
    f.clock.set("2026-11-26T12:00:01Z");
    wake.notify_one();
    while f.ticks().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut ticks = f.ticks();
    ticks.sort();
    assert_eq!(ticks, ["2026-11-26T12:00:00Z", "2026-11-26T12:00:00Z"]);
    driving.abort();
}

#[tokio::test]
async fn ten_thousand_timers_are_held_by_one_task() {
    let f = Fixture::over(Arc::new(tandem_store::MemoryStore::default()), Clock::at("2026-11-26T10:00:00Z"))
        .await;
    let begun = std::time::Instant::now();
    let declared = json!({ "cron": "30 10 * * *", "timeZone": "Europe/Berlin" });
    for n in 0..10_000 {
        let (urn, id) = (urn("timer", &format!("t{n}")), PhysicalId(format!("t{n}")));
        f.timers.arm(&urn, &id, serde_json::from_value(declared.clone()).unwrap()).unwrap();
    }
    assert_eq!(f.timers.status(None).len(), 10_000);
    let armed = begun.elapsed();
    assert_eq!(f.timers.fire().await, Some(LOOK), "nobody is due");
    assert_eq!(f.next("t9999").as_deref(), Some("2026-11-27T09:30:00Z"));
    assert!(armed < Duration::from_secs(30), "{armed:?}");
}
