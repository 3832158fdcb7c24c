use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tandem_model::{ByteSize, Explain};

use super::{OpenError, Options, RedbStore, simulated::Disk};
use crate::port::{Batch, CommitError, Direction, Snapshot, Store};

fn open(folder: &Path) -> Arc<RedbStore> {
    let options = Options { keep_free: ByteSize(0), ..Options::default() };
    Arc::new(RedbStore::open(folder.join("store.redb"), options).expect("the folder is ours alone"))
}

crate::conformance_tests!(open, persistent);

#[tokio::test]
async fn a_store_that_is_open_cannot_be_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = RedbStore::open(folder.path().join("store.redb"), Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert!(error.help().contains("tandem serve --stop"));
    store.close().await;
}

#[test]
fn a_file_that_is_no_store_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    fs::write(&path, "something else entirely").unwrap();
    let error = RedbStore::open(&path, Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert_eq!(fs::read(&path).unwrap(), b"something else entirely");
}

/// Runs on a thread that alone sees a small file system at `folder`, so that nothing is left mounted.
fn on_a_small_disk(size: &str, folder: &Path, test: impl AsyncFnOnce() + Send) {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    let on_thread = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root, to make a small file system");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let options = format!("size={size}");
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test());
    };
    thread::scope(|scope| scope.spawn(on_thread).join().expect("the test on the small disk passes"));
}

fn put(n: usize, bytes: usize) -> Batch {
    let mut batch = Batch::default();
    batch.put(format!("k{n:06}"), vec![7; bytes]);
    batch
}

fn count(store: &dyn Store) -> usize {
    count_in(&*store.snapshot().unwrap())
}

fn count_in(snapshot: &dyn Snapshot) -> usize {
    snapshot.prefix(b"k").unwrap().collect::<Result<Vec<_>, _>>().unwrap().len()
}

#[test]
fn below_the_reserve_puts_are_refused_and_deletes_are_not() {
    let folder = tempfile::tempdir().unwrap();
    on_a_small_disk("16m", folder.path(), async || {
        let options = Options { keep_free: ByteSize::mebibytes(8), ..Options::default() };
        let store = RedbStore::open(folder.path().join("store.redb"), options).unwrap();
        store.commit(put(0, 1000)).await.unwrap();
        fs::write(folder.path().join("ballast"), vec![0; 10 << 20]).unwrap();
        let refused = store.commit(put(1, 1000)).await;
        assert!(matches!(refused, Err(CommitError::Full)), "{refused:?}");
        let mut deletion = Batch::default();
        deletion.delete("k000000");
        store.commit(deletion).await.unwrap();
        assert_eq!(count(&store), 0);
        // A step towards room is let through, also beside one that is refused.
        let mut step = Batch::default();
        step.put("step", "towards room").frees();
        let (step, refused) = tokio::join!(store.commit(step), store.commit(put(1, 1000)));
        step.unwrap();
        assert!(matches!(refused, Err(CommitError::Full)), "{refused:?}");
        fs::remove_file(folder.path().join("ballast")).unwrap();
        store.commit(put(2, 1000)).await.unwrap();
        assert_eq!(count(&store), 1);
        store.close().await;
    });
}

#[test]
fn a_disk_that_fills_up_in_spite_of_the_reserve_loses_nothing_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    on_a_small_disk("8m", folder.path(), async || {
        let ballast = folder.path().join("ballast");
        fs::write(&ballast, vec![0; 4 << 20]).unwrap();
        let store = open(folder.path());
        let mut acknowledged = 0;
        let refused = loop {
            match store.commit(put(acknowledged, 20_000)).await {
                Ok(()) => acknowledged += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, CommitError::Full), "{refused:?}");
        assert!(acknowledged > 10);
        assert_eq!(count(&*store), acknowledged, "what is there is read while the disk is full");
        fs::remove_file(&ballast).unwrap();
        store.commit(put(acknowledged, 20_000)).await.unwrap();
        assert_eq!(count(&*store), acknowledged + 1);
        store.close().await;
        drop(store);
        assert_eq!(count(&*open(folder.path())), acknowledged + 1);
    });
}

#[tokio::test]
async fn a_reader_goes_on_after_a_write_that_failed() {
    let disk = Disk::default();
    let store = disk.store().unwrap();
    for n in 0..300 {
        store.commit(put(n, 1000)).await.unwrap();
    }
    let begin = || store.snapshot().unwrap();
    let outdated = begin();
    assert!(outdated.get(b"k000000").unwrap().is_some());
    store.commit(put(300, 1000)).await.unwrap();
    for turn in 0..3 {
        let (fresh, seen) = (begin(), begin());
        assert_eq!(count_in(&*seen), 301 + turn);
        let middle = begin();
        let mut ascending = middle.prefix(b"k").unwrap();
        let mut descending = middle.range(b"k", b"l", Direction::Descending).unwrap();
        ascending.by_ref().take(100).for_each(|row| drop(row.unwrap()));
        descending.by_ref().take(100).for_each(|row| drop(row.unwrap()));
        disk.fill_up(0, 1);
        let full = store.commit(put(999, 20_000)).await;
        assert!(matches!(full, Err(CommitError::Full)), "{full:?}");
        // None of them has seen anything that is different now.
        assert_eq!(count_in(&*fresh), 301 + turn);
        assert_eq!(count_in(&*seen), 301 + turn);
        let keys: Vec<_> = ascending.map(|row| row.unwrap().0).collect();
        assert_eq!((keys.len(), &*keys[0]), (201 + turn, &b"k000100"[..]));
        assert_eq!(descending.map(Result::unwrap).count(), 201 + turn);
        store.commit(put(301 + turn, 1000)).await.unwrap();
        // It does not show what came after it began.
        assert!(seen.get(b"k000000").is_ok());
    }
    let read = outdated.prefix(b"k").and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let error = read.expect_err("what it showed is older than what there is");
    assert_eq!(error.code(), "E0906", "{error:?}");
    store.close().await;
}

/// Whoever reads while writes fail gets what there is: nobody is told of a failure that is not his.
#[test]
fn nobody_who_only_reads_meets_a_failed_write() {
    let disk = Disk::default();
    let store = disk.store().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.commit(put(0, 1000))).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let snapshot = store.snapshot().unwrap();
                    assert!(snapshot.get(b"k000000").unwrap().is_some());
                    assert!(snapshot.get(b"k000001").unwrap().is_none());
                }
            });
        }
        for _ in 0..200 {
            disk.fill_up(0, 1);
            let full = runtime.block_on(store.commit(put(1, 20_000)));
            assert!(matches!(full, Err(CommitError::Full)), "{full:?}");
        }
        done.store(true, Ordering::SeqCst);
    });
    runtime.block_on(store.close());
}
