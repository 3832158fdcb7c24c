//! Notifications that clients set: what functions are told, in which commit, and for how long.

use serde_json::{Value, json};
use tandem_model::{Kind, PhysicalId, Urn, event::BUCKET_NOTIFICATION, inputs::Filter};
use tandem_store::CommitError;

use super::{BUCKET, Fixture, lifecycle, wire};
use crate::{
    bucket::{
        lifecycle::{Expire, Rule},
        notification::{Notification, Notifications},
    },
    dispatch::Delivery,
};

impl Fixture {
    /// Has `photos` tell the function `resize` of these events.
    pub(super) async fn notify(&self, events: &[&str]) {
        let notification = Notification {
            id: "all".into(),
            arn: "arn:aws:lambda:local:000000000000:function:resize".into(),
            consumer: self.function("shop/dev", "resize"),
            events: events.iter().map(|event| (*event).to_owned()).collect(),
            filter: Filter::default(),
        };
        self.buckets.put_setting(BUCKET, &Notifications { all: vec![notification] }).await.unwrap();
    }

    /// What waits for functions, in the order in which it was told to each: the function, and the record.
    pub(super) fn notified(&self) -> Vec<(Urn, Value)> {
        let snapshot = self.store.snapshot().unwrap();
        let deliveries = snapshot.prefix(b"delivery/").unwrap().map(|entry| {
            let delivery: Delivery = serde_json::from_slice(&entry.unwrap().1).unwrap();
            delivery
        });
        deliveries
            .filter(|delivery| delivery.event.kind == BUCKET_NOTIFICATION)
            .map(|delivery| {
                assert_eq!(delivery.max_attempts, 3);
                assert_eq!(delivery.event.data["Records"].as_array().unwrap().len(), 1);
                (delivery.consumer, delivery.event.data["Records"][0].clone())
            })
            .collect()
    }
}

fn named(f: &Fixture, function: &str) -> Vec<String> {
    let of = |(urn, record): (Urn, Value)| {
        let key = record["s3"]["object"]["key"].as_str().unwrap().to_owned();
        (urn.name.as_str() == function).then(|| format!("{} {key}", record["eventName"].as_str().unwrap()))
    };
    f.notified().into_iter().filter_map(of).collect()
}

#[tokio::test]
async fn boto3_has_a_bucket_notify_functions_of_its_stack() {
    let mut f = wire::with_other_stack().await;
    for (stack, name) in [("shop/dev", "resize"), ("shop/dev", "index"), ("other/dev", "theirs")] {
        f.function(stack, name);
    }
    wire::run(include_str!("notifications.py"), &mut f).await;
    assert_eq!(
        named(&f, "resize"),
        [
            "ObjectCreated:Put in/red+flower%2B%C3%A9.jpg",
            "ObjectCreated:Copy in/copy",
            "ObjectCreated:CompleteMultipartUpload in/parts",
            "ObjectCreated:Post in/form",
            "ObjectCreated:Put in/v",
            "ObjectCreated:Put a",
        ]
    );
    assert_eq!(
        named(&f, "index"),
        [
            "ObjectRemoved:Delete in/red+flower%2B%C3%A9.jpg",
            "ObjectRemoved:DeleteMarkerCreated in/v",
            "ObjectRemoved:Delete in/v",
        ]
    );
}

#[tokio::test]
async fn a_function_is_told_in_the_structure_that_s3_documents() {
    let f = Fixture::new().await;
    f.notify(&["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]).await;
    f.put("a b", "hello").await;
    f.buckets
        .delete(BUCKET, ["a b"], Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        .await
        .unwrap();
    let told = f.notified();
    let (put, gone) = (&told[0].1, &told[1].1);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (time, sequencer) = (text(&put["eventTime"]), text(&put["s3"]["object"]["sequencer"]));
    assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    assert_eq!(
        *put,
        json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": time,
            "eventName": "ObjectCreated:Put",
            "userIdentity": { "principalId": "000000000000" },
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": put["responseElements"],
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "all",
                "bucket": {
                    "name": "photos",
                    "ownerIdentity": { "principalId": "000000000000" },
                    "arn": "arn:aws:s3:::photos",
                },
                "object": {
                    "key": "a+b",
                    "size": 5,
                    "eTag": "5d41402abc4b2a76b9719d911017c592",
                    "sequencer": sequencer,
                },
            },
        })
    );
    let later = text(&gone["s3"]["object"]["sequencer"]);
    assert!(later > sequencer, "{later} after {sequencer}");
    assert_eq!(gone["s3"]["object"], json!({ "key": "a+b", "sequencer": later }));
    assert_eq!(gone["responseElements"]["x-amz-request-id"], "0af7651916cd43dd8448eb211c80319c");
}

#[tokio::test]
async fn what_a_lifecycle_rule_removes_is_told_by_a_name_of_its_own() {
    let f = Fixture::new().await;
    f.notify(&["s3:ObjectRemoved:*"]).await;
    f.put("one", "x").await;
    f.rules(vec![Rule { expire: Some(Expire::Days(1)), ..lifecycle::rule() }]).await;
    f.buckets.expire(lifecycle::in_days(3)).await.unwrap();
    assert_eq!(f.notified(), [], "it was no deletion by a client");
    f.notify(&["s3:LifecycleExpiration:*"]).await;
    f.put("two", "x").await;
    f.buckets.expire(lifecycle::in_days(3)).await.unwrap();
    assert_eq!(named(&f, "resize"), ["LifecycleExpiration:Delete two"]);
    assert_eq!(f.notified()[0].1["userIdentity"]["principalId"], "s3.amazonaws.com");
}

#[tokio::test]
async fn a_change_that_was_told_to_former_notifications_cannot_commit() {
    let f = Fixture::new().await;
    let mut change = super::super::change::Change::new(f.store.snapshot().unwrap());
    assert_eq!(change.notifications(BUCKET).unwrap(), Notifications::default());
    change.put("object/photos/a".into(), "x".into());
    f.notify(&["s3:ObjectCreated:*"]).await;
    assert!(matches!(f.store.commit(change.batch).await, Err(CommitError::Conflict { .. })));
}

#[tokio::test]
async fn notifications_go_with_their_bucket_and_what_they_told_does_not() {
    let f = Fixture::new().await;
    f.notify(&["s3:ObjectCreated:*"]).await;
    f.put("a", "x").await;
    f.delete_bucket(BUCKET, true).await.unwrap();
    assert_eq!(named(&f, "resize"), ["ObjectCreated:Put a"]);
    f.create_bucket("shop/dev", BUCKET, false).await.unwrap();
    f.put("b", "x").await;
    assert_eq!(named(&f, "resize"), ["ObjectCreated:Put a"], "a bucket that is made again has none");
}

#[tokio::test]
async fn a_function_that_is_gone_is_told_still_for_its_dead_letters() {
    let f = Fixture::new().await;
    f.notify(&["s3:ObjectCreated:*"]).await;
    f.resources.remove(Kind::Function, &PhysicalId("resize".into()));
    f.put("a", "x").await;
    assert_eq!(named(&f, "resize"), ["ObjectCreated:Put a"]);
}
