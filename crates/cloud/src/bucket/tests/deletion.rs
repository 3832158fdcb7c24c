use super::{BUCKET, Fixture, once};
use crate::{
    bucket::{BucketError, PutOptions, Query, cors::Cors, is_made},
    provider::Provider,
};
use serde_json::{Value, json};
use tandem_model::{PhysicalId, Urn, plan::Change, resource::Properties};

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
async fn a_program_cannot_declare_the_names_of_buckets_that_clients_make() {
    let f = Fixture::new().await;
    let urn = "urn:tandem:shop:dev:bucket:s3.photos".parse().unwrap();
    let refused = f.apply(&Change::Create { urn, inputs: Properties::new() }).await.unwrap_err();
    assert_eq!(refused.code, "E0814");
}

#[tokio::test]
async fn a_bucket_that_a_client_made_has_events_and_is_deleted_as_any_other() {
    let f = Fixture::new().await;
    f.make_bucket("shop/dev", "mine").await.unwrap();
    let found = f.buckets.find("mine").unwrap();
    assert!(is_made(&found.urn) && !is_made(&f.buckets.find(BUCKET).unwrap().urn));
    f.buckets.put("mine", "a", once("x"), &PutOptions::default()).await.unwrap();
    assert_eq!(f.delete_bucket("mine", false).await.unwrap_err().code, "E0813");
    f.delete_bucket("mine", true).await.unwrap();
    assert_eq!(f.store.snapshot().unwrap().prefix(b"op/").unwrap().count(), 2, "made by no operation");
}

#[tokio::test]
async fn cors_rules_come_and_go_with_the_program_that_declares_them() {
    let f = Fixture::new().await;
    let urn: Urn = "urn:tandem:shop:dev:bucket:photos".parse().unwrap();
    let update = |old: Value, new: Value| Change::Update {
        urn: urn.clone(),
        id: PhysicalId(BUCKET.to_owned()),
        old: old.as_object().unwrap().clone(),
        new: new.as_object().unwrap().clone(),
    };
    let plain = json!({ "bucketName": BUCKET });
    let open =
        json!({ "bucketName": BUCKET, "cors": [{ "allowedOrigins": ["*"], "allowedMethods": ["GET"] }] });
    f.apply(&update(plain.clone(), open.clone())).await.unwrap();
    assert_eq!(f.buckets.setting::<Cors>(BUCKET).unwrap().unwrap().rules[0].allowed_methods, ["GET"]);
    f.apply(&update(open, plain.clone())).await.unwrap();
    assert_eq!(f.buckets.setting::<Cors>(BUCKET).unwrap(), None);

    let wrong =
        json!({ "bucketName": BUCKET, "cors": [{ "allowedOrigins": ["*"], "allowedMethods": ["GRAB"] }] });
    let refused = f.apply(&update(plain, wrong)).await.unwrap_err();
    assert_eq!(refused.code, "E0816");
    assert!(refused.message.contains("GRAB"), "{refused:?}");
}

#[tokio::test]
async fn outputs_are_what_programs_and_clients_need() {
    let f = Fixture::new().await;
    let outputs = &f.buckets.find(BUCKET).unwrap().outputs;
    assert_eq!(outputs["id"], BUCKET);
    assert_eq!(outputs["arn"], "arn:aws:s3:::photos");
    assert_eq!(outputs["url"], format!("{}/photos", f.endpoint.url()));
}
