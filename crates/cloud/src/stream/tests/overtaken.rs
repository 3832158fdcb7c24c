//! Whoever puts by what is not true any more: a stream that was read twice, made anew, or whose commit nobody knows the end of.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use async_trait::async_trait;
use serde_json::json;
use tandem_model::inputs::StartingPosition;
use tandem_store::{Batch, CommitError, MemoryStore, ReadError, Snapshot, Store};

use super::{Fixture, outgoing, texts};
use crate::stream::{Put, StreamError, append::NotPut, open::Open};

async fn put_into(f: &Fixture, open: &Arc<Open>, data: &str) -> Result<Vec<Put>, NotPut> {
    f.streams.put_into(open, &[outgoing(&("k", data))], 1, None).await
}

#[tokio::test]
async fn a_stream_that_was_read_twice_loses_no_record_whoever_puts_first() {
    let f = Fixture::new().await;
    f.create("s", json!({})).await.unwrap();
    for used in [false, true] {
        let old = f.streams.open("s").await.unwrap();
        if used {
            put_into(&f, &old, "by the first").await.unwrap();
        }
        // Both believe that they know the next number.
        let new = Arc::new(Open::load(&*f.store, "s").unwrap());
        put_into(&f, &old, "acknowledged").await.unwrap();
        let before = texts(&f.read("s", 0, 0).await);
        assert!(matches!(put_into(&f, &new, "over it").await, Err(NotPut::Stale)));
        assert_eq!(texts(&f.read("s", 0, 0).await), before);
        // The other way round: who was there first is overtaken, and a put by it goes on with what is there.
        let newer = Arc::new(Open::load(&*f.store, "s").unwrap());
        put_into(&f, &newer, "of the newer").await.unwrap();
        let numbers = f.put("s", &[("k", "of the older")]).await;
        assert_eq!(numbers[0].number, before.len() as u64 + 2);
        let now = texts(&f.read("s", 0, 0).await);
        assert_eq!(now[before.len()..], ["of the newer", "of the older"]);
    }
}

#[tokio::test]
async fn what_knew_a_stream_that_was_made_anew_puts_nothing_into_the_new_one() {
    let f = Fixture::new().await;
    f.create("s", json!({ "shards": 4, "forceDestroy": true })).await.unwrap();
    for n in 0..20 {
        f.put("s", &[(&n.to_string(), "old")]).await;
    }
    let old = f.streams.open("s").await.unwrap();
    f.delete_stream("s", true).await.unwrap();
    assert_eq!(f.store.snapshot().unwrap().prefix(b"stream").unwrap().count(), 0);
    f.create("s", json!({})).await.unwrap();
    assert!(matches!(put_into(&f, &old, "too late").await, Err(NotPut::Stale)));
    // Nor would it, did it not know that it is gone.
    let unaware = Arc::new(Open::load(&*f.store, "s").unwrap());
    f.delete_stream("s", true).await.unwrap();
    f.create("s", json!({})).await.unwrap();
    assert!(matches!(put_into(&f, &unaware, "too late").await, Err(NotPut::Stale)));
    assert_eq!(f.put("s", &[("k", "new")]).await[0].number, 1);
    assert_eq!(texts(&f.read("s", 0, 0).await), ["new"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_a_stream_is_forgotten_again_and_again_every_acknowledged_record_is_kept_once() {
    let f = Arc::new(Fixture::new().await);
    f.create("s", json!({})).await.unwrap();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let f = f.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    f.put("s", &[("k", &format!("{client}/{n}"))]).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let forgets = tokio::spawn({
        let f = f.clone();
        async move {
            loop {
                f.streams.forget("s");
                tokio::task::yield_now().await;
            }
        }
    });
    for client in clients {
        client.await.unwrap();
    }
    forgets.abort();
    let mut read = texts(&f.read("s", 0, 0).await);
    read.sort_unstable();
    let mut put: Vec<_> = (0..8).flat_map(|client| (0..100).map(move |n| format!("{client}/{n}"))).collect();
    put.sort_unstable();
    assert_eq!(read, put);
}

const WORKS: u8 = 0;
const WRITES_AND_FAILS: u8 = 1;
const FAILS: u8 = 2;
const PANICS: u8 = 3;

/// A disk that fails once when told to.
#[derive(Debug, Default)]
struct Failing {
    store: MemoryStore,
    next: AtomicU8,
}

#[async_trait]
impl Store for Failing {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.store.snapshot()
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let what = self.next.swap(WORKS, Ordering::SeqCst);
        assert_ne!(what, PANICS, "as a test wants it");
        if what != FAILS {
            self.store.commit(batch).await?;
        }
        match what {
            WORKS => Ok(()),
            _ => Err(CommitError::Backend("the disk".into())),
        }
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[tokio::test]
async fn after_a_commit_that_failed_numbers_go_on_after_what_is_there_and_puts_go_on_too() {
    let store = Arc::new(Failing::default());
    let f = Fixture::over(store.clone(), 1_000_000_000).await;
    f.create("s", json!({})).await.unwrap();
    f.put("s", &[("k", "one")]).await;
    let failing = async |how: u8, data: &str| {
        store.next.store(how, Ordering::SeqCst);
        let put = f.streams.put("s", vec![outgoing(&("k", data))], None);
        tokio::time::timeout(std::time::Duration::from_secs(20), put)
            .await
            .expect("it is answered")
            .unwrap_err()
    };
    assert_eq!(failing(WRITES_AND_FAILS, "written").await.name(), "InternalFailureException");
    assert_eq!(f.put("s", &[("k", "three")]).await[0].number, 3);
    failing(FAILS, "not written").await;
    assert_eq!(f.put("s", &[("k", "four")]).await[0].number, 4);
    failing(PANICS, "not written").await;
    assert_eq!(f.put("s", &[("k", "five")]).await[0].number, 5);
    assert_eq!(texts(&f.read("s", 0, 0).await), ["one", "written", "three", "four", "five"]);
}

#[tokio::test]
async fn what_is_put_while_the_cloud_stops_is_there_or_refused_with_what_clients_retry() {
    let folder = tempfile::tempdir().unwrap();
    let f = Fixture::on(folder.path()).await;
    f.create("s", json!({})).await.unwrap();
    f.put("s", &[("k", "before")]).await;
    let puts = (0..50).map(|n| {
        let f = &f;
        async move {
            if n == 25 {
                f.store.close().await;
            }
            let data = n.to_string();
            (f.streams.put("s", vec![outgoing(&("k", &data))], None).await, data)
        }
    });
    // Who follows it does not ask again and again meanwhile.
    let end = f.streams.cursor("s", StartingPosition::Latest).await.unwrap();
    f.streams.drain();
    assert!(f.streams.read_on("s", &end, true).await.unwrap_err().is_closed());
    assert!(f.streams.read_on("s", &end, false).await.unwrap().ended);
    let outcomes = futures::future::join_all(puts).await;
    let refused: Vec<&StreamError> = outcomes.iter().filter_map(|(put, _)| put.as_ref().err()).collect();
    assert!(!refused.is_empty());
    for error in refused {
        assert_eq!((error.name(), error.is_closed()), ("ServiceUnavailable", true), "{error}");
    }
    drop(f);
    let f = Fixture::on(folder.path()).await;
    let there = texts(&f.read("s", 0, 0).await);
    for (put, data) in &outcomes {
        assert_eq!(put.is_ok(), there.contains(data), "{data}: {put:?}");
    }
}
