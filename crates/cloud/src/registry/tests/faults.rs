//! A disk that is full or fails, and many clients at once.

use std::{env, path::Path, process::Command, sync::Arc};

use http::StatusCode;

use super::{Fixture, crash::is_consistent, repository};
use crate::registry::Reference;

const FOLDER: &str = "TANDEM_REGISTRY_FAULT_FOLDER";
const STATUS: &str = "TANDEM_REGISTRY_FAULT_STATUS";

#[tokio::test]
#[ignore = "started by the other test of this file, with an environment in which the disk fails"]
async fn pushes_on_a_disk_that_fails_once() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let f = Fixture::open(Path::new(&folder)).await;
    let error = f.push("v1", "layer").await.unwrap_err();
    assert_eq!(error.status().as_str(), env::var(STATUS).unwrap(), "{error}");
    assert_eq!(f.uploads(), 0, "what could not be kept is removed");
    assert_eq!(f.meaning("v1").await, None);
    // With room again nothing needs a restart.
    let (digest, _) = f.push("v1", "layer").await.unwrap();
    assert_eq!(f.meaning("v1").await, Some(digest));
    assert_eq!(f.blobs().await.len(), 3);
    is_consistent(&f, "after a fault").await;
}

#[test]
fn a_push_on_a_full_or_failing_disk_is_refused_leaves_nothing_and_works_later() {
    // The second blob and the manifest, too.
    for (fault, status) in [
        ("registry.upload.writing:enospc", StatusCode::INSUFFICIENT_STORAGE),
        ("registry.upload.writing@2:eio", StatusCode::INTERNAL_SERVER_ERROR),
        ("registry.blob.written:enospc", StatusCode::INSUFFICIENT_STORAGE),
        ("registry.blob.written@2:edquot", StatusCode::INSUFFICIENT_STORAGE),
        ("registry.blob.written@3:eio", StatusCode::INTERNAL_SERVER_ERROR),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args(["registry::tests::faults::pushes_on_a_disk_that_fails_once", "--exact", "--ignored"])
            .env(tandem_failpoint::VARIABLE, fault)
            .env(FOLDER, folder.path())
            .env(STATUS, status.as_str())
            .output()
            .unwrap();
        assert!(output.status.success(), "{fault}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_pulls_deletions_and_sweeps_at_once_leave_no_manifest_without_its_blobs() {
    let f = Arc::new(Fixture::new().await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..6_usize {
        let f = f.clone();
        clients.spawn(async move {
            for turn in 0..15_usize {
                // Few tags and few layers, so that they meet.
                let (tag, layer) =
                    (format!("v{}", (client + turn) % 3), format!("layer {}", (client * turn) % 4));
                let reference = Reference::parse(&tag).unwrap();
                match (client + turn) % 4 {
                    0 => _ = f.registry.delete_manifest(&repository(), &reference).await,
                    1 => _ = f.registry.sweep(jiff::Timestamp::now()).await.unwrap(),
                    // A blob that another's deletion took in between is told, and the client would push again.
                    2 => match f.push(&tag, &layer).await {
                        Ok(_) => {}
                        Err(error) => assert_eq!(error.status(), StatusCode::NOT_FOUND, "{error}"),
                    },
                    _ => {
                        f.shelf.put(&repository().image(&crate::registry::Tag::parse(&tag).unwrap()), &layer);
                        _ = f.meaning(&tag).await;
                    }
                }
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    is_consistent(&f, "after many clients").await;
    for tag in ["v0", "v1", "v2", "after"] {
        let _ = f.registry.delete_manifest(&repository(), &Reference::parse(tag).unwrap()).await;
    }
    let late = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(8 * 24);
    f.registry.sweep(late).await.unwrap();
    is_consistent(&f, "at the end").await;
    assert_eq!(f.uploads(), 0);
}
