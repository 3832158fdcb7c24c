//! A disk that is full when a timer is to tick.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use serde_json::json;
use tandem_model::ByteSize;
use tandem_store::{Batch, CommitError, Options, ReadError, RedbStore, Snapshot, Store};

use super::{Clock, Fixture};

/// Refuses so many commits, as a store does whose disk is full.
#[derive(Debug)]
struct Full {
    store: RedbStore,
    refuses: AtomicU32,
}

#[async_trait]
impl Store for Full {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.store.snapshot()
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let one_less = |left: u32| left.checked_sub(1);
        if self.refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            return Err(CommitError::Full);
        }
        self.store.commit(batch).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[tokio::test]
async fn a_tick_on_a_full_disk_happens_once_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { keep_free: ByteSize(0), ..Options::default() };
    let store = RedbStore::open(folder.path().join("store.redb"), options).unwrap();
    let store = Arc::new(Full { store, refuses: AtomicU32::new(0) });
    let f = Fixture::over(store.clone(), Clock::at("2026-11-26T10:00:00Z")).await;
    f.timer("poll", json!({ "every": 60 })).await;
    f.timer("once", json!({ "at": "2026-11-26T10:01:00Z" })).await;

    // Both are refused, and again a second later.
    store.refuses.store(4, Ordering::SeqCst);
    for now in ["2026-11-26T10:01:00Z", "2026-11-26T10:01:01Z"] {
        let pause = f.fire_at(now).await.unwrap();
        assert!(pause.as_secs() <= 1, "it is tried again soon: {pause:?}");
        assert!(f.ticks().is_empty(), "{:?}", f.ticks());
    }
    assert_eq!(store.refuses.load(Ordering::SeqCst), 0);
    // There is room: once each, for the time that was due, and the next one is when it would have been.
    for now in ["2026-11-26T10:01:02Z", "2026-11-26T10:01:03Z", "2026-11-26T10:01:59Z"] {
        f.fire_at(now).await;
        assert_eq!(f.ticks(), ["2026-11-26T10:01:00Z"; 2], "{now}");
    }
    assert_eq!(f.next("poll").as_deref(), Some("2026-11-26T10:02:00Z"));
    assert_eq!(f.next("once"), None);

    // As a start after that finds it.
    let f = f.again().await;
    f.fire_at("2026-11-26T10:02:00Z").await;
    let mut ticks = f.ticks();
    ticks.sort();
    assert_eq!(ticks, ["2026-11-26T10:01:00Z", "2026-11-26T10:01:00Z", "2026-11-26T10:02:00Z"]);
}
