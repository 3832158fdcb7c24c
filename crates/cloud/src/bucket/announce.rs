//! What is told of a change: its event to the subscriptions of programs, and a record in S3's form to the functions that a
//! client's notifications name. Both are deliveries in the commit that makes the change (I2).

use serde_json::json;
use tandem_model::{
    Event, Urn,
    event::{BUCKET_NOTIFICATION, OBJECT_DELETED, OBJECT_PUT, ObjectData, SpecVersion},
};
use tandem_store::Batch;
use uuid::Uuid;

use super::{
    Buckets,
    notification::{Notifications, record},
    put::Means,
};
use crate::{cause, dispatch::Enqueued};

/// How often a notification is tried: as often as a subscription, unless its program says otherwise.
const ATTEMPTS: u32 = 3;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Written(Means),
    Removed { expired: bool, marker: bool },
}

impl Happening {
    /// What S3 calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Written(Means::Put) => "ObjectCreated:Put",
            Self::Written(Means::Post) => "ObjectCreated:Post",
            Self::Written(Means::Copy) => "ObjectCreated:Copy",
            Self::Written(Means::Completion) => "ObjectCreated:CompleteMultipartUpload",
            Self::Removed { expired: false, marker: false } => "ObjectRemoved:Delete",
            Self::Removed { expired: false, marker: true } => "ObjectRemoved:DeleteMarkerCreated",
            Self::Removed { expired: true, marker: false } => "LifecycleExpiration:Delete",
            Self::Removed { expired: true, marker: true } => "LifecycleExpiration:DeleteMarkerCreated",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Written(_) => OBJECT_PUT,
            Self::Removed { .. } => OBJECT_DELETED,
        }
    }
}

/// A change of one object.
pub(super) struct Happened<'a> {
    pub(super) source: &'a Urn,
    pub(super) traceparent: &'a str,
    pub(super) what: Happening,
    pub(super) data: ObjectData,
}

impl Buckets {
    /// Adds to the batch of a change everything that is told of it. Call it after what the change depends on was read: the
    /// ids of a key's events then are in the order of its changes.
    pub(super) fn announce(
        &self,
        batch: &mut Batch,
        notifications: &Notifications,
        happened: Happened<'_>,
    ) -> Vec<Enqueued> {
        let Happened { source, traceparent, what, data } = happened;
        let event = Event {
            specversion: SpecVersion::V1,
            id: Uuid::now_v7().to_string(),
            source: source.to_string(),
            kind: what.kind().to_owned(),
            subject: Some(data.key.clone()),
            time: data.event_time,
            traceparent: Some(traceparent.to_owned()),
            datacontenttype: "application/json".to_owned(),
            data: json!(data),
        };
        let mut enqueued = vec![self.outbox.enqueue(batch, &event)];
        for notification in notifications.of(what, &data.key) {
            let told = Event {
                id: Uuid::now_v7().to_string(),
                kind: BUCKET_NOTIFICATION.to_owned(),
                data: record(notification, what, &event, &data, self.endpoint),
                ..event.clone()
            };
            enqueued.push(self.outbox.enqueue_to(batch, &notification.consumer, told, ATTEMPTS));
        }
        enqueued
    }
}

/// The trace context of a change: the one given if it is one, else that of a new trace.
///
/// Source: W3C Trace Context, section 3.2.
pub(super) fn traceparent(given: Option<&str>) -> String {
    given.filter(|given| cause::is_valid(given)).map_or_else(
        || {
            let (trace, parent) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128() as u64);
            format!("00-{trace:032x}-{parent:016x}-01")
        },
        str::to_owned,
    )
}
