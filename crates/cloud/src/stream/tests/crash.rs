//! Kills a process that changes streams at each failpoint, and looks at what the next start makes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::json;

use super::{
    Fixture,
    consume::{Told, dead, its_urn, subscribers, subscription},
};
use crate::killed;

/// The process that is killed. It does everything that a stream can do, and says what was acknowledged and what was handled.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn changes() {
    let Some(folder) = killed::folder() else { return };
    let f = Fixture::on(&folder).await;
    f.create("s", json!({ "shards": 2, "retention": 1 })).await.unwrap();
    f.create("gone", json!({})).await.unwrap();
    f.put("s", &[("old", "old")]).await;
    f.pass(super::HOUR);
    f.streams.expire("s").await.unwrap();
    f.streams.set_retention("s", 100).await.unwrap();
    let told = Arc::new(Told::saying());
    told.bad.lock().unwrap().insert("bad".into());
    let subscribers = subscribers(&f, &told);
    subscribers.settle(&its_urn(), Some(subscription(json!({ "maxAttempts": 2, "batchSize": 4 })))).await;
    let put = async |records: &[(&str, &str)]| {
        f.put("s", records).await;
        for (key, data) in records {
            println!("\nput {key} {data}");
        }
    };
    put(&[("a", "1"), ("b", "1"), ("a", "2")]).await;
    put(&[("a", "3"), ("b", "bad"), ("b", "2")]).await;
    told.until(|told| told.data().len() == 5 && !dead(&*f.store).is_empty()).await;
    put(&[("a", "4")]).await;
    told.until(|told| told.data().len() == 6).await;
    subscribers.close(std::time::Duration::from_secs(10)).await;
    f.put("gone", &[("k", "one")]).await;
    f.delete_stream("gone", true).await.unwrap();
}

const POINTS: [(&str, u32); 16] = [
    ("stream.put.committed", 1),
    ("stream.put.committed", 2),
    ("stream.put.committed", 3),
    ("stream.retention.committed", 1),
    ("stream.settings.committed", 1),
    ("stream.lanes.committed", 1),
    ("stream.batch.begun", 1),
    ("stream.batch.begun", 2),
    ("stream.batch.begun", 4),
    ("stream.batch.answered", 1),
    ("stream.batch.answered", 2),
    ("stream.record.buried", 1),
    ("stream.checkpoint.committed", 1),
    ("stream.checkpoint.committed", 2),
    ("stream.closing.committed", 1),
    ("stream.emptying.committed", 1),
];

#[tokio::test]
async fn killed_at_any_commit_every_acknowledged_record_is_handled_in_order_or_is_dead() {
    for (point, turn) in POINTS {
        let folder = tempfile::tempdir().unwrap();
        let said = killed::at(&format!("{point}@{turn}"), "stream::tests::crash::changes", folder.path());
        let f = Fixture::on(folder.path()).await;
        let told = Arc::new(Told::default());
        told.bad.lock().unwrap().insert("bad".into());
        if f.streams.find("s").is_some() {
            let subscribers = subscribers(&f, &told);
            // Once without end: what comes now is handled after all that is there.
            subscribers
                .settle(&its_urn(), Some(subscription(json!({ "maxAttempts": 2, "batchSize": 4 }))))
                .await;
            f.put("s", &[("a", "end"), ("b", "end")]).await;
            told.until(|told| told.data().iter().filter(|data| *data == "end").count() == 2).await;
        }
        let letters: BTreeSet<String> = dead(&*f.store)
            .iter()
            .map(|letter| letter.delivery.event.data["records"][0]["data"].as_str().unwrap().to_owned())
            .collect();
        let mut before = BTreeMap::<&str, Vec<&str>>::new();
        for line in said.lines().filter_map(|line| line.strip_prefix("put ")) {
            let (key, data) = line.split_once(' ').unwrap();
            before.entry(key).or_default().push(data);
        }
        let handled = told.handled.lock().unwrap().clone();
        for (key, put) in before {
            let after: Vec<&str> = handled
                .iter()
                .filter(|(k, data)| k == key && data != "end")
                .map(|(_, data)| data.as_str())
                .collect();
            // What is handled now is the rest of what was put, from some record on; the killed process had handled those before.
            let good: Vec<_> = put.iter().copied().filter(|data| *data != "bad").collect();
            let expected = good.len().saturating_sub(after.iter().filter(|data| good.contains(data)).count());
            assert_eq!(after[..good.len() - expected], good[expected..], "{point}@{turn}: {key}");
            for data in &good[..expected] {
                let before = format!("handled {key} {data}");
                assert!(
                    said.lines().any(|line| line == before),
                    "{point}@{turn}: {key} {data} was never handled"
                );
            }
            if put.contains(&"bad") {
                assert!(letters.contains("bad"), "{point}@{turn}: neither handled nor dead");
            }
        }
        // A stream whose deletion was cut off is there, or gone with all that was in it.
        if f.streams.find("gone").is_some() {
            let numbers = f.put("gone", &[("k", "more")]).await;
            assert!(numbers[0].number >= 1, "{point}@{turn}");
            f.delete_stream("gone", true).await.unwrap();
        }
        assert_eq!(f.store.snapshot().unwrap().prefix(b"stream/gone").unwrap().count(), 0, "{point}@{turn}");
        assert_eq!(f.store.snapshot().unwrap().prefix(b"stream-record/gone").unwrap().count(), 0);
    }
}
