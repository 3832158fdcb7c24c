//! Lifecycle rules, with a clock of the test's own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::{BUCKET, Fixture, once};
use crate::bucket::{
    Algorithm, Claims, Expired, Query, Upload, UploadQuery, VersionQuery, Versioning,
    lifecycle::{Expire, Filter, Lifecycle, Noncurrent, Rule, run},
};

pub(super) fn rule() -> Rule {
    Rule {
        id: "rule".into(),
        enabled: true,
        filter: Filter::default(),
        expire: None,
        noncurrent: None,
        abort: None,
    }
}

pub(super) fn in_days(days: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_hours(24 * days)
}

impl Fixture {
    pub(super) async fn rules(&self, rules: Vec<Rule>) {
        self.buckets.put_setting(BUCKET, &Lifecycle { rules }).await.unwrap();
    }

    fn keys(&self) -> Vec<String> {
        let page = self.buckets.list(BUCKET, &Query { limit: 1000, ..Query::default() }).unwrap();
        page.objects.into_iter().map(|(key, _)| key).collect()
    }

    fn version_count(&self) -> usize {
        let query = VersionQuery { limit: 1000, ..VersionQuery::default() };
        self.buckets.list_versions(BUCKET, &query).unwrap().versions.len()
    }
}

#[tokio::test]
async fn objects_go_when_they_are_old_enough_each_with_its_event() {
    let f = Fixture::new().await;
    f.subscribe().await;
    for n in 0..30 {
        f.put(&format!("old/{n:02}"), "x").await;
    }
    f.put("large", vec![1; 100_000]).await;
    f.put("kept", "x").await;
    let filter = |prefix: &str| Filter { prefix: Some(prefix.into()), ..Filter::default() };
    f.rules(vec![
        Rule { id: "old".into(), expire: Some(Expire::Days(3)), filter: filter("old/"), ..rule() },
        Rule { id: "large".into(), expire: Some(Expire::Days(3)), filter: filter("large"), ..rule() },
    ])
    .await;
    assert_eq!(f.buckets.expire(in_days(2)).await.unwrap(), Expired::default(), "not yet");
    let expired = f.buckets.expire(in_days(4)).await.unwrap();
    assert_eq!(expired, Expired { objects: 31, ..Expired::default() });
    assert_eq!(f.keys(), ["kept"]);
    assert_eq!(f.happened().iter().filter(|h| h.starts_with("deleted ")).count(), 31);
    assert_eq!(f.blobs.list().await.unwrap(), []);
    assert_eq!(f.buckets.expire(in_days(4)).await.unwrap(), Expired::default());
}

#[tokio::test]
async fn uploads_that_nobody_completed_are_aborted_with_their_parts() {
    let f = Fixture::new().await;
    let upload = Upload {
        begun: Timestamp::now(),
        algorithm: Algorithm::Crc64Nvme,
        composite: false,
        chosen: false,
        description: Default::default(),
        tags: Default::default(),
    };
    let id = f.buckets.begin_upload(BUCKET, "film", &upload).await.unwrap();
    let claims = || Ok(Claims::default());
    let at = (BUCKET, "film", &*id);
    f.buckets.put_part(at, 1, once(vec![3; 100_000]), &[Algorithm::Crc64Nvme], claims).await.unwrap();
    f.rules(vec![Rule { abort: Some(7), ..rule() }]).await;
    assert_eq!(f.buckets.expire(in_days(6)).await.unwrap(), Expired::default());
    assert_eq!(f.buckets.expire(in_days(8)).await.unwrap(), Expired { uploads: 1, ..Expired::default() });
    let query = UploadQuery { limit: 10, ..UploadQuery::default() };
    assert!(f.buckets.list_uploads(BUCKET, &query).unwrap().uploads.is_empty());
    assert_eq!(f.blobs.list().await.unwrap(), []);
}

