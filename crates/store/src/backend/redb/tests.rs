use std::{fs, path::Path, sync::Arc, thread};

use tandem_model::{ByteSize, Explain};

use super::{OpenError, Options, RedbStore};
use crate::port::{Batch, CommitError, Store};

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
    store.snapshot().unwrap().prefix(b"k").unwrap().collect::<Result<Vec<_>, _>>().unwrap().len()
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
