//! What a lane knows: kept when it stops or waits, told of what it lost, started again when it breaks off.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    Fixture, HOUR,
    consume::{Answer, Told, data_of, dead, its_urn, subscribed, subscription},
};
use crate::{
    log::{Line, Sink},
    stream::{Subscribers, lanes_of},
};

const LONG: Duration = Duration::from_secs(100);

/// What people are told.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Sink for Heard {
    fn write(&self, line: Line) {
        self.0.lock().unwrap().push(line.text);
    }
}

impl Heard {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

async fn heard(f: &Fixture, told: &Arc<Told>, heard: &Arc<Heard>, options: Value) -> Arc<Subscribers> {
    let subscribers = Subscribers::new(f.streams.clone(), f.resources.clone(), told.clone(), heard.clone());
    subscribers.settle(&its_urn(), Some(subscription(options))).await;
    subscribers
}

fn rows(f: &Fixture) -> Vec<Value> {
    let snapshot = f.store.snapshot().unwrap();
    let rows = snapshot.prefix(&lanes_of(&its_urn())).unwrap();
    rows.map(|row| serde_json::from_slice(&row.unwrap().1).unwrap()).collect()
}

async fn put(f: &Fixture, key: &str, numbers: std::ops::Range<u32>) {
    for n in numbers {
        f.put("s", &[(key, &n.to_string())]).await;
    }
}

fn sizes(told: &Told) -> Vec<usize> {
    told.calls.lock().unwrap().iter().map(|(_, _, size)| *size).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_noted_before_a_window_waits() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    put(&f, "k", 1..4).await;
    let told = Arc::new(Told::default());
    let options = json!({ "batchSize": 2, "batchWindow": 90 });
    let subscribers = subscribed(&f, &told, options.clone()).await;
    told.until(|told| told.data() == ["1", "2"]).await;
    sleep(Duration::from_secs(1)).await;
    // So a kill finds it, too.
    assert_eq!(rows(&f)[0]["n"], 3);
    subscribers.close(LONG).await;
    let f = f.restarted().await;
    let _subscribers = subscribed(&f, &told, options).await;
    told.until(|told| told.data().len() >= 3).await;
    assert_eq!(told.data(), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_window_reads_each_record_once_and_keeps_what_it_has_until_it_is_over() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    let told = Arc::new(Told::default());
    let _subscribers = subscribed(&f, &told, json!({ "batchSize": 50, "batchWindow": 30 })).await;
    for n in 0..20 {
        put(&f, "k", n..n + 1).await;
        sleep(Duration::from_secs(1)).await;
    }
    told.until(|told| !told.data().is_empty()).await;
    assert_eq!(told.data(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(sizes(&told), [20]);
    // What does not fit by its size is of the next batch.
    let large = "x".repeat(900_000);
    for _ in 0..6 {
        f.put("s", &[("k", &large)]).await;
        sleep(Duration::from_millis(10)).await;
    }
    told.until(|told| told.data().len() == 26).await;
    assert_eq!(sizes(&told), [20, 4, 2]);
}

#[tokio::test(start_paused = true)]
async fn how_a_batch_was_divided_is_kept_when_the_cloud_stops() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    put(&f, "k", 0..8).await;
    let told = Arc::new(Told::default());
    told.answers.lock().unwrap().push_back(Answer::Failed);
    let subscribers = subscribed(&f, &told, json!({})).await;
    told.until(|told| told.calls.lock().unwrap().len() == 1).await;
    subscribers.close(LONG).await;
    let f = f.restarted().await;
    let _subscribers = subscribed(&f, &told, json!({})).await;
    told.until(|told| told.data().len() == 8).await;
    assert_eq!(sizes(&told)[..2], [8, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_record_for_which_there_was_no_room_is_handled_after_a_stop_and_after_a_kill() {
    for stops in [true, false] {
        let f = Fixture::new().await;
        f.create("s", json!({})).await.unwrap();
        put(&f, "k", 0..1).await;
        let told = Arc::new(Told::default());
        told.answers.lock().unwrap().extend([Answer::Throttled; 3]);
        let subscribers = subscribed(&f, &told, json!({ "maxAttempts": 1 })).await;
        told.until(|told| told.calls.lock().unwrap().len() == 1).await;
        sleep(Duration::from_millis(1)).await;
        let row = rows(&f)[0].clone();
        assert_eq!(row["u"]["a"], 0, "{row}");
        if stops {
            subscribers.close(LONG).await;
        } else {
            told.until(|told| told.calls.lock().unwrap().len() == 3).await;
        }
        let f = if stops { f.restarted().await } else { f };
        let again = stops.then(|| subscribed(&f, &told, json!({ "maxAttempts": 1 })));
        if let Some(again) = again {
            told.answers.lock().unwrap().clear();
            again.await;
        }
        told.until(|told| !told.data().is_empty() || !dead(&*f.store).is_empty()).await;
        assert_eq!((told.data().len(), dead(&*f.store).len()), (1, 0));
        assert!(told.calls.lock().unwrap().iter().all(|(_, attempt, _)| *attempt == 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_retention_takes_from_a_lane_is_told_once_with_its_numbers() {
    for swept in [true, false] {
        let f = Fixture::new().await;
        f.create("s", json!({ "retention": 1 })).await.unwrap();
        put(&f, "k", 1..4).await;
        f.pass(HOUR + 1);
        put(&f, "k", 4..6).await;
        let (told, lines) = (Arc::new(Told::default()), Arc::new(Heard::default()));
        let subscribers = heard(&f, &told, &lines, json!({})).await;
        told.until(|told| told.data() == ["4", "5"]).await;
        subscribers.close(LONG).await;
        assert_eq!(lines.lines(), Vec::<String>::new(), "what was gone before it began is not lost to it");
        put(&f, "k", 6..11).await;
        f.pass(HOUR + 1);
        if swept {
            f.streams.expire("s").await.unwrap();
        }
        for _ in 0..3 {
            // There is nothing else to read.
            let subscribers = heard(&f.restarted().await, &told, &lines, json!({})).await;
            sleep(LONG).await;
            subscribers.close(LONG).await;
        }
        put(&f, "k", 11..12).await;
        let f = f.restarted().await;
        let _subscribers = heard(&f, &told, &lines, json!({})).await;
        told.until(|told| told.data().contains(&"11".to_owned())).await;
        let (first, last) = (crate::stream::sequence(0, 6), crate::stream::sequence(0, 10));
        assert_eq!(
            lines.lines(),
            [format!(
                "5 records of shardId-000000000000, {first} to {last}, were older than the retention of the stream before \
                 subscription/work handled them: they are gone"
            )]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_a_handler_fails_on_until_they_are_too_old_are_told_of() {
    let f = Fixture::new().await;
    f.create("s", json!({ "retention": 1 })).await.unwrap();
    let (told, lines) = (Arc::new(Told::default()), Arc::new(Heard::default()));
    told.bad.lock().unwrap().insert("bad".into());
    f.put("s", &[("k", "a"), ("k", "bad"), ("k", "b")]).await;
    let _subscribers = heard(&f, &told, &lines, json!({ "maxAttempts": 10_000 })).await;
    told.until(|told| told.calls.lock().unwrap().len() > 4).await;
    f.pass(HOUR + 1);
    f.streams.expire("s").await.unwrap();
    sleep(LONG).await;
    assert_eq!(lines.lines().len(), 1);
    assert!(lines.lines()[0].starts_with("2 records of"), "{:?}", lines.lines());
    f.put("s", &[("k", "young")]).await;
    told.until(|told| told.data() == ["a", "young"]).await;
    assert_eq!(lines.lines().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_lane_passed_over_is_not_lost_when_it_is_gone() {
    let f = Fixture::new().await;
    f.create("s", json!({ "retention": 1 })).await.unwrap();
    let (told, lines) = (Arc::new(Told::default()), Arc::new(Heard::default()));
    let options = json!({ "parallelism": 3 });
    let subscribers = heard(&f, &told, &lines, options.clone()).await;
    put(&f, "k", 0..20).await;
    told.until(|told| told.data().len() == 20).await;
    sleep(LONG).await;
    // A kill finds it, too.
    assert!(rows(&f).iter().all(|row| row["n"] == 21), "{:?}", rows(&f));
    subscribers.close(LONG).await;
    // While it is away a key of one lane is put.
    put(&f, "k", 20..22).await;
    f.pass(HOUR + 1);
    f.streams.expire("s").await.unwrap();
    let f = f.restarted().await;
    let _subscribers = heard(&f, &told, &lines, options).await;
    sleep(LONG).await;
    let lines = lines.lines();
    assert_eq!(lines.len(), 3);
    for lane in 1..=3 {
        let whose = format!("lane {lane} of 3");
        assert!(lines.iter().any(|line| line.starts_with("2 records") && line.contains(&whose)), "{lines:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_made_anew_under_its_name_is_read_from_its_beginning() {
    let f = Fixture::new().await;
    f.create("s", json!({ "shards": 2 })).await.unwrap();
    let told = Arc::new(Told::default());
    let _subscribers = subscribed(&f, &told, json!({ "startingPosition": "latest", "parallelism": 2 })).await;
    for n in 0..20 {
        put(&f, &n.to_string(), n..n + 1).await;
    }
    told.until(|told| told.data().len() == 20).await;
    for shards in [3, 1] {
        told.handled.lock().unwrap().clear();
        f.delete_stream("s", true).await.unwrap();
        f.create("s", json!({ "shards": shards })).await.unwrap();
        for n in 0..20 {
            put(&f, &n.to_string(), n..n + 1).await;
        }
        told.until(|told| told.data().len() == 20).await;
        told.until(|_| rows(&f).len() == 2 * shards).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_breaks_off_is_started_again_and_gives_up_what_breaks_it_each_time() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    let told = Arc::new(Told::default());
    let answers = [Answer::Panics, Answer::Handled, Answer::Panics, Answer::Panics, Answer::Panics];
    told.answers.lock().unwrap().extend(answers);
    let _subscribers = subscribed(&f, &told, json!({ "maxAttempts": 3 })).await;
    put(&f, "k", 0..1).await;
    told.until(|told| told.data() == ["0"]).await;
    put(&f, "k", 1..2).await;
    told.until(|_| !dead(&*f.store).is_empty()).await;
    let letters = dead(&*f.store);
    assert_eq!((data_of(&letters[0]), letters[0].error.code.as_str()), ("1", "E0650"));
    put(&f, "k", 2..3).await;
    told.until(|told| told.data() == ["0", "2"]).await;
}
