//! What clients send and get, and what goes when.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use jiff::{SignedDuration, Timestamp};

use super::{Fixture, NAME, repository};
use crate::{
    credential::Principal,
    registry::{Digest, Reference, RegistryError},
    stock_clients,
};

/// Runs a script of this folder, which finds a small client.
async fn run(script: &str, f: &mut Fixture) {
    f.serve();
    let images = f.credentials.for_images();
    let of = |principal: Principal| {
        let key = f.credentials.for_principal(&principal);
        format!("{}:{}", key.access_key_id, key.secret_access_key)
    };
    let environment = vec![
        ("REGISTRY", f.endpoint.address().to_string()),
        ("IMAGES", format!("{}:{}", images.access_key_id, images.secret_access_key)),
        ("OPERATOR", of(Principal::Operator { stack: "shop/dev".parse().unwrap() })),
        ("NOBODY", of(Principal::Operator { stack: "no/stack".parse().unwrap() })),
        ("TASK", of(Principal::Resource { urn: "urn:tandem:shop:dev:task:job".parse().unwrap() })),
    ];
    let script = [include_str!("client.py"), script].concat();
    stock_clients::run(&script, environment).await;
}

/// Lets a blob have come two days ago.
pub(super) fn age(f: &Fixture, blob: &Digest) {
    let file = fs::File::options().write(true).open(f.registry.files.blob(blob)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(48 * 60 * 60)).unwrap();
}

#[tokio::test]
async fn blobs_are_sent_at_once_in_a_stream_and_in_chunks_and_read_in_ranges() {
    let mut f = Fixture::new().await;
    run(include_str!("blobs.py"), &mut f).await;
    assert_eq!(f.uploads(), 1, "only the one that the script left open");
}

#[tokio::test]
async fn manifests_of_both_kinds_and_indexes_are_taken_listed_and_deleted() {
    let mut f = Fixture::new().await;
    f.shelf.put("localhost/tandem/shop-dev-job:0123456789ab", "sha256:built");
    run(include_str!("manifests.py"), &mut f).await;
    assert_eq!(*f.shelf.exports.lock().unwrap(), 1, "made pullable once");
}

#[tokio::test]
async fn bad_requests_get_the_errors_of_the_specification_and_leave_nothing() {
    let mut f = Fixture::new().await;
    run(include_str!("refusals.py"), &mut f).await;
    assert_eq!(f.uploads(), 0);
}

#[tokio::test]
async fn a_push_is_an_image_of_that_name_and_a_new_image_of_that_name_is_pulled() {
    let f = Fixture::new().await;
    let (pushed, image) = f.push("v1", "one").await.unwrap();
    assert_eq!(f.shelf.get(NAME), Some(image));
    assert_eq!(f.meaning("v1").await, Some(pushed.clone()));
    // As a build or an import does it.
    f.shelf.put(NAME, "sha256:built");
    let built = f.meaning("v1").await.unwrap();
    assert_ne!(built, pushed);
    assert_eq!(f.meaning("v1").await, Some(built));
    assert_eq!(*f.shelf.exports.lock().unwrap(), 1);
    // The one before is still pulled by its digest, for a week.
    let by_digest = Reference::Digest(pushed);
    f.registry.find(&repository(), &by_digest).await.unwrap();
    let in_days = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    f.registry.sweep(in_days(6)).await.unwrap();
    f.registry.find(&repository(), &by_digest).await.unwrap();
    f.registry.sweep(in_days(8)).await.unwrap();
    assert!(f.registry.find(&repository(), &by_digest).await.is_err());
    assert!(f.meaning("v1").await.is_some());
}

#[tokio::test]
async fn no_row_of_the_registry_is_restored_without_its_blobs() {
    let f = Fixture::new().await;
    f.push("v1", "one").await.unwrap();
    let rows: Vec<_> = f.store.snapshot().unwrap().prefix(b"").unwrap().map(|row| row.unwrap().0).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| crate::registry::is_of_this_machine(row)));
}

#[tokio::test]
async fn an_image_that_the_image_store_cannot_take_leaves_the_tag_as_it_was() {
    let f = Fixture::new().await;
    let (first, image) = f.push("v1", "one").await.unwrap();
    *f.shelf.broken.lock().unwrap() = true;
    let error = f.push("v1", "two").await.unwrap_err();
    assert_eq!(error.status(), http::StatusCode::INSUFFICIENT_STORAGE);
    assert!(error.message().contains("no space left"), "{}", error.message());
    assert_eq!((f.meaning("v1").await, f.shelf.get(NAME)), (Some(first), Some(image)));
}

#[tokio::test]
async fn a_deleted_tag_takes_along_what_only_it_names_and_never_what_a_task_runs_from() {
    let f = Fixture::new().await;
    let (first, image) = f.push("v1", "one").await.unwrap();
    f.push("v2", "two").await.unwrap();
    assert_eq!(f.blobs().await.len(), 6);
    let tag = Reference::parse("v1").unwrap();
    f.deploy("runs", &image);
    for reference in [&tag, &Reference::Digest(first.clone())] {
        let error = f.registry.delete_manifest(&repository(), reference).await.unwrap_err();
        assert!(
            matches!(&error, RegistryError::InUse(by) if by.contains("urn:tandem:shop:dev:task:runs")),
            "{error}"
        );
    }
    assert_eq!((f.shelf.get(NAME), f.meaning("v1").await), (Some(image), Some(first)));
    f.deploy("runs", "sha256:another");
    f.registry.delete_manifest(&repository(), &tag).await.unwrap();
    assert_eq!((f.shelf.get(NAME), f.blobs().await.len()), (None, 3));
    let again = f.registry.delete_manifest(&repository(), &tag).await.unwrap_err();
    assert!(matches!(again, RegistryError::ManifestUnknown(_)));
    // As `tandem image rm` does it.
    f.shelf.names.lock().unwrap().clear();
    assert!(f.registry.forget("app:v2").await.unwrap());
    assert!(!f.registry.forget("app:v2").await.unwrap());
    assert_eq!(f.blobs().await.len(), 0);
}

#[tokio::test]
async fn a_sweep_spares_what_a_push_under_way_counts_on() {
    let f = Fixture::new().await;
    f.push_blob("waits").await.unwrap();
    f.push_blob("told").await.unwrap();
    for blob in f.blobs().await {
        age(&f, &blob);
    }
    assert_eq!(f.registry.sweep(Timestamp::now()).await.unwrap(), 0, "both were promised just now");
    f.registry.files.redeem(&f.blobs().await);
    f.registry.blob(&Digest::of(b"told")).await.unwrap();
    assert_eq!(f.registry.sweep(Timestamp::now()).await.unwrap(), 1);
    assert_eq!(f.blobs().await, [Digest::of(b"told")]);
}