#[tokio::test]
async fn of_a_versioned_object_a_marker_is_made_then_its_versions_go_then_the_marker() {
    let f = Fixture::new().await;
    f.buckets.put_setting(BUCKET, &Versioning::Enabled).await.unwrap();
    for body in ["1", "2", "3"] {
        f.put("a", body).await;
    }
    f.rules(vec![Rule { expire: Some(Expire::Days(1)), ..rule() }]).await;
    assert_eq!(f.buckets.expire(in_days(3)).await.unwrap(), Expired { objects: 1, ..Expired::default() });
    assert_eq!((f.keys().len(), f.version_count()), (0, 4), "all versions are there, behind a marker");
    // The marker is younger than the clock says, and not alone.
    assert_eq!(f.buckets.expire(in_days(3)).await.unwrap(), Expired::default());

    f.rules(vec![Rule {
        expire: Some(Expire::Markers),
        noncurrent: Some(Noncurrent { days: 1, keep: 1 }),
        ..rule()
    }])
    .await;
    assert_eq!(f.buckets.expire(in_days(3)).await.unwrap(), Expired { versions: 2, ..Expired::default() });
    assert_eq!(f.version_count(), 2, "the newest of them is kept");
    f.rules(vec![Rule {
        expire: Some(Expire::Markers),
        noncurrent: Some(Noncurrent { days: 1, keep: 0 }),
        ..rule()
    }])
    .await;
    f.buckets.expire(in_days(3)).await.unwrap();
    f.buckets.expire(in_days(3)).await.unwrap();
    assert_eq!(f.version_count(), 0);
    assert_eq!(f.store.snapshot().unwrap().prefix(b"version-body/").unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_current_again_is_not_deleted_as_a_version_that_was_replaced() {
    use crate::bucket::{Deletion, Only};
    let f = Fixture::new().await;
    f.buckets.put_setting(BUCKET, &Versioning::Enabled).await.unwrap();
    f.put("a", "1").await;
    let page = f.buckets.list_versions(BUCKET, &VersionQuery { limit: 10, ..VersionQuery::default() });
    let id = page.unwrap().versions[0].version.version_id();
    let deletion = Deletion { only: Only::Replaced, ..Deletion::of_version("a", id) };
    let done = f.buckets.delete_each(BUCKET, &[deletion], None).await.unwrap();
    assert!(done[0].is_err());
    assert_eq!(f.get("a").await, "1");
}

#[tokio::test]
async fn an_object_that_was_written_again_meanwhile_stays() {
    use crate::bucket::{Condition, Deletion};
    let f = Fixture::new().await;
    f.put("a", "same").await;
    let judged = f.buckets.head(BUCKET, "a").unwrap();
    f.put("a", "same").await;
    let condition = Condition::IfUnchanged { etag: judged.etag, modified: judged.modified };
    let deletion = Deletion { condition, ..Deletion::of("a") };
    assert!(f.buckets.delete_each(BUCKET, &[deletion], None).await.unwrap()[0].is_err());
    assert_eq!(f.get("a").await, "same");
}

#[tokio::test]
async fn the_sweep_looks_every_hour_by_the_clock_that_it_is_given() {
    let f = Fixture::new().await;
    f.put("a", "x").await;
    f.rules(vec![Rule { expire: Some(Expire::Days(1)), ..rule() }]).await;
    let clock = Arc::new(AtomicI64::new(Timestamp::now().as_second()));
    let (slept, mut sleeps) = mpsc::unbounded_channel::<(Duration, tokio::sync::oneshot::Sender<()>)>();
    let now = {
        let clock = clock.clone();
        move || Timestamp::from_second(clock.load(Ordering::SeqCst)).unwrap()
    };
    let sleep = move |duration| {
        let (wake, woken) = tokio::sync::oneshot::channel();
        slept.send((duration, wake)).unwrap();
        async move { woken.await.unwrap() }
    };
    let sweeping = tokio::spawn(run(Arc::downgrade(&f.buckets), now, sleep));
    let mut hours = 0;
    loop {
        // It sleeps when a sweep is done.
        let (duration, wake) = sleeps.recv().await.unwrap();
        if f.keys().is_empty() {
            break;
        }
        hours += duration.as_secs() / 3600;
        assert!(hours <= 49, "it is gone at the second midnight at the latest");
        clock.fetch_add(duration.as_secs().try_into().unwrap(), Ordering::SeqCst);
        wake.send(()).unwrap();
    }
    assert!(hours >= 24);
    sweeping.abort();
}
