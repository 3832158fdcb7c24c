//! The rows of queues: keys and values.
//!
//! | row | holds |
//! |---|---|
//! | `queue/<queue>` | [`OPEN`], or [`CLOSING`] while the queue is being deleted |
//! | `queue-setting/<queue>` | [`Settings`](super::settings::Settings) |
//! | `message/<queue>/<key>` | [`Message`](super::message::Message): one that was sent and not deleted |
//! | `lease/<queue>/<key>` | [`Lease`]: how often that message was received, and until when it is hidden |
//! | `deduplication/<queue>/<hash>` | [`Known`](super::deduplication::Known): what a FIFO queue remembers of a message for five minutes |
//! | `move/<queue>/<task>` | [`Move`](super::moves::Move): messages on their way to another queue |
//!
//! The key of a message in a standard queue is the time from which it can be received and a number that tells apart those
//! of one millisecond: the rows are in the order in which they become due. In a FIFO queue it is its group, a NUL, and its
//! sequence number: the rows of a group are together and in their order. A group's id holds no NUL.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(super) const OPEN: &[u8] = b"open";
pub(super) const CLOSING: &[u8] = b"closing";

/// Where a message is among those of its queue. Ordered as its row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(pub(super) Bytes);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl Key {
    /// Of a standard queue: can be received from `due` on, in milliseconds.
    pub(super) fn standard(due: u64, number: u64) -> Self {
        Self([due.to_be_bytes(), number.to_be_bytes()].concat().into())
    }

    /// Of a FIFO queue.
    pub(super) fn fifo(group: &str, number: u64) -> Self {
        Self([group.as_bytes(), &[0], &number.to_be_bytes()].concat().into())
    }

    /// The number that [`standard`](Self::standard) or [`fifo`](Self::fifo) was given.
    pub(super) fn number(&self) -> u64 {
        tail(&self.0)
    }

    /// From when on a message of a standard queue can be received.
    pub(super) fn due(&self) -> u64 {
        tail(&self.0[..self.0.len().min(8)])
    }

    /// The group of a message of a FIFO queue.
    pub(super) fn group(&self) -> Bytes {
        self.0.slice(..self.0.len().saturating_sub(9))
    }
}

fn tail(bytes: &[u8]) -> u64 {
    bytes.last_chunk().map_or(0, |last| u64::from_be_bytes(*last))
}

/// What is known of a message that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Lease {
    /// How often it was received.
    #[serde(rename = "n")]
    pub(super) receives: u32,
    /// When first, in milliseconds.
    #[serde(rename = "f")]
    pub(super) first: u64,
    /// When last.
    #[serde(rename = "r")]
    pub(super) last: u64,
    /// Until when it is hidden.
    #[serde(rename = "u")]
    pub(super) until: u64,
    /// What the receipt of the last time holds.
    #[serde(rename = "s")]
    pub(super) secret: u64,
    /// A subscription has it: whoever handles it ends with the cloud.
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) own: bool,
}

pub(super) fn queue_row(queue: &str) -> Bytes {
    format!("queue/{queue}").into()
}

pub(super) fn settings_row(queue: &str) -> Bytes {
    format!("queue-setting/{queue}").into()
}

/// The tables of a queue's messages, beside its own rows.
pub(super) const TABLES: [&str; 4] = ["message", "lease", "deduplication", "move"];

/// What the rows of a table begin with. A queue's name holds no `/`.
pub(super) fn table(name: &str, queue: &str) -> Bytes {
    format!("{name}/{queue}/").into()
}

pub(super) fn message_row(queue: &str, key: &Key) -> Bytes {
    [&*table("message", queue), &key.0].concat().into()
}

pub(super) fn lease_row(queue: &str, key: &Key) -> Bytes {
    [&*table("lease", queue), &key.0].concat().into()
}

/// The key in the row of a table.
pub(super) fn key_of(row: &Bytes, table: &[u8]) -> Key {
    Key(row.slice(table.len()..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_standard_queue_are_in_the_order_in_which_messages_become_due() {
        let (early, late) = (Key::standard(5, 9), Key::standard(6, 1));
        assert!(message_row("q", &early) < message_row("q", &late));
        assert_eq!((early.due(), early.number()), (5, 9));
    }

    #[test]
    fn rows_of_a_group_are_together_though_another_begins_like_it() {
        let mut keys = [Key::fifo("ab", 1), Key::fifo("a", 2), Key::fifo("a", 300), Key::fifo("a!", 1)];
        keys.sort();
        let groups: Vec<_> = keys.iter().map(|key| (key.group(), key.number())).collect();
        let expected = [("a", 2), ("a", 300), ("a!", 1), ("ab", 1)];
        assert_eq!(groups, expected.map(|(group, number)| (Bytes::from(group), number)));
    }

    #[test]
    fn tables_of_one_queue_hold_nothing_of_another() {
        assert!(!message_row("orders-2", &Key::standard(1, 1)).starts_with(&table("message", "orders")));
    }
}
