//! Notifications: which functions and queues a client has the bucket tell, by `PutBucketNotificationConfiguration`.
//!
//! They are a setting of the bucket, and so data like its objects: no program declares them, and they go with the bucket.
//! A change of an object reads them and adds a delivery for each that asks for it to its own commit, which then holds only
//! while they are what was read (I2). What was told stays told: a notification that is taken back, or whose bucket is
//! deleted, is delivered still. A function or queue that is gone fails its deliveries, which end in the dead letters.
//!
//! What may be set is judged in [`rules`], what they are told is in [`record`](self::record).

mod record;
mod rules;

use serde::{Deserialize, Serialize};
use tandem_model::{Urn, inputs::Filter};

use super::{
    announce::Happening,
    change::Change,
    error::BucketError,
    settings::{Setting, setting_row},
    store::decode,
};

pub(super) use record::record;
pub(super) use rules::{fault, is_of_s3};

/// All notifications of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notifications {
    pub(super) all: Vec<Notification>,
}

impl Setting for Notifications {
    const NAME: &'static str = "notifications";
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notification {
    /// Unique among those of a bucket.
    pub(super) id: String,
    /// The function or queue, as the client named it.
    pub(super) arn: String,
    #[serde(alias = "function")]
    pub(super) consumer: Urn,
    /// As the client wrote them: `s3:ObjectCreated:Put`, `s3:ObjectRemoved:*`.
    pub(super) events: Vec<String>,
    pub(super) filter: Filter,
}

/// Whether `s3:ObjectCreated:*` selects `ObjectCreated:Put`.
fn selects(event: &str, name: &str) -> bool {
    event.strip_prefix("s3:").is_some_and(|event| match event.strip_suffix('*') {
        Some(family) => name.starts_with(family),
        None => event == name,
    })
}

impl Notifications {
    /// Those that ask for what happened.
    pub(super) fn of<'a>(&'a self, what: Happening, key: &'a str) -> impl Iterator<Item = &'a Notification> {
        let asks = move |n: &&Notification| n.events.iter().any(|event| selects(event, what.name()));
        self.all.iter().filter(asks).filter(move |notification| notification.filter.admits(key))
    }
}

impl Change {
    /// The bucket's notifications, which must still be these when the change commits.
    pub(super) fn notifications(&mut self, bucket: &str) -> Result<Notifications, BucketError> {
        let row = self.get(setting_row::<Notifications>(bucket))?;
        Ok(row.as_deref().map(decode).transpose()?.unwrap_or_default())
    }
}
