//! What is held in memory of one subscription's open deliveries.
//!
//! The rows are the truth, and there may be millions of them. A lane holds the oldest that are not being tried, up to a
//! bound, and knows whether there are more. It is filled again from the store when it runs short, so deliveries begin in
//! the order of enqueueing.

use std::collections::{HashSet, VecDeque};

use tandem_model::Urn;
use tandem_store::{ReadError, Snapshot};

use super::{
    Delivery,
    row::{DELIVERIES, prefix},
};

/// How many attempts of one subscription run at once. The consumer's own limits come on top.
pub(super) const LANE_WIDTH: usize = 128;
/// Deliveries that wait in memory.
const MOST_WAITING: usize = 1024;
/// The rows of those that wait in memory, in bytes. One may always wait, however large.
const MOST_BYTES: usize = 4 << 20;
/// Deliveries that a lane keeps apart by their ids: those that wait, that are tried, and that pause between attempts.
const MOST_CLAIMED: usize = 16 << 10;

/// One subscription's deliveries in memory.
#[derive(Debug, Default)]
pub(super) struct Lane {
    waiting: VecDeque<(Delivery, usize)>,
    bytes: usize,
    running: usize,
    /// The ids of all that is in memory in some way, so that none is taken up twice.
    claimed: HashSet<String>,
    /// There are rows that are not in memory.
    more: bool,
}

impl Lane {
    /// Takes up a delivery whose row has this size, or notes that there is more in the store.
    pub(super) fn push(&mut self, delivery: Delivery, size: usize) {
        if self.claimed.contains(&delivery.id) {
            return;
        }
        if self.more || !self.has_room() {
            self.more = true;
            return;
        }
        self.claimed.insert(delivery.id.clone());
        self.bytes += size;
        self.waiting.push_back((delivery, size));
    }

    fn has_room(&self) -> bool {
        self.claimed.len() < MOST_CLAIMED
            && self.waiting.len() < MOST_WAITING
            && (self.bytes < MOST_BYTES || self.waiting.is_empty())
    }

    /// One that paused is to be tried again, or is gone.
    pub(super) fn resume(&mut self, id: &str, found: Option<(Delivery, usize)>) {
        self.claimed.remove(id);
        if let Some((delivery, size)) = found {
            // Without room it is found in the store again, before younger ones.
            self.push(delivery, size);
        }
    }

    /// The next delivery to try, unless enough are tried already.
    pub(super) fn begin(&mut self) -> Option<Delivery> {
        if self.running >= LANE_WIDTH {
            return None;
        }
        let (delivery, size) = self.waiting.pop_front()?;
        self.bytes -= size;
        self.running += 1;
        Some(delivery)
    }

    /// An attempt is over. It stays claimed if there will be another one.
    pub(super) fn ended(&mut self, id: &str, again: bool) {
        self.running -= 1;
        if !again {
            self.claimed.remove(id);
        }
    }

    /// Nothing is in memory, and nothing in the store that was left there.
    pub(super) fn is_empty(&self) -> bool {
        self.claimed.is_empty() && !self.more
    }

    /// It is short of deliveries while there are more.
    pub(super) fn wants_more(&self) -> bool {
        self.more && self.waiting.len() < LANE_WIDTH && self.has_room()
    }

    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// How many are in memory in some way.
    #[cfg(test)]
    pub(super) fn claimed(&self) -> usize {
        self.claimed.len()
    }

    /// Takes up what fits of the rows, the oldest first.
    ///
    /// The snapshot must be taken while the lane cannot change: then a row in it that is not claimed has not been tried.
    ///
    /// # Errors
    /// If a row cannot be read. It is never skipped: it would be a lost event.
    pub(super) fn refill(&mut self, snapshot: &dyn Snapshot, subscription: &Urn) -> Result<(), ReadError> {
        self.more = false;
        for entry in snapshot.prefix(&prefix(DELIVERIES, subscription))? {
            let (_, value) = entry.inspect_err(|_| self.more = true)?;
            let delivery = serde_json::from_slice(&value).map_err(|error| {
                self.more = true;
                ReadError(Box::new(error))
            })?;
            self.push(delivery, value.len());
            if self.more {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use tandem_model::{Event, event::SpecVersion};

    use super::*;

    fn delivery(id: usize) -> Delivery {
        let urn: Urn = "urn:tandem:p:dev:function:f".parse().unwrap();
        Delivery {
            id: format!("{id:06}"),
            subscription: urn.clone(),
            consumer: urn,
            attempt: 0,
            max_attempts: 3,
            event: Event {
                specversion: SpecVersion::V1,
                id: id.to_string(),
                source: String::new(),
                kind: String::new(),
                subject: None,
                time: Timestamp::UNIX_EPOCH,
                traceparent: None,
                datacontenttype: String::new(),
                data: json!(null),
            },
            redriven: None,
        }
    }

    #[test]
    fn a_lane_holds_so_many_and_notes_that_there_are_more() {
        let mut lane = Lane::default();
        for id in 0..2 * MOST_WAITING {
            lane.push(delivery(id), 1);
        }
        assert_eq!((lane.claimed(), lane.has_more()), (MOST_WAITING, true));
        assert!(!lane.wants_more(), "it has enough for now");
        // Nothing newer overtakes what was left in the store.
        let first = lane.begin().unwrap();
        lane.ended(&first.id, false);
        lane.push(delivery(9_999), 1);
        assert_eq!(lane.claimed(), MOST_WAITING - 1);
    }

    #[test]
    fn large_deliveries_are_held_one_by_one() {
        let mut lane = Lane::default();
        for id in 0..3 {
            lane.push(delivery(id), 2 * MOST_BYTES);
        }
        assert_eq!((lane.claimed(), lane.has_more()), (1, true));
    }

    #[test]
    fn what_is_claimed_is_not_taken_up_again() {
        let mut lane = Lane::default();
        lane.push(delivery(1), 1);
        let one = lane.begin().unwrap();
        lane.push(one.clone(), 1);
        assert!(lane.begin().is_none());
        lane.ended(&one.id, true);
        lane.push(one.clone(), 1);
        assert!(lane.begin().is_none(), "it pauses");
        lane.resume(&one.id.clone(), Some((one, 1)));
        assert!(lane.begin().is_some());
    }
}
