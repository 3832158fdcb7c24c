//! The life of a lane: how far a subscription has come in its part of a shard, as a pure function of what happened.
//!
//! Waiting -Begin-> Handing; Handing -Succeed-> Waiting after the batch; Handing -Fail-> Waiting before a smaller batch, or
//! before the same record again while it has attempts, else after it, and the record is dead.
//!
//! A batch that fails is halved until the record is found that it fails for: what succeeds on the way is not handed over again
//! and again. That record alone is tried as often as the subscription says, while those behind it wait. If the handler says
//! which record failed, that one is tried alone at once.

use serde::{Deserialize, Serialize};

/// How far a lane has come: what is in its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// The number of the first record that is not done; all before it are.
    #[serde(rename = "n")]
    pub(super) next: u64,
    /// How many lanes the shard has. With another number, keys are in other lanes.
    #[serde(rename = "of")]
    pub(super) of: u32,
    /// What was handed over last, and is not done.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub(super) underway: Option<Underway>,
    /// From `next` up to here, and not with it, there is a record that fails.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    bad: Option<u64>,
    /// The `next` of all lanes of the shard at the time when it had another number of them, as long as one of those had come
    /// further than this one: what they had done is not handed over again.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) done: Vec<Vec<u64>>,
}

/// The records from `next` on that were handed over together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Underway {
    /// The number after that of the last.
    #[serde(rename = "e")]
    end: u64,
    /// How often they were.
    #[serde(rename = "a")]
    pub(super) attempt: u32,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Handled,
    /// The consumer has no room: that is no attempt.
    Throttled,
    /// All of it failed.
    Failed,
    /// This record failed, and those before it did not.
    FailedAt(u64),
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More records.
    On,
    /// The same, after a short while.
    Soon,
    /// Fewer, after a short while.
    Fewer,
    /// The same record again, after a pause that grows with the attempts.
    Again { attempt: u32 },
    /// This record is given up: the lane is after it.
    Dead { number: u64 },
}

impl Lane {
    pub(super) fn new(next: u64, of: u32) -> Self {
        Self { next, of, underway: None, bad: None, done: Vec::new() }
    }

    /// Of another number of lanes, which go on where these, which are all of a shard and in order, have come to.
    pub(super) fn divided_anew(lanes: &[Self], of: u32) -> Self {
        let next = lanes.iter().map(|lane| lane.next).min().unwrap_or_default();
        let mut done: Vec<_> = lanes.iter().flat_map(|lane| lane.done.iter().cloned()).collect();
        done.sort_unstable();
        done.dedup();
        done.push(lanes.iter().map(|lane| lane.next).collect());
        Self { done, ..Self::new(next, of) }.at(next)
    }

    /// With this number as the first that is not done.
    fn at(self, next: u64) -> Self {
        let mut done = self.done;
        done.retain(|lanes| lanes.iter().any(|its| *its > next));
        Self { next, done, ..self }
    }

    /// The number up to which, and not with it, the next batch may go; and whether that is how it must be, because it was
    /// handed over like that.
    pub(super) fn until(&self) -> (u64, bool) {
        match (self.underway, self.bad) {
            (Some(underway), _) => (underway.end, true),
            (None, Some(bad)) => (bad, false),
            (None, None) => (u64::MAX, false),
        }
    }

    /// How many of the records, whose numbers these are, are handed over next, and the lane as it is then. They are at least
    /// one, from `next` on, up to [`until`](Self::until).
    pub(super) fn begin(&self, numbers: &[u64]) -> (usize, Self) {
        let (count, attempt) = match (self.underway, self.bad) {
            (Some(underway), _) => (numbers.len(), underway.attempt + 1),
            (None, Some(_)) => (numbers.len().div_ceil(2), 1),
            (None, None) => (numbers.len(), 1),
        };
        let end = numbers[count - 1] + 1;
        (count, Self { underway: Some(Underway { end, attempt }), ..self.clone() })
    }

    /// After an attempt at the records, whose numbers these are, of which each has so many attempts.
    pub(super) fn ended(&self, numbers: &[u64], most: u32, ended: Ended) -> (Self, Next) {
        let attempt = self.underway.map_or(1, |underway| underway.attempt);
        let last = numbers[numbers.len() - 1];
        match ended {
            Ended::Handled => (self.after(last), Next::On),
            Ended::Throttled => {
                let attempt = attempt.saturating_sub(1);
                let underway = self.underway.map(|underway| Underway { attempt, ..underway });
                (Self { underway, ..self.clone() }, Next::Soon)
            }
            Ended::Failed if numbers.len() > 1 => {
                (Self { underway: None, bad: Some(last + 1), ..self.clone() }, Next::Fewer)
            }
            Ended::FailedAt(number) if numbers.len() > 1 => {
                let alone = Underway { end: number + 1, attempt: 1 };
                let lane = Self { underway: Some(alone), bad: None, ..self.clone() }.at(number);
                lane.failed(number, 1, most)
            }
            Ended::Failed | Ended::FailedAt(_) => self.failed(last, attempt, most),
        }
    }

