//! The rows of deliveries and dead letters: keys and values.
//!
//! `delivery/<subscription>/<id>` holds a [`Delivery`] whose `attempt` is the number of the last attempt begun.
//! `dead/<subscription>/<id>` holds a [`DeadLetter`]. Ids are UUIDv7, so a prefix scan gives the order of enqueueing.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tandem_model::{Report, Urn};
use tandem_store::{Direction, ReadError, Snapshot, after_prefix};

use super::Delivery;

/// An event that was given up, with the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    pub delivery: Delivery,
    pub time: Timestamp,
    pub error: Report,
    /// The last lines that the handler printed.
    pub log_tail: Vec<String>,
}

pub(super) const DELIVERIES: &str = "delivery/";
pub(super) const DEAD: &str = "dead/";

pub(super) fn delivery_key(delivery: &Delivery) -> Bytes {
    format!("{DELIVERIES}{}/{}", delivery.subscription, delivery.id).into()
}

pub(super) fn dead_key(delivery: &Delivery) -> Bytes {
    format!("{DEAD}{}/{}", delivery.subscription, delivery.id).into()
}

/// The prefix of all rows of one subscription. Names hold no `/`, so it is no prefix of another's.
pub(super) fn prefix(table: &str, subscription: &Urn) -> Bytes {
    format!("{table}{subscription}/").into()
}

pub(super) fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("rows are structs with string keys").into()
}

/// Reads all rows under a prefix. A row that cannot be read is an error, never skipped: it would be a lost event.
pub(super) fn scan<T: DeserializeOwned>(snapshot: &dyn Snapshot, prefix: &[u8]) -> Result<Vec<T>, ReadError> {
    snapshot
        .prefix(prefix)?
        .map(|entry| {
            let (_, value) = entry?;
            serde_json::from_slice(&value).map_err(|e| ReadError(Box::new(e)))
        })
        .collect()
}

/// The subscriptions that have open deliveries. Looks at one row of each, so however many there are costs nothing.
pub(super) fn subscriptions_with_rows(snapshot: &dyn Snapshot) -> Result<Vec<Urn>, ReadError> {
    let end = after_prefix(DELIVERIES.as_bytes());
    let mut from = DELIVERIES.as_bytes().to_vec();
    let mut found = Vec::new();
    while let Some(row) = snapshot.range(&from, &end, Direction::Ascending)?.next() {
        let delivery: Delivery = serde_json::from_slice(&row?.1).map_err(|e| ReadError(Box::new(e)))?;
        from = after_prefix(&prefix(DELIVERIES, &delivery.subscription));
        found.push(delivery.subscription);
    }
    Ok(found)
}

/// How many open deliveries a subscription has.
pub(super) fn count(snapshot: &dyn Snapshot, subscription: &Urn) -> Result<usize, ReadError> {
    snapshot.prefix(&prefix(DELIVERIES, subscription))?.try_fold(0, |count, row| row.map(|_| count + 1))
}
