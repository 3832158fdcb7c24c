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

fn open(folder: &Path) -> (RedbStore, FileBlobs) {
    let options = Options { keep_free: ByteSize(0), ..Options::default() };
    let store = RedbStore::open(folder.join("store.redb"), options).unwrap();
    (store, FileBlobs::open(folder.join("blobs"), ByteSize(0)).unwrap())
}

/// The process that is killed: commits a blob and its record, again and again, and says what was acknowledged.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn writer() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let (store, blobs) = open(Path::new(&folder));
    for n in 0.. {
        let mut writer = blobs.create().await.unwrap();
        writer.write(Bytes::from(format!("body {n}"))).await.unwrap();
        let id = writer.finish().await.unwrap();
        let mut batch = Batch::default();
        batch.put(format!("k{n:06}"), id.to_string()).put("last", n.to_string());
        store.commit(batch).await.unwrap();
        println!("\nacknowledged {n}");
    }
}

/// Runs the writer until it is killed at `failpoint`; answers how many commits it saw acknowledged.
fn acknowledged_before(failpoint: &str, folder: &Path) -> usize {
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["crash::writer", "--exact", "--ignored", "--nocapture"])
        .env(tandem_failpoint::VARIABLE, failpoint)
        .env(FOLDER, folder)
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
    let acknowledged = acknowledged_before(&format!("{failpoint}@6"), folder.path());
    assert!(acknowledged >= 4, "killed at the sixth time, after {acknowledged}");

    let (store, blobs) = open(folder.path());
    let snapshot = store.snapshot().unwrap();
    let records: Vec<(Bytes, Bytes)> = snapshot.prefix(b"k").unwrap().map(|e| e.unwrap()).collect();
    let unacknowledged = records.len() - acknowledged;
    assert!(
        unacknowledged <= usize::from(last_may_be_there),
        "{failpoint}: {unacknowledged} more than acknowledged"
    );
    // A batch is there with all its writes, or not at all.
    assert_eq!(snapshot.get(b"last").unwrap(), Some((records.len() - 1).to_string().into()));

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
async fn killed_with_a_blob_unsynced_leaves_only_what_the_sweep_takes() {
    survives("blob.file.written", false).await;
}

#[tokio::test]
async fn killed_between_blob_and_commit_leaves_only_what_the_sweep_takes() {
    survives("blob.file.synced", false).await;
}
