//! Something that happened, as a CloudEvents 1.0 envelope in its JSON format.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The type of an event of a bucket: an object was written.
pub const OBJECT_PUT: &str = "dev.tandem.bucket.object.put";
/// The type of an event of a bucket: an object was removed.
pub const OBJECT_DELETED: &str = "dev.tandem.bucket.object.deleted";

/// The type of an event in which what a client's notification tells a function waits; its `data` is the payload, in S3's
/// form.
pub const BUCKET_NOTIFICATION: &str = "dev.tandem.bucket.notification";

/// The type of an event in which an asynchronous invocation waits; its `data` is the payload.
pub const FUNCTION_INVOKED: &str = "dev.tandem.function.invoked";

/// The type of an event of a timer: a time has come.
pub const TIMER_TICK: &str = "dev.tandem.timer.tick";

/// The type of an event of a topic: a message was published.
pub const TOPIC_MESSAGE: &str = "dev.tandem.topic.message";

/// The type of an event in which messages of a queue are handed to a consumer.
pub const QUEUE_MESSAGES: &str = "dev.tandem.queue.messages";

/// The type of an event in which records of a stream are handed to a consumer.
pub const STREAM_RECORDS: &str = "dev.tandem.stream.records";

/// A CloudEvents 1.0 event (<https://github.com/cloudevents/spec>), with the distributed tracing extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub specversion: SpecVersion,
    /// Unique within `source`.
    pub id: String,
    /// The urn of the resource it happened to.
    pub source: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// What it happened to inside the source: an object's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub time: Timestamp,
    /// W3C trace context of the cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    pub datacontenttype: String,
    pub data: Value,
}

/// The one version of CloudEvents that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SpecVersion {
    #[default]
    #[serde(rename = "1.0")]
    V1,
}

/// The `data` of [`OBJECT_PUT`] and [`OBJECT_DELETED`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectData {
    pub bucket: String,
    pub key: String,
    /// In bytes; 0 for a deletion.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    pub event_time: Timestamp,
    /// The version that was written, that is gone, or of the delete marker that was made; absent if the bucket was never
    /// versioned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// The object was deleted by making a delete marker its current version: its versions are still there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delete_marker: bool,
}

/// The `data` of [`TIMER_TICK`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TickData {
    /// The timer's name in its program.
    pub timer: String,
    /// The time that has come. Of several that were missed, the last.
    pub scheduled_time: Timestamp,
    /// That of the tick before; absent of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_time: Option<Timestamp>,
}

/// The `data` of [`TOPIC_MESSAGE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicData {
    /// The topic's name in its program.
    pub topic: String,
    pub message: Value,
    /// Texts, numbers, booleans, and lists of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
}
