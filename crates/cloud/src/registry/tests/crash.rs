//! Kills a process that pushes and deletes at each failpoint, and looks at what the next start makes of it.

use jiff::{SignedDuration, Timestamp};

use super::{Fixture, NAME, repository};
use crate::{
    killed,
    registry::{Reference, store},
};

/// The process that is killed. It does everything that a registry can do, once.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn changes() {
    let Some(folder) = killed::folder() else { return };
    let f = Fixture::open(&folder).await;
    f.push("v1", "first").await.unwrap();
    f.push("v1", "second").await.unwrap();
    f.shelf.put(NAME, "sha256:built");
    f.meaning("v1").await.unwrap();
    f.registry.delete_manifest(&repository(), &Reference::parse("v1").unwrap()).await.unwrap();
    let (digest, _) = f.push("v2", "third").await.unwrap();
    f.registry.delete_manifest(&repository(), &Reference::Digest(digest)).await.unwrap();
    let (digest, _) = f.push("@", "fourth").await.unwrap();
    f.registry.delete_manifest(&repository(), &Reference::Digest(digest)).await.unwrap();
}

/// What a start finds. The image store of these tests lives in memory, so it is empty then.
async fn killed_at(failpoint: &str) -> (Fixture, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    killed::at(failpoint, "registry::tests::crash::changes", folder.path());
    let f = Fixture::open(folder.path()).await;
    assert_eq!(f.uploads(), 0, "{failpoint}: no upload outlives its start");
    (f, folder)
}

/// Every manifest has all that it names, every tag its manifest, every blob the content that its name says.
pub(super) async fn is_consistent(f: &Fixture, failpoint: &str) {
    let blobs = f.blobs().await;
    for blob in &blobs {
        let content = f.registry.files.read(blob).await.unwrap();
        assert_eq!(crate::registry::Digest::of(&content), *blob, "{failpoint}");
    }
    let (manifests, tags) = {
        let snapshot = f.store.snapshot().unwrap();
        (store::manifests(&*snapshot, None).unwrap(), store::tags(&*snapshot, None).unwrap())
    };
    for (_, digest, row) in &manifests {
        for needed in row.refers.iter().chain([digest]) {
            assert!(blobs.contains(needed), "{failpoint}: {digest} lost {needed}");
        }
    }
    for (_, tag, row) in &tags {
        assert!(manifests.iter().any(|(_, digest, _)| *digest == row.digest), "{failpoint}: {tag:?}");
    }
    // And it goes on working.
    let (digest, image) = f.push("after", "after").await.unwrap();
    assert_eq!(f.meaning("after").await, Some(digest), "{failpoint}");
    assert_eq!(f.shelf.get("docker.io/library/app:after"), Some(image));
}

#[tokio::test]
async fn killed_anywhere_nothing_that_a_manifest_names_is_missing() {
    for failpoint in [
        "registry.upload.writing",
        "registry.blob.written",
        "registry.blob.synced",
        "registry.blob.named",
        "registry.folder.syncing",
        "registry.manifest.stored",
        "registry.manifest.stored@2",
        "registry.manifest.committed",
        "registry.manifest.committed@2",
        "registry.image.imported",
        "registry.image.imported@2",
        "registry.tag.committed",
        "registry.tag.committed@2",
        "registry.image.exported",
        "registry.manifest.committed@3",
        "registry.tag.committed@3",
        "registry.name.forgotten",
        "registry.tag.removed",
        "registry.name.forgotten@2",
        "registry.tag.removed@2",
        "registry.manifest.removed",
    ] {
        let (f, _folder) = killed_at(failpoint).await;
        is_consistent(&f, failpoint).await;
        let late = Timestamp::now() + SignedDuration::from_hours(8 * 24);
        f.registry.sweep(late).await.unwrap();
        is_consistent(&f, failpoint).await;
    }
}

#[tokio::test]
async fn killed_around_a_push_the_tag_means_the_old_image_or_the_new_one() {
    let (f, _folder) = killed_at("registry.image.imported").await;
    assert_eq!(f.meaning("v1").await, None, "it was not acknowledged");
    let (first, _) = f.push("v1", "first").await.unwrap();

    let (f, _folder) = killed_at("registry.tag.committed").await;
    assert_eq!(f.meaning("v1").await, Some(first.clone()));

    let (f, _folder) = killed_at("registry.image.imported@2").await;
    assert_eq!(f.meaning("v1").await, Some(first.clone()), "the second was not acknowledged");

    let (f, _folder) = killed_at("registry.tag.committed@2").await;
    let second = f.meaning("v1").await.unwrap();
    assert_ne!(second, first);
    assert_eq!(f.push("v1", "second").await.unwrap().0, second, "pushing again changes nothing");
}

#[tokio::test]
async fn killed_in_a_deletion_it_can_be_repeated_and_a_sweep_takes_the_rest() {
    let (f, _folder) = killed_at("registry.name.forgotten").await;
    assert!(f.meaning("v1").await.is_some(), "it was not acknowledged");
    f.registry.delete_manifest(&repository(), &Reference::parse("v1").unwrap()).await.unwrap();
    assert_eq!(f.meaning("v1").await, None);

    let (f, _folder) = killed_at("registry.tag.removed").await;
    assert_eq!(f.meaning("v1").await, None);
    let kept = f.registry.referenced().unwrap();
    let left: Vec<_> = f.blobs().await.into_iter().filter(|blob| !kept.contains(blob)).collect();
    assert!(!left.is_empty(), "it was killed before it removed blobs");
    for blob in &left {
        super::wire::age(&f, blob);
    }
    assert_eq!(f.registry.sweep(Timestamp::now()).await.unwrap(), left.len());
    let kept = f.registry.referenced().unwrap();
    assert!(f.blobs().await.iter().all(|blob| kept.contains(blob)));
}
