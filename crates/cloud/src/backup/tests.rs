//! Backups taken while objects change, restored, interrupted and damaged.

use std::{
    collections::BTreeMap,
    fs,
    ops::ControlFlow,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::stream;
use tandem_engine::Stacks;
use tandem_model::{ByteSize, Explain, PhysicalId, resource::Recorded};
use tandem_store::{Batch, Blobs, FileBlobs, Options, RedbStore, Store};
use tempfile::TempDir;
use tokio::sync::RwLock;

use super::{BackupError, Live, Progress, Sources, Summary, restore, take};
use crate::{
    archive::{self, Archives},
    bucket::{BucketError, Buckets},
    dispatch::Dispatcher,
    endpoint::Endpoint,
    home::Home,
    resource::Resources,
    target,
};

const BUCKET: &str = "photos";

/// A cloud of one bucket, on disk.
struct Fixture {
    folder: TempDir,
    home: Home,
    store: Arc<dyn Store>,
    blobs: Arc<dyn Blobs>,
    buckets: Arc<Buckets>,
    changes: Arc<RwLock<()>>,
}

fn open(home: &Home) -> (Arc<dyn Store>, Arc<dyn Blobs>) {
    let options = Options { keep_free: ByteSize(0), ..Options::default() };
    fs::create_dir_all(home.data()).unwrap();
    (
        Arc::new(RedbStore::open(home.store(), options).unwrap()),
        Arc::new(FileBlobs::open(home.blobs(), ByteSize(0)).unwrap()),
    )
}

fn buckets(store: &Arc<dyn Store>, blobs: &Arc<dyn Blobs>) -> Arc<Buckets> {
    let resources = Arc::new(Resources::default());
    resources.put(Recorded {
        urn: "urn:tandem:shop:dev:bucket:photos".parse().unwrap(),
        id: PhysicalId(BUCKET.into()),
        inputs: Default::default(),
        outputs: Default::default(),
        depends_on: Vec::new(),
    });
    let endpoint = Endpoint::new("127.0.0.1:4566".parse().unwrap());
    Arc::new(Buckets::new(store.clone(), blobs.clone(), Dispatcher::outbox().0, resources, endpoint))
}

impl Fixture {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path().join("home"));
        let (store, blobs) = open(&home);
        target::load(&store, &Resources::default()).await.unwrap();
        let mut batch = Batch::default();
        batch.put(format!("bucket/{BUCKET}"), "open");
        store.commit(batch).await.unwrap();
        fs::write(home.root_key(), "{\"epoch\":1,\"key\":\"00\"}").unwrap();
        fs::write(home.address(), "127.0.0.1:4566\n").unwrap();
        let code = b"the program";
        Archives::new(home.archives()).put(&archive::hash(code), &code[..]).unwrap();
        let stack = home.stacks().join("shop/dev");
        fs::create_dir_all(&stack).unwrap();
        fs::write(stack.join("state.json"), "{\"version\":1}").unwrap();
        fs::write(stack.join("journal.ndjson"), "{}\n").unwrap();
        fs::write(stack.join("lock"), "someone").unwrap();
        let buckets = buckets(&store, &blobs);
        Self { folder, home, store, blobs, buckets, changes: Arc::default() }
    }

    fn sources(&self) -> Sources {
        Sources {
            home: self.home.clone(),
            store: self.store.clone(),
            blobs: self.blobs.clone(),
            live: Some(Live { target: self.changes.clone(), hold: self.buckets.hold() }),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("backup.tar")
    }

    fn elsewhere(&self) -> Home {
        let home = Home::new(self.folder.path().join("restored"));
        fs::create_dir_all(home.path()).unwrap();
        home
    }

    async fn take(&self) -> Summary {
        take(self.sources(), &self.file(), false, |_| ControlFlow::Continue(())).await.unwrap()
    }

    async fn put(&self, key: &str, body: Vec<u8>) {
        put(&self.buckets, key, body).await;
    }
}

async fn put(buckets: &Buckets, key: &str, body: Vec<u8>) {
    let body = stream::once(async move { Ok::<_, std::io::Error>(Bytes::from(body)) });
    buckets.put(BUCKET, key, body, &Default::default()).await.unwrap();
}

async fn get(buckets: &Buckets, key: &str) -> Result<Bytes, BucketError> {
    Ok(buckets.get(BUCKET, key).await?.bytes().await.unwrap())
}

async fn restored(file: &Path, home: &Home) -> Result<Summary, BackupError> {
    restore(home, file, |_| ControlFlow::Continue(())).await
}

