//! What a function is told: an event message in S3's structure, version 2.1.
//!
//! Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>.

use serde_json::{Map, Value, json};
use tandem_model::{Event, event::ObjectData};

use super::Notification;
use crate::{
    bucket::announce::Happening,
    endpoint::{Endpoint, OWNER, REGION},
};

/// Who acts when nobody asks, as S3 has it.
const ITSELF: &str = "s3.amazonaws.com";

/// The message of one change to one notification. `event` is what subscriptions are told of the same change.
pub(in crate::bucket) fn record(
    notification: &Notification,
    what: Happening,
    event: &Event,
    data: &ObjectData,
    endpoint: Endpoint,
) -> Value {
    // Clients reach the cloud at one address of this machine, so that is where they are.
    let (principal, address) = match what {
        Happening::Removed { expired: true, .. } => (ITSELF.to_owned(), ITSELF.to_owned()),
        _ => (OWNER.to_owned(), endpoint.address().ip().to_string()),
    };
    let trace = event.traceparent.as_deref().and_then(|parent| parent.split('-').nth(1)).unwrap_or_default();
    json!({ "Records": [{
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": data.event_time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        "eventName": what.name(),
        "userIdentity": { "principalId": principal },
        "requestParameters": { "sourceIPAddress": address },
        // Both find the change again: the first in the logs of all that it caused.
        "responseElements": { "x-amz-request-id": trace, "x-amz-id-2": event.id },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": notification.id,
            "bucket": {
                "name": data.bucket,
                "ownerIdentity": { "principalId": OWNER },
                "arn": format!("arn:aws:s3:::{}", data.bucket),
            },
            "object": object(what, event, data),
        },
    }] })
}

fn object(what: Happening, event: &Event, data: &ObjectData) -> Value {
    let mut object = Map::new();
    object.insert("key".to_owned(), form_encode(&data.key).into());
    if let Happening::Written(_) = what {
        object.insert("size".to_owned(), data.size.into());
        object.insert("eTag".to_owned(), data.etag.clone().into());
    }
    if let Some(version) = &data.version_id {
        object.insert("versionId".to_owned(), version.clone().into());
    }
    // A UUID of version 7 begins with the time and goes on by counting, so those of one key are in the order of its changes.
    object.insert("sequencer".to_owned(), event.id.replace('-', "").to_uppercase().into());
    object.into()
}

/// As forms are encoded, `/` excepted: handlers decode the key by `unquote_plus` and the like.
fn form_encode(key: &str) -> String {
    let mut encoded = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}
