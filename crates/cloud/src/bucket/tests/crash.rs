//! Kills a process that changes a bucket at each failpoint, and looks at what the next start makes of it.

use jiff::Timestamp;

use super::{BUCKET, Fixture, lifecycle, once};
use crate::bucket::{
    Algorithm, Claims, PartClaim, PutOptions, Query, Upload, UploadQuery,
    lifecycle::{Expire, Filter, Rule},
    made::Created,
    tagging::BucketTags,
};

const LARGE: usize = 100_000;

/// The process that is killed. It does everything that a bucket can do, once.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn changes() {
    let Some(folder) = crate::killed::folder() else { return };
    let f = Fixture::open(&folder).await;
    f.create_bucket("shop/dev", BUCKET, false).await.unwrap();
    f.subscribe().await;
    f.make_bucket("shop/dev", "mine").await.unwrap();
    f.buckets.put_setting(BUCKET, &BucketTags([("a".to_owned(), "b".to_owned())].into())).await.unwrap();
    f.notify(&["s3:ObjectCreated:*"]).await;
    f.delete_bucket("mine", false).await.unwrap();
    f.put("small", "x").await;
    f.put("large", vec![1; LARGE]).await;
    f.put("large", vec![2; LARGE]).await;
    let upload = Upload {
        begun: Timestamp::now(),
        algorithm: Algorithm::Crc64Nvme,
        composite: false,
        chosen: false,
        tags: Default::default(),
        description: Default::default(),
    };
    let id = f.buckets.begin_upload(BUCKET, "film", &upload).await.unwrap();
    let at = (BUCKET, "film", &*id);
    let claims = || Ok(Claims::default());
    f.buckets.put_part(at, 1, once(vec![3; LARGE]), &[Algorithm::Crc64Nvme], claims).await.unwrap();
    let part = PartClaim { number: 1, etag: None, checksum: None };
    f.buckets.complete_upload(at, &[part], None, &PutOptions::default()).await.unwrap();
    let other = f.buckets.begin_upload(BUCKET, "other", &upload).await.unwrap();
    let claims = || Ok(Claims::default());
    let at = (BUCKET, "other", &*other);
    f.buckets.put_part(at, 1, once(vec![4; LARGE]), &[Algorithm::Crc64Nvme], claims).await.unwrap();
    f.buckets.abort_upload(BUCKET, "other", &other).await.unwrap();
    f.buckets.delete(BUCKET, ["small"], None).await.unwrap();
    f.put("due 1", "x").await;
    f.put("due 2", "x").await;
    let filter = Filter { prefix: Some("due".to_owned()), ..Filter::default() };
    f.rules(vec![Rule { filter, expire: Some(Expire::Days(1)), ..lifecycle::rule() }]).await;
    f.buckets.expire(lifecycle::in_days(3)).await.unwrap();
    f.delete_bucket(BUCKET, true).await.unwrap();
}

fn all() -> UploadQuery {
    UploadQuery { limit: 100, ..UploadQuery::default() }
}

async fn killed_at(failpoint: &str) -> (Fixture, tempfile::TempDir) {
    killed("crash::changes", failpoint).await
}

/// What a start finds of a process that runs an ignored test of this folder up to a failpoint.
pub(super) async fn killed(process: &str, failpoint: &str) -> (Fixture, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    crate::killed::at(failpoint, &format!("bucket::tests::{process}"), folder.path());
    let f = Fixture::open(folder.path()).await;
    f.buckets.sweep().await.unwrap();
    (f, folder)
}

/// Whatever was cut off: every object is whole, every object has had its event, and there is no blob too many.
async fn is_consistent(f: &Fixture, failpoint: &str) -> Vec<String> {
    let page = f.buckets.list(BUCKET, &Query { limit: 100, ..Query::default() }).unwrap();
    let mut referenced = 0;
    let happened = f.happened();
    for (key, object) in &page.objects {
        let body = f.get(key).await;
        assert_eq!(body.len() as u64, object.size, "{failpoint}: {key}");
        assert!(body.iter().all(|byte| *byte == body[0]), "{failpoint}: {key} is of one put");
        assert!(
            happened.contains(&format!("put {key}")),
            "{failpoint}: {key} has had its event: {happened:?}"
        );
        referenced += object.body.blobs().count();
    }
    let puts = happened.iter().filter(|happened| happened.starts_with("put ")).count();
    assert_eq!(f.notified().len(), puts, "{failpoint}: what subscriptions are told, notifications are told");
    let uploads = f.buckets.list_uploads(BUCKET, &all()).unwrap().uploads;
    for upload in &uploads {
        let (parts, _) = f.buckets.list_parts((BUCKET, &upload.key, &upload.id), 0, 100).unwrap();
        referenced += parts.len();
    }
    assert_eq!(f.blobs.list().await.unwrap().len(), referenced, "{failpoint}: no blob is left over");
    // And it goes on working.
    f.put("after", "x").await;
    assert_eq!(f.get("after").await, "x");
    happened
}