fn rows(store: &dyn Store) -> BTreeMap<Bytes, Bytes> {
    store
        .snapshot()
        .unwrap()
        .range(&[], &[255], tandem_store::Direction::Ascending)
        .unwrap()
        .map(|r| r.unwrap())
        .collect()
}

fn body(seed: u8, size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8 ^ seed).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_is_restored_is_what_was_there() {
    let cloud = Fixture::new().await;
    cloud.put("small", body(1, 100)).await;
    cloud.put("large", body(2, 3 << 20)).await;
    for n in 0..300 {
        cloud.put(&format!("inline/{n}"), body(3, 30_000)).await;
    }
    let summary = cloud.take().await;
    assert_eq!((summary.bodies, summary.archives, summary.stacks, summary.lost_bodies), (1, 1, 1, 0));
    assert_eq!(summary.rows as usize, rows(&*cloud.store).len());
    assert!(summary.rows > 600 && summary.bytes > 8 << 20, "more than one entry of rows: {summary:?}");
    assert_eq!(fs::metadata(cloud.file()).unwrap().len(), summary.bytes);
    assert_eq!(
        fs::metadata(cloud.file()).unwrap().permissions().mode() & 0o777,
        0o600,
        "it has the root key"
    );
    assert_eq!(files(cloud.folder.path()), ["backup.tar", "home"]);

    let home = cloud.elsewhere();
    assert_eq!(restored(&cloud.file(), &home).await.unwrap(), summary);
    assert_eq!(files(home.path()), ["address", "archives", "data", "root-key.json", "stacks"]);
    for path in ["address", "root-key.json", "stacks/shop/dev/state.json", "stacks/shop/dev/journal.ndjson"] {
        assert_eq!(
            fs::read(home.path().join(path)).unwrap(),
            fs::read(cloud.home.path().join(path)).unwrap(),
            "{path}"
        );
    }
    assert_eq!(files(&home.stacks().join("shop/dev")), ["journal.ndjson", "state.json"], "no one's lock");
    assert_eq!(Archives::new(home.archives()).list().unwrap().len(), 1);
    assert_eq!(fs::metadata(home.root_key()).unwrap().permissions().mode() & 0o777, 0o600);
    let (store, blobs) = open(&home);
    assert_eq!(rows(&*store), rows(&*cloud.store));
    assert_eq!(get(&buckets(&store, &blobs), "large").await.unwrap(), body(2, 3 << 20));
    assert_eq!(Stacks::new(home.stacks()).list().unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn what_is_deleted_or_replaced_meanwhile_is_still_in_it_and_goes_afterwards() {
    let cloud = Fixture::new().await;
    for n in 0..4u8 {
        cloud.put(&format!("large/{n}"), body(n, 1 << 20)).await;
    }
    // The first progress comes after the snapshot and before any body is copied.
    let (passed, mut wait) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, paused) = std::sync::mpsc::channel::<()>();
    let told = move |_: Progress| {
        passed.send(()).unwrap();
        // After the first time everybody may pass.
        let _ = paused.recv();
        ControlFlow::Continue(())
    };
    let taking = tokio::spawn({
        let (sources, file) = (cloud.sources(), cloud.file());
        async move { take(sources, &file, false, told).await }
    });
    wait.recv().await.unwrap();
    cloud.buckets.delete(BUCKET, ["large/0"], None).await.unwrap();
    cloud.put("large/1", body(9, 1 << 20)).await;
    cloud.put("later", body(8, 1 << 20)).await;
    assert_eq!(cloud.blobs.list().await.unwrap().len(), 6, "nothing is deleted while it is copied");
    drop(go_on);
    taking.await.unwrap().unwrap();

    let home = cloud.elsewhere();
    restored(&cloud.file(), &home).await.unwrap();
    let (store, blobs) = open(&home);
    let copy = buckets(&store, &blobs);
    for n in 0..4u8 {
        assert_eq!(get(&copy, &format!("large/{n}")).await.unwrap(), body(n, 1 << 20));
    }
    assert!(matches!(get(&copy, "later").await, Err(BucketError::NoSuchKey { .. })));
    assert_eq!(get(&cloud.buckets, "large/1").await.unwrap(), body(9, 1 << 20));
    // The hold is gone, so this and what was deleted before it go; each deletion is a task of this thread.
    cloud.buckets.delete(BUCKET, ["later"], None).await.unwrap();
    let mut left = usize::MAX;
    for _ in 0..10_000 {
        left = cloud.blobs.list().await.unwrap().len();
        if left == 3 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(left, 3);
    store.close().await;
}

#[tokio::test]
async fn no_change_becomes_true_between_the_states_and_the_snapshot() {
    let cloud = Fixture::new().await;
    let change = cloud.changes.clone().read_owned().await;
    let taking = tokio::spawn({
        let (sources, file) = (cloud.sources(), cloud.file());
        async move { take(sources, &file, false, |_| ControlFlow::Continue(())).await }
    });
    tokio::task::yield_now().await;
    // What this change writes to both records before it ends is in the backup, for it waits.
    let mut batch = Batch::default();
    batch.put("resource/bucket/new", "made");
    cloud.store.commit(batch).await.unwrap();
    fs::write(cloud.home.stacks().join("shop/dev/journal.ndjson"), "begun\n").unwrap();
    drop(change);
    taking.await.unwrap().unwrap();
    let home = cloud.elsewhere();
    restored(&cloud.file(), &home).await.unwrap();
    let (store, _) = open(&home);
    assert!(rows(&*store).contains_key(&b"resource/bucket/new"[..]));
    assert_eq!(fs::read_to_string(home.stacks().join("shop/dev/journal.ndjson")).unwrap(), "begun\n");
    store.close().await;
}

#[tokio::test]
async fn a_body_that_the_cloud_itself_lost_is_told_and_the_rest_is_kept() {
    let cloud = Fixture::new().await;
    for n in 0..3u8 {
        cloud.put(&format!("large/{n}"), body(n, 1 << 20)).await;
    }
    let ids = cloud.blobs.list().await.unwrap();
    let path = |n: usize| cloud.home.blobs().join(ids[n].to_string());
    fs::remove_file(path(0)).unwrap();
    fs::File::options().write(true).open(path(1)).unwrap().set_len(1000).unwrap();
    let summary = cloud.take().await;
    assert_eq!((summary.bodies, summary.lost_bodies), (1, 2));
    let told = summary.lost.join("\n");
    assert!(told.contains(&ids[0].to_string()) && told.contains(&ids[1].to_string()), "{told}");
    assert_eq!(restored(&cloud.file(), &cloud.elsewhere()).await.unwrap(), summary);
}

#[tokio::test]
async fn a_file_that_is_there_is_replaced_only_by_force() {
    let cloud = Fixture::new().await;
    fs::write(cloud.file(), "precious").unwrap();
    let refused =
        take(cloud.sources(), &cloud.file(), false, |_| ControlFlow::Continue(())).await.unwrap_err();
    assert!(matches!(refused, BackupError::Exists { .. }), "{refused}");
    assert!(refused.help().contains("--force"));
    // Broken off, it is as it was.
    let given_up = take(cloud.sources(), &cloud.file(), true, |_| ControlFlow::Break(())).await.unwrap_err();
    assert!(matches!(given_up, BackupError::GivenUp), "{given_up}");
    assert_eq!(fs::read_to_string(cloud.file()).unwrap(), "precious");
    assert_eq!(files(cloud.folder.path()), ["backup.tar", "home"]);
    take(cloud.sources(), &cloud.file(), true, |_| ControlFlow::Continue(())).await.unwrap();
    restored(&cloud.file(), &cloud.elsewhere()).await.unwrap();
    let nowhere = cloud.folder.path().join("no/such/folder.tar");
    let refused = take(cloud.sources(), &nowhere, false, |_| ControlFlow::Continue(())).await.unwrap_err();
    assert!(
        matches!(&refused, BackupError::Write { path, .. } if path.starts_with(nowhere.parent().unwrap()))
    );
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_refused_naming_what_and_leaves_nothing() {
    let cloud = Fixture::new().await;
    cloud.put("small", body(1, 100)).await;
    cloud.put("large", body(2, 50_000)).await;
    let summary = cloud.take().await;
    let whole = fs::read(cloud.file()).unwrap();
    let home = cloud.elsewhere();
    let damaged = cloud.folder.path().join("damaged.tar");
    let mut refused = 0;
    // Each 512-byte block of the tar is hit, at ever other places. The two blocks of zeros behind the end mean nothing.
    for block in 0..whole.len() / 512 - 2 {
        let at = block * 512 + (block * 131) % 512;
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (block % 8);
        fs::write(&damaged, &bytes).unwrap();
        match restored(&damaged, &home).await {
            // What pads an entry to a whole block, and unused fields of a header, carry nothing.
            Ok(found) => {
                assert_eq!(found, summary, "byte {at}");
                for path in files(home.path()) {
                    let path = home.path().join(path);
                    let _ = fs::remove_dir_all(&path);
                    let _ = fs::remove_file(&path);
                }
            }
            Err(error) => {
                refused += 1;
                let ours = matches!(
                    error,
                    BackupError::Damaged { .. } | BackupError::Foreign { .. } | BackupError::Newer { .. }
                );
                assert!(ours, "byte {at}: {error:?}");
                assert!(error.to_string().contains("damaged.tar"), "{error}");
            }
        }
        assert_eq!(files(home.path()), [""; 0], "byte {at}");
    }
    assert!(refused > whole.len() / 512 / 2, "{refused}");
    let name = cloud.blobs.list().await.unwrap()[0].to_string();
    let mut bytes = whole.clone();
    let pattern = &body(2, 50_000)[1000..1100];
    let at = whole.windows(100).position(|w| w == pattern).unwrap();
    bytes[at] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let error = restored(&damaged, &home).await.unwrap_err();
    assert!(error.to_string().contains(&format!("`blobs/{name}` is not what its checksum says")), "{error}");
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_refused_and_leaves_nothing() {
    let cloud = Fixture::new().await;
    cloud.put("large", body(2, 50_000)).await;
    cloud.take().await;
    let whole = fs::read(cloud.file()).unwrap();
    let home = cloud.elsewhere();
    let cut = cloud.folder.path().join("cut.tar");
    for length in (0..whole.len() - 1024 - 512).step_by(700) {
        fs::write(&cut, &whole[..length]).unwrap();
        let error = restored(&cut, &home).await.unwrap_err();
        assert!(
            matches!(error, BackupError::Damaged { .. } | BackupError::Foreign { .. }),
            "{length} bytes: {error:?}"
        );
        assert_eq!(files(home.path()), [""; 0], "{length} bytes");
    }
}

/// A tar of these entries, each with its checksum, and an end that fits.
fn archive_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = super::format::Writer::new(Vec::new(), 0);
    for (name, content) in entries {
        out.add(name, content.len() as u64, &mut &content[..]).unwrap();
    }
    out.finish(Summary::default()).unwrap()
}

#[tokio::test]
async fn what_is_no_backup_or_a_later_one_or_holds_strange_things_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path().join("home"));
    fs::create_dir(home.path()).unwrap();
    let file = folder.path().join("file");
    let manifest: &[u8] = br#"{"format":1,"tandem":"0.1.0","cloud":"c","taken":"2026-01-01T00:00:00Z"}"#;
    let later: &[u8] = br#"{"format":7}"#;
    let cases: &[(Vec<u8>, &str)] = &[
        (Vec::new(), "no backup"),
        (vec![b'x'; 5000], "no backup"),
        (archive_of(&[("etc/passwd", b"")]), "no backup"),
        (archive_of(&[("manifest.json", later)]), "has format 7"),
        (archive_of(&[("manifest.json", manifest), ("rows/0", b"\x01")]), "`rows/0` ends within a row"),
        (archive_of(&[("manifest.json", manifest), ("blobs/passwd", b"")]), "`blobs/passwd` does not belong"),
        (archive_of(&[("manifest.json", manifest), ("stacks/a/b/lock", b"")]), "does not belong"),
        (archive_of(&[("manifest.json", manifest), ("archives/00", b"")]), "does not belong"),
    ];
    for (bytes, expected) in cases {
        fs::write(&file, bytes).unwrap();
        let error = restored(&file, &home).await.unwrap_err();
        assert!(error.to_string().contains(expected), "expected `{expected}`: {error}");
        assert_eq!(files(home.path()), [""; 0]);
    }
}

#[tokio::test]
async fn a_home_that_has_anything_is_left_alone() {
    let cloud = Fixture::new().await;
    cloud.take().await;
    let home = cloud.elsewhere();
    fs::write(home.path().join("cloud.lock"), "").unwrap();
    fs::write(home.path().join("notes.txt"), "mine").unwrap();
    let error = restored(&cloud.file(), &home).await.unwrap_err();
    assert!(matches!(&error, BackupError::NotEmpty { found, .. } if found == "notes.txt"), "{error}");
    assert_eq!(files(home.path()), ["cloud.lock", "notes.txt"]);
}

#[tokio::test]
async fn a_restore_that_was_interrupted_starts_over() {
    let cloud = Fixture::new().await;
    cloud.put("large", body(2, 50_000)).await;
    let summary = cloud.take().await;
    let home = cloud.elsewhere();
    fs::create_dir_all(home.restoring().join("data/blobs")).unwrap();
    fs::create_dir_all(home.data()).unwrap();
    fs::write(home.store(), "moved by the one that was killed").unwrap();
    fs::write(home.root_key(), "another's").unwrap();
    assert_eq!(restored(&cloud.file(), &home).await.unwrap(), summary);
    assert!(!home.restoring().exists());
    let (store, _) = open(&home);
    assert_eq!(rows(&*store), rows(&*cloud.store));
    store.close().await;
}
