//! The rows of entities. `<entity>` is `<project>/<stack>/<name>/<key>`, the key as in a form; numbers are padded, so that they
//! sort.
//!
//! | row | holds |
//! |---|---|
//! | `entity/s/<entity>` | its [`State`], if there is one |
//! | `entity/m/<entity>/<number>` | an [`Operation`] that it has not applied, or a [`Request`] that it has not handed on |
//! | `entity/c/<entity>/<number>` | an [`Operation`] of whoever had locked it then: these come first |
//! | `entity/l/<entity>` | the [`Holder`](super::locks::Holder) that has locked it |
//! | `entity/g/<function>` | nothing: its resource is deleted, and its states are to be |
//! | `entity/k/<hash>` | when a handler sent a signal by that call: it is not sent again |

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::StackId;
use tandem_store::{Batch, Direction, ReadError, Snapshot, after_prefix};

use super::{Entities, EntityKey, Operation, locks::Request};
use crate::workflow::store::{json, parse};

/// What an entity is between its batches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// As JSON; one that returned something and set no state has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<String>,
    pub(super) updated: Timestamp,
    /// How many operations made it what it is.
    pub(super) operations: u64,
}

const STATES: &str = "entity/s/";
const INBOXES: &str = "entity/m/";
const WITHIN: &str = "entity/c/";
const HOLDERS: &str = "entity/l/";
const GONE: &str = "entity/g/";
const SEEN: &str = "entity/k/";

fn row(entity: &EntityKey) -> String {
    let key: String = form_urlencoded::byte_serialize(entity.key.as_bytes()).collect();
    format!("{}/{}/{key}", entity.stack, entity.name)
}

/// The entity that a row is of, without the table.
fn read_row(row: &str) -> Option<EntityKey> {
    let mut parts = row.splitn(4, '/');
    let (project, stack, name, key) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let key = form_urlencoded::parse(key.as_bytes()).next().map_or(Cow::Borrowed(""), |(key, _)| key);
    Some(EntityKey::new(format!("{project}/{stack}").parse().ok()?, name, &key))
}

pub(super) fn state_key(entity: &EntityKey) -> Bytes {
    format!("{STATES}{}", row(entity)).into()
}

/// The rows of all states of one entity function, or of a stack.
pub(super) fn states_of(stack: &StackId, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{STATES}{stack}/{}/", name.to_lowercase()),
        None => format!("{STATES}{stack}/"),
    }
}

/// Says that a function of entities was deleted, and its states are to be.
pub(super) fn gone_key(function: &EntityKey) -> Bytes {
    format!("{GONE}{}", row(function)).into()
}

/// The functions that were deleted, and whose states may be there.
pub(super) fn gone(snapshot: &dyn Snapshot) -> Result<Vec<EntityKey>, ReadError> {
    listed(snapshot, GONE)
}

/// The entities that a table has a row of.
fn listed(snapshot: &dyn Snapshot, table: &str) -> Result<Vec<EntityKey>, ReadError> {
    let mut found = Vec::new();
    for entry in snapshot.prefix(table.as_bytes())? {
        let (key, _) = entry?;
        found.extend(std::str::from_utf8(&key).ok().and_then(|key| read_row(key.strip_prefix(table)?)));
    }
    Ok(found)
}

/// Up to `most` keys under a prefix.
pub(super) fn rows(snapshot: &dyn Snapshot, prefix: &str, most: usize) -> Result<Vec<Bytes>, ReadError> {
    snapshot.prefix(prefix.as_bytes())?.take(most).map(|entry| Ok(entry?.0)).collect()
}

fn message_prefix(table: &str, entity: &EntityKey) -> String {
    format!("{table}{}/", row(entity))
}

/// Says who has locked an entity.
pub(super) fn holder_key(entity: &EntityKey) -> Bytes {
    format!("{HOLDERS}{}", row(entity)).into()
}

/// The state, and the row that it was read from.
pub(super) fn state(
    snapshot: &dyn Snapshot,
    entity: &EntityKey,
) -> Result<Option<(State, Bytes)>, ReadError> {
    let row = snapshot.get(&state_key(entity))?;
    row.map(|row| Ok((parse(&row)?, row))).transpose()
}

/// The states under a prefix.
pub(super) fn states(snapshot: &dyn Snapshot, prefix: &str) -> Result<Vec<(EntityKey, State)>, ReadError> {
    let mut found = Vec::new();
    for entry in snapshot.prefix(prefix.as_bytes())? {
        let (key, row) = entry?;
        let entity = std::str::from_utf8(&key).ok().and_then(|key| read_row(key.strip_prefix(STATES)?));
        if let Some(entity) = entity {
            found.push((entity, parse(&row)?));
        }
    }
    Ok(found)
}