#[tokio::test]
async fn killed_around_a_put_the_object_and_its_event_are_both_there_or_both_not() {
    let (f, _folder) = killed_at("bucket.put.stored@2").await;
    assert_eq!(is_consistent(&f, "stored").await, ["put small"]);

    let (f, _folder) = killed_at("bucket.put.committed@2").await;
    assert_eq!(is_consistent(&f, "committed").await, ["put small", "put large"]);

    let (f, _folder) = killed_at("bucket.put.stored@3").await;
    is_consistent(&f, "before the replacement").await;
    assert_eq!(f.get("large").await[0], 1, "what was there is still there");

    let (f, _folder) = killed_at("bucket.put.committed@3").await;
    is_consistent(&f, "after the replacement").await;
    assert_eq!(f.get("large").await[0], 2);
}

#[tokio::test]
async fn killed_around_a_completion_the_upload_goes_on_or_is_done_with_one_event() {
    let (f, _folder) = killed_at("bucket.part.stored").await;
    is_consistent(&f, "part").await;

    let (f, _folder) = killed_at("bucket.complete.judged").await;
    let happened = is_consistent(&f, "judged").await;
    assert!(!happened.contains(&"put film".to_owned()));
    let uploads = f.buckets.list_uploads(BUCKET, &all()).unwrap().uploads;
    let at = (BUCKET, "film", &*uploads[0].id);
    let part = [PartClaim { number: 1, etag: None, checksum: None }];
    let first = f.buckets.complete_upload(at, &part, None, &PutOptions::default()).await.unwrap();
    let again = f.buckets.complete_upload(at, &part, None, &PutOptions::default()).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(f.happened().iter().filter(|h| *h == "put film").count(), 1);

    let (f, _folder) = killed_at("bucket.complete.committed").await;
    let happened = is_consistent(&f, "completed").await;
    assert_eq!(happened.iter().filter(|h| *h == "put film").count(), 1);
    assert_eq!(f.get("film").await.len(), LARGE);
}

#[tokio::test]
async fn killed_after_an_abortion_or_a_deletion_nothing_is_left_of_it() {
    let (f, _folder) = killed_at("bucket.abort.committed").await;
    is_consistent(&f, "aborted").await;
    let (f, _folder) = killed_at("bucket.delete.committed").await;
    let happened = is_consistent(&f, "deleted").await;
    assert!(happened.contains(&"deleted small".to_owned()));
    assert!(f.buckets.head(BUCKET, "small").is_err());
}

#[tokio::test]
async fn killed_around_the_making_or_setting_or_deletion_of_a_bucket_it_is_whole_or_not_there() {
    // The third change is the client's: after the bucket and the subscription.
    let (f, _folder) = killed_at("target.change.prepared@3").await;
    assert!(f.buckets.find("mine").is_none());
    f.make_bucket("shop/dev", "mine").await.unwrap();

    let (f, _folder) = killed_at("target.change.committed@3").await;
    assert!(f.buckets.setting::<Created>("mine").unwrap().is_some());
    f.buckets.put("mine", "a", once("x"), &PutOptions::default()).await.unwrap();

    let (f, _folder) = killed_at("bucket.setting.committed").await;
    assert_eq!(f.buckets.setting::<BucketTags>(BUCKET).unwrap().unwrap().0["a"], "b");

    let (f, _folder) = killed_at("bucket.closing.committed").await;
    assert!(f.buckets.setting::<Created>("mine").unwrap().is_some(), "an unfinished deletion keeps settings");
    f.buckets.put("mine", "a", once("x"), &PutOptions::default()).await.unwrap();

    let (f, _folder) = killed_at("target.change.committed@4").await;
    assert!(f.buckets.find("mine").is_none());
    assert_eq!(f.store.snapshot().unwrap().prefix(b"setting/mine/").unwrap().count(), 0);
}

#[tokio::test]
async fn killed_in_a_sweep_of_lifecycle_rules_the_next_one_does_the_rest_with_one_event_each() {
    let (f, _folder) = killed_at("bucket.delete.committed@2").await;
    is_consistent(&f, "swept").await;
    let expired = f.buckets.expire(lifecycle::in_days(3)).await.unwrap();
    assert!(expired.objects <= 1, "{expired:?}");
    for key in ["due 1", "due 2"] {
        assert!(f.buckets.head(BUCKET, key).is_err());
        assert_eq!(f.happened().iter().filter(|h| **h == format!("deleted {key}")).count(), 1);
    }
}

#[tokio::test]
async fn killed_while_a_bucket_is_deleted_it_is_open_again_and_the_deletion_goes_on() {
    for failpoint in ["bucket.closing.committed@2", "bucket.emptying.committed"] {
        let (f, _folder) = killed_at(failpoint).await;
        is_consistent(&f, failpoint).await;
        f.delete_bucket(BUCKET, true).await.unwrap();
        assert_eq!(f.blobs.list().await.unwrap(), []);
        assert_eq!(f.store.snapshot().unwrap().prefix(b"object/").unwrap().count(), 0);
    }
}
