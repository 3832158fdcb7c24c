//! What every backend of the [`Store`] port must do. A backend runs the suite with [`conformance_tests!`].
//!
//! Each check takes an empty store, except those about closing, which open a folder themselves.

use std::{fmt::Debug, sync::Arc};

use bytes::Bytes;

use crate::port::{Batch, CommitError, Direction, Snapshot, Store};

/// Writes one test for each check. The argument opens a store in a folder: `|folder: &Path| -> Arc<dyn Store>`, or any
/// `Arc` of a store. Add `persistent` for a backend whose content outlives its close.
#[macro_export]
macro_rules! conformance_tests {
    ($open:expr) => {
        $crate::conformance_tests!(@each $open;
            a_commit_is_read_by_later_snapshots_only
            a_batch_writes_all_or_nothing
            a_later_write_of_a_key_wins
            a_precondition_compares_the_whole_value
            members_of_a_group_are_judged_alone_in_order
            of_concurrent_increments_none_is_lost
            a_range_has_its_start_and_not_its_end
            ranges_go_both_ways_in_byte_order
            a_range_that_ends_before_it_starts_is_empty
            a_prefix_finds_its_keys_and_no_others
            a_snapshot_stays_as_it_was_under_an_open_range
            values_may_be_empty_or_large
            a_closed_store_refuses_commits
        );
    };
    ($open:expr, persistent) => {
        $crate::conformance_tests!($open);

        #[tokio::test]
        async fn what_was_acknowledged_is_there_after_opening_again() {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let open = || -> std::sync::Arc<dyn $crate::Store> { ($open)(folder.path()) };
            $crate::conformance::what_was_acknowledged_is_there_after_opening_again(&open).await;
        }
    };
    (@each $open:expr; $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                let folder = tempfile::tempdir().expect("a temporary folder");
                let store: std::sync::Arc<dyn $crate::Store> = ($open)(folder.path());
                $crate::conformance::$check(store).await;
            }
        )*
    };
}

/// Unwraps with the error in the message; a check fails by panicking.
fn ok<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("the backend must be able to do this")
}

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::default();
    batch.put(key.to_owned(), value.to_owned());
    batch
}

fn value(store: &dyn Store, key: &str) -> Option<Bytes> {
    ok(ok(store.snapshot()).get(key.as_bytes()))
}

fn keys(snapshot: &dyn Snapshot, from: &str, to: &str, direction: Direction) -> Vec<String> {
    ok(snapshot.range(from.as_bytes(), to.as_bytes(), direction))
        .map(|entry| String::from_utf8_lossy(&ok(entry).0).into_owned())
        .collect()
}

async fn fill(store: &dyn Store, keys: &[&str]) {
    let mut batch = Batch::default();
    for key in keys {
        batch.put((*key).to_owned(), (*key).to_owned());
    }
    ok(store.commit(batch).await);
}

