//! Kills a writing process at each failpoint and looks at what it left.

use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use tandem_model::ByteSize;

use crate::{Batch, BlobId, Blobs, FileBlobs, Options, RedbStore, Store};

const FOLDER: &str = "TANDEM_STORE_CRASH_FOLDER";
/// How many bytes each commit has beside what is looked at, so that the log is soon full.
const PADDING: &str = "TANDEM_STORE_CRASH_PADDING";
/// How many commits there are before the store is closed.
const COMMITS: &str = "TANDEM_STORE_CRASH_COMMITS";

/// A variable's number, or else zero.
fn number(variable: &str) -> usize {
    env::var(variable).map_or(0, |number| number.parse().unwrap())
}

fn open(folder: &Path) -> (RedbStore, FileBlobs) {
    let options = Options { keep_free: ByteSize(0), ..Options::default() };
    let store = RedbStore::open(folder.join("store.redb"), options).unwrap();
    (store, FileBlobs::open(folder.join("blobs"), ByteSize(0)).unwrap())
}

/// The process that is killed: commits a blob and its record, again and again, and says what was acknowledged. Closes the store
/// after [`COMMITS`].
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn writer() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let (store, blobs) = open(Path::new(&folder));
    let (padding, commits) = (number(PADDING), number(COMMITS));
    for n in 0.. {
        if commits > 0 && n == commits {
            return store.close().await;
        }
        let mut writer = blobs.create().await.unwrap();
        writer.write(Bytes::from(format!("body {n}"))).await.unwrap();
        let id = writer.finish().await.unwrap();
        let mut batch = Batch::default();
        batch.put(format!("k{n:06}"), id.to_string()).put("last", n.to_string());
        if padding > 0 {
            batch.put("padding", vec![n as u8; padding]);
        }
        store.commit(batch).await.unwrap();
        println!("\nacknowledged {n}");
    }
}

/// Runs the writer until it is killed at `failpoint`; answers how many commits it saw acknowledged.
fn acknowledged_before(failpoint: &str, folder: &Path, variables: &[(&str, &str)]) -> usize {
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["tests::crash::writer", "--exact", "--ignored", "--nocapture"])
        .env(tandem_failpoint::VARIABLE, failpoint)
        .env(FOLDER, folder)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let acknowledged = lines.map_while(Result::ok).filter(|line| line.starts_with("acknowledged ")).count();
    let status = writer.wait().unwrap();
    assert!(!status.success(), "the writer ends only by the failpoint");
    acknowledged
}

async fn survives(failpoint: &str, last_may_be_there: bool) {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = acknowledged_before(&format!("{failpoint}@6"), folder.path(), &[]);
    assert!(acknowledged >= 4, "killed at the sixth time, after {acknowledged}");
    whole(failpoint, folder.path(), acknowledged, last_may_be_there).await;
}

/// What was acknowledged is there, whole, and at most one commit more.
async fn whole(failpoint: &str, folder: &Path, acknowledged: usize, last_may_be_there: bool) {
    let (store, blobs) = open(folder);
    let snapshot = store.snapshot().unwrap();
    let records: Vec<(Bytes, Bytes)> = snapshot.prefix(b"k").unwrap().map(|e| e.unwrap()).collect();
    let unacknowledged = records.len() - acknowledged;
    assert!(
        unacknowledged <= usize::from(last_may_be_there),
        "{failpoint}: {unacknowledged} more than acknowledged"
    );
    // A batch is there with all its writes, or not at all.
    let last = records.len().checked_sub(1).map(|last| last.to_string().into());
    assert_eq!(snapshot.get(b"last").unwrap(), last);

    let referenced: Vec<BlobId> =
        records.iter().map(|(_, value)| std::str::from_utf8(value).unwrap().parse().unwrap()).collect();
    let before = blobs.list().await.unwrap().len();
    let swept = blobs.sweep(&|id| referenced.contains(&id)).await.unwrap();
    assert_eq!(swept.blobs as usize, before - referenced.len(), "only the blob of the lost commit is swept");
    for (n, id) in referenced.into_iter().enumerate() {
        let body = format!("body {n}");
        let read: Vec<Bytes> =
            futures::TryStreamExt::try_collect(blobs.open(id, 0..body.len() as u64).await.unwrap())
                .await
                .unwrap();
        assert_eq!(read.concat(), body.as_bytes());
    }
    store.close().await;
}

#[tokio::test]
async fn killed_before_the_commit_keeps_all_that_was_acknowledged() {
    survives("store.commit.judged", false).await;
}

#[tokio::test]
async fn killed_after_the_commit_keeps_it_though_nobody_was_told() {
    survives("store.commit.synced", true).await;
}

#[tokio::test]
async fn killed_between_the_log_and_the_file_keeps_the_commit_though_nobody_was_told() {
    survives("store.commit.logged", true).await;
}

#[tokio::test]
async fn killed_when_the_log_was_made_or_first_marked_leaves_an_empty_store() {
    for failpoint in ["store.log.begun", "store.log.marked"] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(acknowledged_before(failpoint, folder.path(), &[]), 0);
        whole(failpoint, folder.path(), 0, false).await;
    }
}

/// At the fourth time both halves of the log have been full, and the first one again.
#[tokio::test]
async fn killed_when_the_file_has_what_the_log_has_keeps_all_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = acknowledged_before("store.log.marked@4", folder.path(), &[(PADDING, "900000")]);
    assert!(acknowledged > 10, "{acknowledged}");
    whole("store.log.marked", folder.path(), acknowledged, false).await;
}

/// And so that each is larger than what goes into the log.
#[tokio::test]
async fn killed_after_a_commit_that_is_too_large_for_the_log_keeps_it() {
    for (failpoint, may) in [("store.commit.judged@4", false), ("store.commit.synced@4", true)] {
        let folder = tempfile::tempdir().unwrap();
        let acknowledged = acknowledged_before(failpoint, folder.path(), &[(PADDING, "1100000")]);
        assert_eq!(acknowledged, 3);
        whole(failpoint, folder.path(), acknowledged, may).await;
        assert!(!folder.path().join("store.wal").exists());
    }
}

#[tokio::test]
async fn killed_while_it_closes_leaves_everything_and_ignores_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let acknowledged = acknowledged_before("store.log.ended", folder.path(), &[(COMMITS, "7")]);
    assert_eq!(acknowledged, 7);
    assert!(folder.path().join("store.wal").exists(), "killed before it was removed");
    whole("store.log.ended", folder.path(), acknowledged, false).await;
}

#[tokio::test]
async fn killed_with_a_blob_unsynced_leaves_only_what_the_sweep_takes() {
    survives("blob.file.written", false).await;
}

#[tokio::test]
async fn killed_between_blob_and_commit_leaves_only_what_the_sweep_takes() {
    survives("blob.file.synced", false).await;
}
