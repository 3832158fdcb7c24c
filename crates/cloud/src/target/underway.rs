//! Which changes are under way, and since when: what they have asked for must not go before they are committed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

#[derive(Debug, Default)]
pub(super) struct Underway(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    next: u64,
    begun: BTreeMap<u64, SystemTime>,
}

impl Underway {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A change is under way until this is dropped.
    pub(super) fn begin(&self) -> Change<'_> {
        let mut known = self.known();
        let number = known.next;
        known.next += 1;
        known.begun.insert(number, SystemTime::now());
        Change { of: self, number }
    }

    /// When the oldest of them began.
    pub(super) fn oldest(&self) -> Option<SystemTime> {
        self.known().begun.values().min().copied()
    }
}

/// A change that is under way.
#[derive(Debug)]
pub struct Change<'a> {
    of: &'a Underway,
    number: u64,
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        self.of.known().begun.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_change_counts_until_it_has_ended() {
        let underway = Underway::default();
        assert_eq!(underway.oldest(), None);
        let first = underway.begin();
        let since = underway.oldest();
        let second = underway.begin();
        assert_eq!(underway.oldest(), since);
        drop(first);
        assert!(underway.oldest() >= since);
        drop(second);
        assert_eq!(underway.oldest(), None);
    }
}