pub async fn a_commit_is_read_by_later_snapshots_only(store: Arc<dyn Store>) {
    ok(store.commit(put("a", "1")).await);
    let before = ok(store.snapshot());
    let mut batch = put("a", "2");
    batch.put("b", "2");
    ok(store.commit(batch).await);
    assert_eq!(ok(before.get(b"a")).as_deref(), Some(&b"1"[..]));
    assert_eq!(ok(before.get(b"b")), None);
    assert_eq!(keys(&*before, "a", "z", Direction::Ascending), ["a"]);
    assert_eq!(value(&*store, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(value(&*store, "b").as_deref(), Some(&b"2"[..]));
}

pub async fn a_batch_writes_all_or_nothing(store: Arc<dyn Store>) {
    ok(store.commit(put("here", "1")).await);
    let mut batch = put("new", "1");
    batch.delete("here").expect("here", Some("1".into())).expect("absent", Some("x".into()));
    let error = store.commit(batch).await.expect_err("a precondition does not hold");
    assert!(matches!(&error, CommitError::Conflict { key } if key == "absent"), "{error}");
    assert_eq!(value(&*store, "new"), None);
    assert_eq!(value(&*store, "here").as_deref(), Some(&b"1"[..]));
}

pub async fn a_later_write_of_a_key_wins(store: Arc<dyn Store>) {
    let mut batch = put("a", "1");
    batch.delete("a").put("a", "2").put("b", "1").delete("b").delete("never was");
    ok(store.commit(batch).await);
    assert_eq!(value(&*store, "a").as_deref(), Some(&b"2"[..]));
    assert_eq!(value(&*store, "b"), None);
}

pub async fn a_precondition_compares_the_whole_value(store: Arc<dyn Store>) {
    ok(store.commit(put("a", "12")).await);
    for wrong in [None, Some("1"), Some("123"), Some("")] {
        let mut batch = put("a", "x");
        batch.expect("a", wrong.map(Bytes::from));
        let refused = store.commit(batch).await;
        assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{wrong:?}: {refused:?}");
    }
    let mut right = put("a", "13");
    right.expect("a", Some("12".into())).expect("b", None);
    ok(store.commit(right).await);
    assert_eq!(value(&*store, "a").as_deref(), Some(&b"13"[..]));
}

pub async fn members_of_a_group_are_judged_alone_in_order(store: Arc<dyn Store>) {
    let create = |n: u32| {
        let mut batch = Batch::default();
        batch.expect("lock", None).put("lock", n.to_string()).put(format!("won/{n}"), "");
        batch
    };
    // Polled together before the first can finish, so that a backend that groups commits groups these.
    let outcomes = futures::future::join_all((0..20).map(|n| store.commit(create(n)))).await;
    let won = outcomes.iter().filter(|o| o.is_ok()).count();
    assert_eq!(won, 1, "exactly one finds the lock free: {outcomes:?}");
    assert!(outcomes[0].is_ok(), "the first to arrive finds it free");
    assert!(outcomes[1..].iter().all(|o| matches!(o, Err(CommitError::Conflict { .. }))), "{outcomes:?}");
    assert_eq!(keys(&*ok(store.snapshot()), "won/", "won0", Direction::Ascending), ["won/0"]);
}

pub async fn of_concurrent_increments_none_is_lost(store: Arc<dyn Store>) {
    const CLIENTS: u32 = 8;
    const EACH: u32 = 10;
    let increment = |store: Arc<dyn Store>| async move {
        for _ in 0..EACH {
            loop {
                let old = value(&*store, "n");
                let n: u32 = old.as_ref().map_or(0, |v| ok(ok(std::str::from_utf8(v)).parse()));
                let mut batch = put("n", &(n + 1).to_string());
                batch.expect("n", old);
                match store.commit(batch).await {
                    Ok(()) => break,
                    Err(CommitError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    futures::future::join_all((0..CLIENTS).map(|_| increment(store.clone()))).await;
    assert_eq!(value(&*store, "n"), Some((CLIENTS * EACH).to_string().into()));
}

pub async fn a_range_has_its_start_and_not_its_end(store: Arc<dyn Store>) {
    fill(&*store, &["a", "b", "c", "d"]).await;
    let snapshot = ok(store.snapshot());
    assert_eq!(keys(&*snapshot, "b", "d", Direction::Ascending), ["b", "c"]);
    assert_eq!(keys(&*snapshot, "b", "d", Direction::Descending), ["c", "b"]);
    assert_eq!(keys(&*snapshot, "bb", "cc", Direction::Ascending), ["c"]);
}

pub async fn ranges_go_both_ways_in_byte_order(store: Arc<dyn Store>) {
    let mut batch = Batch::default();
    let bytes: Vec<Vec<u8>> =
        vec![vec![0], vec![0, 0], vec![1], vec![127], vec![128], vec![255], vec![255, 0]];
    for key in bytes.iter().rev() {
        batch.put(key.clone(), "");
    }
    ok(store.commit(batch).await);
    let snapshot = ok(store.snapshot());
    let all = |direction| -> Vec<Vec<u8>> {
        ok(snapshot.range(&[], &[255, 255], direction)).map(|entry| ok(entry).0.to_vec()).collect()
    };
    assert_eq!(all(Direction::Ascending), bytes);
    assert_eq!(all(Direction::Descending), bytes.into_iter().rev().collect::<Vec<_>>());
}

pub async fn a_range_that_ends_before_it_starts_is_empty(store: Arc<dyn Store>) {
    fill(&*store, &["a", "b", "c"]).await;
    let snapshot = ok(store.snapshot());
    for (from, to) in [("c", "a"), ("b", "b")] {
        assert!(keys(&*snapshot, from, to, Direction::Ascending).is_empty());
        assert!(keys(&*snapshot, from, to, Direction::Descending).is_empty());
    }
}

pub async fn a_prefix_finds_its_keys_and_no_others(store: Arc<dyn Store>) {
    fill(&*store, &["a", "a/", "a/1", "a/2", "a0", "b"]).await;
    let snapshot = ok(store.snapshot());
    let found: Vec<_> = ok(snapshot.prefix(b"a/")).map(|entry| ok(entry).0).collect();
    assert_eq!(found, ["a/", "a/1", "a/2"]);
}

pub async fn a_snapshot_stays_as_it_was_under_an_open_range(store: Arc<dyn Store>) {
    let names: Vec<String> = (0..500).map(|n| format!("k{n:04}")).collect();
    fill(&*store, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let snapshot = ok(store.snapshot());
    let mut range = ok(snapshot.range(b"k", b"l", Direction::Ascending));
    let first = ok(range.next().expect("the first of 500"));
    let mut batch = Batch::default();
    for name in &names {
        batch.delete(name.clone());
    }
    batch.put("k9999", "");
    ok(store.commit(batch).await);
    let rest: Vec<_> = range.map(|entry| String::from_utf8_lossy(&ok(entry).0).into_owned()).collect();
    assert_eq!(first.0, names[0]);
    assert_eq!(rest, names[1..]);
    assert_eq!(keys(&*ok(store.snapshot()), "k", "l", Direction::Ascending), ["k9999"]);
}

pub async fn values_may_be_empty_or_large(store: Arc<dyn Store>) {
    let large = Bytes::from(vec![7; 3 << 20]);
    let mut batch = Batch::default();
    batch.put("empty", "").put("large", large.clone());
    ok(store.commit(batch).await);
    assert_eq!(value(&*store, "empty"), Some(Bytes::new()));
    assert!(value(&*store, "large") == Some(large), "the large value came back changed");
    let mut batch = Batch::default();
    batch.expect("empty", None);
    assert!(store.commit(batch).await.is_err(), "an empty value is not an absent one");
}

pub async fn a_closed_store_refuses_commits(store: Arc<dyn Store>) {
    ok(store.commit(put("a", "1")).await);
    store.close().await;
    assert!(matches!(store.commit(put("a", "2")).await, Err(CommitError::Closed)));
    assert!(store.snapshot().is_err());
    store.close().await;
}

pub async fn what_was_acknowledged_is_there_after_opening_again(open: &dyn Fn() -> Arc<dyn Store>) {
    let store = open();
    let commits = (0..50).map(|n| {
        let (store, key) = (store.clone(), format!("k{n:02}"));
        async move { store.commit(put(&key, "v")).await }
    });
    for outcome in futures::future::join_all(commits).await {
        ok(outcome);
    }
    store.close().await;
    let store = open();
    assert_eq!(keys(&*ok(store.snapshot()), "k", "l", Direction::Ascending).len(), 50);
    ok(store.commit(put("k99", "v")).await);
    assert_eq!(value(&*store, "k99").as_deref(), Some(&b"v"[..]));
    store.close().await;
}