/// An operation that waits, and its row.
pub(super) type Waiting = (Bytes, Operation);

/// What waits in an inbox.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Item {
    Request(Request),
    Operation(Operation),
}

/// What an entity is to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Nothing,
    Apply(Vec<Waiting>),
    Lock(Bytes, Request),
}

/// What an entity has not done, oldest first: `most` operations at most, and about `size` bytes. Those of whoever has locked
/// it come first; while it is locked, there are no others.
pub(super) fn next(
    snapshot: &dyn Snapshot,
    entity: &EntityKey,
    locked: bool,
    most: usize,
    size: usize,
) -> Result<Next, ReadError> {
    let tables: &[&str] = if locked { &[WITHIN] } else { &[WITHIN, INBOXES] };
    let (mut found, mut bytes) = (Vec::new(), 0);
    for table in tables {
        for entry in snapshot.prefix(message_prefix(table, entity).as_bytes())?.take(most - found.len()) {
            let (key, row) = entry?;
            bytes += row.len();
            match parse(&row)? {
                Item::Request(request) if found.is_empty() => return Ok(Next::Lock(key, request)),
                Item::Operation(operation) if bytes <= size || found.is_empty() => {
                    found.push((key, operation));
                }
                // A lock is for what comes after it.
                Item::Request(_) | Item::Operation(_) => return Ok(Next::Apply(found)),
            }
        }
    }
    Ok(if found.is_empty() { Next::Nothing } else { Next::Apply(found) })
}

/// The entities that have something to do, or are locked, and the number after the last message that waits.
pub(super) fn restless(snapshot: &dyn Snapshot) -> Result<(Vec<EntityKey>, u64), ReadError> {
    let (mut found, mut next) = (Vec::new(), 0);
    for table in [WITHIN, INBOXES] {
        for entry in snapshot.prefix(table.as_bytes())? {
            let (key, _) = entry?;
            let text = std::str::from_utf8(&key).ok().and_then(|text| text.strip_prefix(table));
            let Some((row, number)) = text.and_then(|text| text.rsplit_once('/')) else { continue };
            next = next.max(number.parse().unwrap_or(0) + 1);
            if let Some(entity) = read_row(row).filter(|entity| found.last() != Some(entity)) {
                found.push(entity);
            }
        }
    }
    found.extend(listed(snapshot, HOLDERS)?);
    Ok((found, next))
}

impl Entities {
    /// Adds an operation to an entity's inbox; `within` a lock of whoever sends it, before those of all others.
    pub(in crate::workflow) fn send(
        &self,
        batch: &mut Batch,
        entity: &EntityKey,
        operation: &Operation,
        within: bool,
    ) {
        let prefix = message_prefix(if within { WITHIN } else { INBOXES }, entity);
        batch.put(format!("{prefix}{:020}", self.number()), json(operation));
    }

    /// Adds a request for a lock to an entity's inbox.
    pub(super) fn request(&self, batch: &mut Batch, entity: &EntityKey, request: &Request) {
        batch.put(format!("{}{:020}", message_prefix(INBOXES, entity), self.number()), json(request));
    }
}

/// What says that a call of a handler has sent its signal.
pub(super) fn seen_key(call: &str) -> Bytes {
    let hash = crate::archive::hash(call.as_bytes());
    format!("{SEEN}{}", &hash["sha256:".len()..][..32]).into()
}

/// Up to `most` of the calls that were seen before a time, after `cursor`; and the last that was looked at.
pub(super) fn seen_before(
    snapshot: &dyn Snapshot,
    cursor: &[u8],
    before: Timestamp,
    most: usize,
) -> Result<(Vec<Bytes>, Option<Bytes>), ReadError> {
    let mut from = cursor.to_vec();
    from.push(0);
    let from = if cursor.is_empty() { SEEN.as_bytes().to_vec() } else { from };
    let (mut old, mut last) = (Vec::new(), None);
    for entry in snapshot.range(&from, &after_prefix(SEEN.as_bytes()), Direction::Ascending)?.take(most) {
        let (key, row) = entry?;
        if parse::<Timestamp>(&row)? < before {
            old.push(key.clone());
        }
        last = Some(key);
    }
    Ok((old, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_its_entity_whatever_is_in_the_key() {
        for key in ["one", "a/b", "a@b %+é", "/", "=&"] {
            let entity = EntityKey::new("shop/dev".parse().unwrap(), "Counter", key);
            assert_eq!(read_row(&row(&entity)), Some(entity.clone()), "{key}");
            assert_eq!(row(&entity).matches('/').count(), 3, "{key}");
            assert_eq!(EntityKey::parse(&entity.stack, &entity.to_string()), Some(entity));
        }
    }
}