    /// One record alone has failed.
    fn failed(&self, number: u64, attempt: u32, most: u32) -> (Self, Next) {
        match attempt < most {
            true => (self.clone(), Next::Again { attempt }),
            false => (self.after(number), Next::Dead { number }),
        }
    }

    /// All records up to this one are done.
    pub(super) fn after(&self, number: u64) -> Self {
        let next = number + 1;
        Self { underway: None, bad: self.bad.filter(|bad| *bad > next), ..self.clone() }.at(next)
    }

    /// No record before this number is there any more, or is of this lane. What was handed over is still handed over, as far
    /// as it is there.
    pub(super) fn passed(&self, next: u64) -> Self {
        let (underway, bad) = (self.underway.filter(|u| u.end > next), self.bad.filter(|bad| *bad > next));
        Self { underway, bad, ..self.clone() }.at(next.max(self.next))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const MOST: u32 = 3;

    /// Hands over records 0 to `count` in batches of `size`; `poison` always fails. Answers who was given up, and how often the
    /// consumer was called.
    fn run(count: u64, size: usize, poison: &BTreeSet<u64>, tells: bool) -> (Vec<u64>, Vec<u64>, usize) {
        let (mut lane, mut dead, mut handled, mut calls) = (Lane::new(0, 1), Vec::new(), Vec::new(), 0);
        while lane.next < count {
            // A restart in between changes nothing.
            lane = serde_json::from_slice(&serde_json::to_vec(&lane).unwrap()).unwrap();
            let (until, _) = lane.until();
            let numbers: Vec<u64> = (lane.next..count.min(until)).take(size).collect();
            let (taken, begun) = lane.begin(&numbers);
            let batch = &numbers[..taken];
            calls += 1;
            let failed = batch.iter().copied().find(|number| poison.contains(number));
            let ended = match failed {
                None => Ended::Handled,
                Some(number) if tells => Ended::FailedAt(number),
                Some(_) => Ended::Failed,
            };
            let before = begun.next;
            let (after, next) = begun.ended(batch, MOST, ended);
            let done = (before..after.next).filter(|number| next != Next::Dead { number: *number });
            handled.extend(done);
            if let Next::Dead { number } = next {
                dead.push(number);
            }
            lane = after;
        }
        (dead, handled, calls)
    }

    proptest! {
        #[test]
        fn only_what_always_fails_is_given_up_and_all_else_is_handled_once_and_in_order(
            count in 1..200u64, size in 1..40usize, poison in proptest::collection::btree_set(0..200u64, 0..6), tells in any::<bool>(),
        ) {
            let (dead, handled, _) = run(count, size, &poison, tells);
            let expected: Vec<u64> = poison.iter().copied().filter(|number| *number < count).collect();
            prop_assert_eq!(dead, expected);
            let expected: Vec<u64> = (0..count).filter(|number| !poison.contains(number)).collect();
            prop_assert_eq!(handled, expected);
        }

        #[test]
        fn one_bad_record_of_a_batch_is_found_by_halving(bad in 0..1024u64) {
            let (_, _, calls) = run(1024, 1024, &BTreeSet::from([bad]), false);
            // Ten halvings, as many halves that succeed, the attempts, and the rest.
            prop_assert!(calls <= 10 + 10 + MOST as usize + 2, "{} calls", calls);
            let (_, _, calls) = run(1024, 1024, &BTreeSet::from([bad]), true);
            prop_assert!(calls <= MOST as usize + 2, "{} calls", calls);
        }
    }

    #[test]
    fn no_room_is_no_attempt_and_what_was_handed_over_stays_as_it_is() {
        let (_, begun) = Lane::new(5, 1).begin(&[5, 7]);
        let (lane, next) = begun.ended(&[5, 7], MOST, Ended::Throttled);
        assert_eq!((next, lane.until()), (Next::Soon, (8, true)));
        let (taken, again) = lane.begin(&[5, 7]);
        assert_eq!((taken, again), (2, begun));
    }

    #[test]
    fn what_lanes_of_another_number_have_done_is_known_until_all_of_it_is_behind() {
        let two = [Lane::new(3, 2), Lane::new(9, 2)];
        let three = Lane::divided_anew(&two, 3);
        assert_eq!((three.next, three.of, &three.done), (3, 3, &vec![vec![3, 9]]));
        // Once more, before all have caught up.
        let again = Lane::divided_anew(&[three.after(3), three.after(9), three.after(4)], 1);
        assert_eq!((again.next, &again.done), (4, &vec![vec![3, 9], vec![4, 10, 5]]));
        assert_eq!(again.after(8).done, [[4, 10, 5]]);
        assert_eq!(again.passed(10).done, Vec::<Vec<u64>>::new());
    }

    #[test]
    fn of_what_was_handed_over_the_rest_is_kept_when_retention_removes_a_part() {
        let (_, begun) = Lane::new(5, 1).begin(&[5, 7, 8]);
        assert_eq!(begun.passed(7).until(), (9, true));
        assert_eq!(begun.passed(9), Lane::new(9, 1));
        let (halved, _) = begun.ended(&[5, 7, 8], MOST, Ended::Failed);
        assert_eq!((halved.passed(7).until(), halved.passed(20).until()), ((9, false), (u64::MAX, false)));
    }
}
