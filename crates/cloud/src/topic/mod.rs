//! Topics: what is published goes to every subscription that wants it.
//!
//! A topic keeps nothing of its own. Publishing is one commit of a delivery for each subscription that matches: those rows
//! are each subscription's place in the topic, so one that fails or is slow neither slows nor loses anything of another.
//! What is published before a subscription exists, it never gets.
//!
//! | killed | a restart |
//! |---|---|
//! | before the commit | nothing was published, and nobody was told that it was |
//! | after it | the dispatcher delivers |
//!
//! Within a handler the event's id is made of the request and the call's ordinal (I4): a handler that is run again
//! publishes the same ids, and a consumer that must not do a thing twice can tell by them. Nobody else does.
//!
//! Consumers are those of every subscription, by their kind: what takes deliveries of another kind needs a
//! [`Consumer`](crate::dispatch::Consumer), and nothing here.

mod error;
mod provider;

use std::{collections::BTreeMap, fmt, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_failpoint::hit;
use tandem_model::{
    ByteSize, Event, Urn,
    event::{SpecVersion, TOPIC_MESSAGE, TopicData},
};
use tandem_store::{Batch, CommitError, Store};
use uuid::Uuid;

pub use self::error::TopicError;
use crate::{dispatch::Outbox, resource::Resources};

/// The largest message, with its attributes, as JSON: it is a row for each subscription.
const LARGEST: u64 = 256 << 10;

/// The topics of one cloud.
pub struct Topics {
    store: Arc<dyn Store>,
    outbox: Arc<Outbox>,
    resources: Arc<Resources>,
}

impl fmt::Debug for Topics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

/// What is published.
#[derive(Debug, Clone, Default)]
pub struct Publication {
    /// The same for the same message, if it may be published again; none for one that may not.
    pub id: Option<String>,
    pub message: Value,
    pub subject: Option<String>,
    pub attributes: BTreeMap<String, Value>,
    pub traceparent: Option<String>,
}

impl Topics {
    pub fn new(store: Arc<dyn Store>, outbox: Arc<Outbox>, resources: Arc<Resources>) -> Self {
        Self { store, outbox, resources }
    }

    /// Publishes a message, and answers the id of its event. When it returns, the deliveries are on disk (I1).
    ///
    /// # Errors
    /// [`TopicError`]; nothing was published.
    pub async fn publish(&self, topic: &Urn, publication: Publication) -> Result<String, TopicError> {
        let Publication { id, message, subject, attributes, traceparent } = publication;
        if let Some((name, _)) = attributes.iter().find(|(name, value)| !is_attribute(name, value)) {
            return Err(TopicError::Attribute { name: name.clone() });
        }
        let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
        let data = json!(TopicData { topic: topic.name.to_string(), message, attributes });
        let size = data.to_string().len() as u64;
        if size > LARGEST {
            return Err(TopicError::TooLarge { size: ByteSize(size), most: ByteSize(LARGEST) });
        }
        let event = Event {
            specversion: SpecVersion::V1,
            id: id.clone(),
            source: topic.to_string(),
            kind: TOPIC_MESSAGE.to_owned(),
            subject,
            time: Timestamp::now(),
            traceparent,
            datacontenttype: "application/json".to_owned(),
            data,
        };
        loop {
            if self.resources.by_urn(topic).is_none() {
                return Err(TopicError::NoTopic { name: topic.name.to_string() });
            }
            let mut batch = Batch::default();
            let enqueued = self.outbox.enqueue(&mut batch, &event);
            if enqueued.is_empty() {
                return Ok(id);
            }
            hit("topic.publish.matched");
            match self.outbox.commit(&self.store, batch, [enqueued]).await {
                Ok(()) => {
                    hit("topic.publish.committed");
                    return Ok(id);
                }
                // The subscriptions have changed meanwhile.
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Texts, numbers, booleans, and lists of them.
fn is_attribute(name: &str, value: &Value) -> bool {
    let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
    !name.is_empty() && (plain(value) || value.as_array().is_some_and(|items| items.iter().all(plain)))
}

#[cfg(test)]
mod tests;
