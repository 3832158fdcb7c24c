//! The rows of deliveries and dead letters: keys and values.
//!
//! `delivery/<subscription>/<id>` holds a [`Delivery`] whose `attempt` is the number of the last attempt begun.
//! `dead/<subscription>/<id>` holds a [`DeadLetter`]. Ids are UUIDv7, so a prefix scan gives the order of enqueueing.

use bytes::Bytes;
use jiff::Timestamp;
#[cfg(test)]
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tandem_model::{Report, StackId, Urn};
use tandem_store::{Batch, Direction, ReadError, Snapshot, after_prefix};

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

/// Adds to the batch the dead letter of what is no delivery of the dispatcher's: a record of a stream.
pub(crate) fn bury(batch: &mut Batch, letter: &DeadLetter) {
    batch.put(dead_key(&letter.delivery), encode(letter));
}

/// The prefix of all rows of one subscription. Names hold no `/`, so it is no prefix of another's.
pub(super) fn prefix(table: &str, subscription: &Urn) -> Bytes {
    format!("{table}{subscription}/").into()
}

pub(super) fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("rows are structs with string keys").into()
}

/// Reads all rows under a prefix. A row that cannot be read is an error, never skipped: it would be a lost event.
#[cfg(test)]
pub(super) fn scan<T: DeserializeOwned>(snapshot: &dyn Snapshot, prefix: &[u8]) -> Result<Vec<T>, ReadError> {
    snapshot
        .prefix(prefix)?
        .map(|entry| {
            let (_, value) = entry?;
            serde_json::from_slice(&value).map_err(|e| ReadError(Box::new(e)))
        })
        .collect()
}

/// The subscription and the id that a row's key is made of.
pub(super) fn parse_key(table: &str, key: &[u8]) -> Result<(Urn, String), ReadError> {
    let parts = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(table)?.rsplit_once('/'));
    match parts.and_then(|(urn, id)| Some((urn.parse().ok()?, id.to_owned()))) {
        Some(parts) => Ok(parts),
        None => Err(ReadError(format!("`{}` is no key of a delivery", key.escape_ascii()).into())),
    }
}

/// The subscriptions that have rows in a table, of one stack or of all. Looks at one row of each, so however many there
/// are costs nothing.
pub(super) fn subscriptions_with_rows(
    snapshot: &dyn Snapshot,
    table: &str,
    stack: Option<&StackId>,
) -> Result<Vec<Urn>, ReadError> {
    let mut from = of_stack(table, stack).into_bytes();
    let end = after_prefix(&from);
    let mut found = Vec::new();
    while let Some(row) = snapshot.range(&from, &end, Direction::Ascending)?.next() {
        let (subscription, _) = parse_key(table, &row?.0)?;
        from = after_prefix(&prefix(table, &subscription));
        found.push(subscription);
    }
    Ok(found)
}

/// The prefix of all rows of one stack, or of all.
pub(super) fn of_stack(table: &str, stack: Option<&StackId>) -> String {
    match stack {
        Some(StackId { project, stack }) => format!("{table}urn:tandem:{project}:{stack}:"),
        None => table.to_owned(),
    }
}

/// How many rows of a table a subscription has.
pub(super) fn count(snapshot: &dyn Snapshot, table: &str, subscription: &Urn) -> Result<usize, ReadError> {
    snapshot.prefix(&prefix(table, subscription))?.try_fold(0, |count, row| row.map(|_| count + 1))
}
