use super::{BUCKET, Fixture, once};
use crate::{
    bucket::{BucketError, PutOptions, Query},
    service::Service,
};
use tandem_model::PhysicalId;

#[tokio::test]
async fn a_bucket_with_objects_is_deleted_only_by_force() {
    let f = Fixture::new().await;
    f.subscribe().await;
    f.put("small", "x").await;
    f.put("large", vec![1; 100_000]).await;
    let refused = f.delete_bucket(BUCKET, false).await.unwrap_err();
    assert_eq!(refused.code, "E0813");
    assert!(refused.message.contains("2 objects") && refused.help.contains("--force"), "{refused:?}");
    f.put("still open", "x").await;

    let holding = f.buckets.holding(&PhysicalId(BUCKET.to_owned())).await.unwrap().unwrap();
    assert_eq!((holding.items, holding.bytes, holding.unit), (3, 100_002, "object"));
    let events = f.happened().len();
    f.delete_bucket(BUCKET, true).await.unwrap();
    assert_eq!(f.happened().len(), events, "what goes with its bucket makes no event");
    assert_eq!(f.blobs.list().await.unwrap(), []);
    let snapshot = f.store.snapshot().unwrap();
    for table in ["bucket/", "object/", "body/", "upload/", "part/", "done/"] {
        assert_eq!(snapshot.prefix(table.as_bytes()).unwrap().count(), 0, "{table}");
    }
}

#[tokio::test]
async fn a_bucket_that_allows_it_is_deleted_with_its_objects() {
    let f = Fixture::new().await;
    f.create_bucket("shop/dev", "scratch", true).await.unwrap();
    f.buckets.put("scratch", "a", once("x"), &PutOptions::default()).await.unwrap();
    f.delete_bucket("scratch", false).await.unwrap();
    assert!(f.buckets.find("scratch").is_none());
}

#[tokio::test]
async fn an_empty_bucket_is_deleted_and_its_name_is_free_again() {
    let f = Fixture::new().await;
    f.put("a", "x").await;
    f.buckets.delete(BUCKET, ["a"], None).await.unwrap();
    f.delete_bucket(BUCKET, false).await.unwrap();
    let put = f.buckets.put(BUCKET, "a", once("x"), &PutOptions::default()).await;
    assert!(matches!(put, Err(BucketError::NoSuchBucket { .. })));
    f.create_bucket("shop/dev", BUCKET, false).await.unwrap();
    assert!(f.buckets.list(BUCKET, &Query { limit: 10, ..Query::default() }).unwrap().objects.is_empty());
}

#[tokio::test]
async fn puts_beside_a_forced_deletion_leave_nothing_behind() {
    let f = Fixture::new().await;
    let puts = (0..40).map(|n| {
        let f = &f;
        async move {
            let key = format!("{n}");
            f.buckets.put(BUCKET, &key, once(vec![1; 40_000]), &PutOptions::default()).await
        }
    });
    let (puts, deleted) = tokio::join!(futures::future::join_all(puts), f.delete_bucket(BUCKET, true));
    deleted.unwrap();
    for put in puts {
        assert!(matches!(put, Ok(_) | Err(BucketError::NoSuchBucket { .. })), "{put:?}");
    }
    assert_eq!(f.blobs.list().await.unwrap(), []);
    assert_eq!(f.store.snapshot().unwrap().prefix(b"object/").unwrap().count(), 0);
}

#[tokio::test]
async fn a_name_that_clients_cannot_use_is_refused() {
    let f = Fixture::new().await;
    for wrong in ["ab", "Photos", "a_b", "127.0.0.1"] {
        let refused = f.create_bucket("shop/dev", wrong, false).await;
        // A name can be wrong as a resource's already.
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, "E0814", "{wrong}");
    }
}

#[tokio::test]
async fn outputs_are_what_programs_and_clients_need() {
    let f = Fixture::new().await;
    let outputs = &f.buckets.find(BUCKET).unwrap().outputs;
    assert_eq!(outputs["id"], BUCKET);
    assert_eq!(outputs["arn"], "arn:aws:s3:::photos");
    assert_eq!(outputs["url"], format!("{}/photos", f.endpoint.url()));
}
