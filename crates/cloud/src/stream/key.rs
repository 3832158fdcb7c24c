//! The rows of streams: keys and values.
//!
//! | row | holds |
//! |---|---|
//! | `stream/<stream>` | [`OPEN`], or [`CLOSING`] while the stream is being deleted |
//! | `stream-setting/<stream>` | [`Settings`]|
//! | `stream-head/<stream>` | [`Stamp`]: another one after each put |
//! | `stream-record/<stream>/<shard><first>` | records that were put together ([`Row`](super::row::Row)); `first` is the number of the first |
//! | `stream-tail/<stream>/<shard>` | the number that comes after those of all rows that retention removed |
//! | `stream-lane/<subscription>/<stream>/<shard><lane>` | [`Lane`](super::lane::Lane): how far a subscription has come |
//!
//! Numbers in keys are big-endian, so rows are in the order of shards, and of records in them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tandem_model::Urn;
use uuid::Uuid;

use super::error::{StreamError, damaged};

pub(super) const OPEN: &[u8] = b"open";
pub(super) const CLOSING: &[u8] = b"closing";

/// What a stream is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// In milliseconds since 1970.
    pub(super) created: u64,
    /// In hours.
    pub(super) retention: u32,
    pub(super) shards: u32,
}

/// What nobody wrote before: who finds another one than it left knows that somebody else has put records meanwhile, or that
/// this is another stream of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(pub(super) Bytes);

impl Stamp {
    pub(super) fn new() -> Self {
        Self(Bytes::copy_from_slice(Uuid::new_v4().as_bytes()))
    }
}

pub(super) fn stream_row(stream: &str) -> Bytes {
    format!("stream/{stream}").into()
}

pub(super) fn settings_row(stream: &str) -> Bytes {
    format!("stream-setting/{stream}").into()
}

pub(super) fn head_row(stream: &str) -> Bytes {
    format!("stream-head/{stream}").into()
}

/// What the rows of a table begin with. A stream's name holds no `/`.
pub(super) fn table(name: &str, stream: &str) -> Bytes {
    format!("{name}/{stream}/").into()
}

pub(super) fn tail_row(stream: &str, shard: u32) -> Bytes {
    [&*table("stream-tail", stream), &shard.to_be_bytes()].concat().into()
}

/// What the rows of a shard's records begin with.
pub(super) fn records(stream: &str, shard: u32) -> Bytes {
    [&*table("stream-record", stream), &shard.to_be_bytes()].concat().into()
}

/// The row whose first record has that number.
pub(super) fn record_row(stream: &str, shard: u32, first: u64) -> Bytes {
    [&*records(stream, shard), &first.to_be_bytes()].concat().into()
}

/// The number in the key of a row of records.
pub(super) fn first_of(key: &[u8]) -> u64 {
    key.last_chunk().map_or(0, |last| u64::from_be_bytes(*last))
}

pub(super) const LANES: &[u8] = b"stream-lane/";

/// What the rows of a subscription's lanes begin with. Names hold no `/`.
pub(crate) fn lanes_of(subscription: &Urn) -> Bytes {
    format!("stream-lane/{subscription}/").into()
}

pub(super) fn lane_row(subscription: &Urn, stream: &str, shard: u32, lane: u32) -> Bytes {
    let table = format!("stream-lane/{subscription}/{stream}/");
    [table.as_bytes(), &shard.to_be_bytes(), &lane.to_be_bytes()].concat().into()
}

/// The shard in the key of a lane's row, if it is one of that stream; what the rows of all lanes begin with is [`LANES`].
pub(super) fn shard_of_lane(key: &[u8], stream: &str) -> Option<u32> {
    let (name, numbers) = key.split_last_chunk::<8>()?;
    let shard = u32::from_be_bytes(*numbers.first_chunk()?);
    name.ends_with(format!("/{stream}/").as_bytes()).then_some(shard)
}

/// The stream, the shard and the lane in the key of a lane's row.
pub(super) fn parse_lane(key: &[u8], subscription: &Urn) -> Result<(String, u32, u32), StreamError> {
    let rest = key.strip_prefix(&*lanes_of(subscription)).unwrap_or_default();
    let parts = rest.split_last_chunk::<8>().and_then(|(name, numbers)| {
        let name = std::str::from_utf8(name.strip_suffix(b"/")?).ok()?;
        let (shard, lane) = numbers.split_first_chunk::<4>()?;
        Some((name.to_owned(), u32::from_be_bytes(*shard), u32::from_be_bytes(lane.try_into().ok()?)))
    });
    parts.ok_or_else(|| damaged(format!("`{}` is no key of a lane", key.escape_ascii())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_shard_are_in_the_order_of_their_records_and_apart_from_others() {
        assert!(record_row("s", 0, 255) < record_row("s", 0, 256));
        assert!(record_row("s", 0, u64::MAX) < record_row("s", 1, 0));
        assert!(!record_row("s-2", 0, 1).starts_with(&table("stream-record", "s")));
        assert_eq!(first_of(&record_row("s", 7, 300)), 300);
    }

    #[test]
    fn the_key_of_a_lane_tells_what_it_is_of_though_its_numbers_look_like_slashes() {
        let urn: Urn = "urn:tandem:shop:dev:subscription:s".parse().unwrap();
        let slashes = u32::from_be_bytes(*b"////");
        let key = lane_row(&urn, "posts-1", slashes, slashes);
        assert_eq!(parse_lane(&key, &urn).unwrap(), ("posts-1".to_owned(), slashes, slashes));
        assert_eq!(shard_of_lane(&key, "posts-1"), Some(slashes));
        assert_eq!(shard_of_lane(&key, "1"), None);
        assert!(key.starts_with(LANES));
    }
}
