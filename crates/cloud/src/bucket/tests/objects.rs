use std::io;

use bytes::Bytes;
use futures::{TryStreamExt, stream};

use super::{BUCKET, Fixture, once};
use crate::bucket::{Body, BucketError, Condition, Description, PutOptions, Query, Replaced, Source};

#[tokio::test]
async fn small_and_large_bodies_come_back_as_they_went() {
    let f = Fixture::new().await;
    let body: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
    for size in [0, 1, 32 << 10, (32 << 10) + 1, 200_000] {
        let key = format!("of {size}");
        let pieces = body[..size].chunks(7_001).map(|c| Ok::<_, io::Error>(Bytes::copy_from_slice(c)));
        let options = PutOptions::default();
        let object =
            f.buckets.put(BUCKET, &key, stream::iter(pieces.collect::<Vec<_>>()), &options).await.unwrap();
        assert_eq!(object.size, size as u64);
        assert_eq!(object.body == Body::Inline, size <= 32 << 10);
        assert!(f.get(&key).await == body[..size], "{size}");
        if size > 100 {
            let found = f.buckets.get_range(BUCKET, &key, None, |_| Ok(10..100)).await.unwrap();
            assert_eq!(found.bytes().await.unwrap(), body[10..100]);
        }
    }
}

#[tokio::test]
async fn any_text_is_a_key_and_none_is_a_path() {
    let f = Fixture::new().await;
    let longest = "k".repeat(1024);
    let keys = [
        "..",
        "../../etc/passwd",
        "/",
        "//",
        "a b",
        "ünï/ćødé 🎬",
        "a\u{0}b",
        "%2e%2e",
        ".",
        "object/x",
        &longest,
    ];
    for key in keys {
        f.put(key, key.to_owned()).await;
    }
    for key in keys {
        assert_eq!(f.get(key).await, key);
    }
    let page = f.buckets.list(BUCKET, &Query { limit: 100, ..Query::default() }).unwrap();
    assert_eq!(page.objects.len(), keys.len());
    for wrong in [String::new(), "k".repeat(1025), "ä".repeat(513)] {
        let put = f.buckets.put(BUCKET, &wrong, once("x"), &PutOptions::default()).await;
        assert!(matches!(put, Err(BucketError::KeyLength { length, .. }) if length == wrong.len()));
    }
}

#[tokio::test]
async fn an_object_keeps_what_was_said_about_it() {
    let f = Fixture::new().await;
    let description = Description {
        content_type: Some("video/mp4".to_owned()),
        metadata: [("author".to_owned(), "cat".to_owned())].into(),
        ..Description::default()
    };
    let options = PutOptions { description: description.clone(), ..PutOptions::default() };
    f.buckets.put(BUCKET, "cat.mp4", once("meow"), &options).await.unwrap();
    let object = f.buckets.head(BUCKET, "cat.mp4").unwrap();
    assert_eq!(object.description, description);
    assert_eq!(object.etag, "4a4be40c96ac6314e91d93f38043a634");
}

#[tokio::test]
async fn each_change_makes_one_event_in_its_own_commit() {
    let f = Fixture::new().await;
    f.put("before anybody listens", "x").await;
    f.subscribe().await;
    f.put("a", "1").await;
    f.put("a", "22").await;
    let from = Source { bucket: BUCKET, key: "a", version: None };
    let unchanged = Replaced::default();
    f.buckets.copy(from, (BUCKET, "b"), unchanged, Condition::Always, None, |_| Ok(())).await.unwrap();
    f.buckets.delete(BUCKET, ["a", "b", "never was"], None).await.unwrap();
    assert_eq!(f.happened(), ["put a", "put a", "put b", "deleted a", "deleted b"]);
    let (_, put) = &f.events()[1];
    assert_eq!((put.bucket.as_str(), put.size), (BUCKET, 2));
    assert_eq!(put.etag.as_deref(), Some("b6d767d2f8ed5d21a44b0e5886680cb9"));
}

#[tokio::test]
async fn a_put_beside_a_new_subscription_is_delivered_or_was_before_it() {
    let f = Fixture::new().await;
    let puts = async {
        for n in 0..50 {
            f.put(&format!("{n:02}"), "x").await;
        }
    };
    tokio::join!(puts, f.subscribe());
    let happened = f.happened();
    // From the first that is delivered on, all are.
    let first = 50 - happened.len();
    let expected: Vec<_> = (first..50).map(|n| format!("put {n:02}")).collect();
    assert_eq!(happened, expected);
}

#[tokio::test]
async fn a_refused_put_changes_nothing_and_makes_no_event() {
    let f = Fixture::new().await;
    f.subscribe().await;
    let large = vec![1u8; 100_000];
    let broken = stream::iter([Ok(Bytes::from(large.clone())), Err(io::Error::other("cut"))]);
    let put = f.buckets.put(BUCKET, "a", broken, &PutOptions::default()).await;
    assert!(matches!(put, Err(BucketError::Body(_))), "{put:?}");
    let absent = PutOptions { condition: Condition::IfPresent, ..PutOptions::default() };
    let put = f.buckets.put(BUCKET, "a", once(large), &absent).await;
    assert!(matches!(put, Err(BucketError::Precondition)), "{put:?}");
    let put = f.buckets.put("elsewhere", "a", once("x"), &PutOptions::default()).await;
    assert!(matches!(put, Err(BucketError::NoSuchBucket { .. })), "{put:?}");
    assert!(f.happened().is_empty());
    assert!(matches!(f.buckets.head(BUCKET, "a"), Err(BucketError::NoSuchKey { .. })));
    assert_eq!(f.blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn of_puts_that_require_absence_one_wins() {
    let f = Fixture::new().await;
    let options = PutOptions { condition: Condition::IfAbsent, ..PutOptions::default() };
    let puts = (0..8).map(|n| f.buckets.put(BUCKET, "lock", once(vec![n; 40_000]), &options));
    let won = futures::future::join_all(puts).await.iter().filter(|put| put.is_ok()).count();
    assert_eq!(won, 1);
    assert_eq!(f.blobs.list().await.unwrap().len(), 1, "the bodies that lost are gone");
}

#[tokio::test]
async fn puts_of_one_key_at_once_leave_one_body() {
    let f = Fixture::new().await;
    f.subscribe().await;
    let options = PutOptions::default();
    let puts = (0..16u8).map(|n| f.buckets.put(BUCKET, "a", once(vec![n; 40_000]), &options));
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    let body = f.get("a").await;
    assert!(body.len() == 40_000 && body.iter().all(|b| *b == body[0]));
    f.blobs_become(1).await;
    assert_eq!(f.happened().len(), 16);
}

#[tokio::test]
async fn a_reader_reads_to_the_end_what_is_replaced_meanwhile() {
    let f = Fixture::new().await;
    let body = Bytes::from(vec![7u8; 3 << 20]);
    f.put("a", body.clone()).await;
    let found = f.buckets.get(BUCKET, "a").await.unwrap();
    f.put("a", "new").await;
    assert_eq!(f.blobs.list().await.unwrap().len(), 1, "kept for the reader");
    let read: Vec<Bytes> = found.body.try_collect().await.unwrap();
    assert!(read.concat() == body);
    // The stream ended, and with it the lease.
    f.blobs_become(0).await;
    assert_eq!(f.get("a").await, "new");
}
