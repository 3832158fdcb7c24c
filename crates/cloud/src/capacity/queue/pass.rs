//! One look at all who wait, from the first to the last: who may start, and why the others may not.

use std::collections::{HashMap, HashSet};

use tandem_model::Urn;

use super::{Claim, Queue, Waiter, Waiting};
use crate::capacity::Room;

/// What is taken so far, by those who hold it and by those who may start before.
pub(super) struct Pass<'a> {
    capacity: Room,
    used: Room,
    /// Of it, by services.
    lasting: Room,
    runs: usize,
    of: HashMap<&'a Urn, u32>,
    /// By whom a device is used, and whether it may be shared.
    devices: HashMap<&'a str, (&'a Urn, bool)>,
    /// Somebody waits for them, and comes first.
    wanted: HashSet<&'a str>,
    /// Since somebody waits for room, so many wait.
    stopped: usize,
}

impl<'a> Pass<'a> {
    pub(super) fn of(queue: &'a Queue) -> Self {
        let mut pass = Self {
            capacity: queue.capacity,
            used: Room::default(),
            lasting: Room::default(),
            runs: 0,
            of: HashMap::new(),
            devices: HashMap::new(),
            wanted: HashSet::new(),
            stopped: 0,
        };
        queue.held().for_each(|claim| pass.take(claim));
        pass
    }

    fn take(&mut self, claim: &'a Claim) {
        self.used = self.used.plus(claim.needs);
        if claim.is_lasting() {
            self.lasting = self.lasting.plus(claim.needs);
        } else {
            self.runs += 1;
        }
        *self.of.entry(&claim.of).or_default() += 1;
        self.devices.extend(claim.devices.iter().map(|d| (d.path.as_str(), (&claim.of, d.shared))));
    }

    /// Why the next one may not start; `None`: it may, and takes what it needs.
    pub(super) fn why(&mut self, Waiter { claim, recorded }: &'a Waiter) -> Option<Waiting> {
        if self.stopped > 0 {
            self.stopped += 1;
            return Some(Waiting::Behind(self.stopped - 1));
        }
        let passed_over = self.lacks(claim);
        if let Some(why) = passed_over {
            // Services may never give it what it needs; the others come to an end.
            if !matches!(why, Waiting::ForServices { .. }) {
                self.wanted.extend(claim.devices.iter().map(|device| device.path.as_str()));
            }
            return Some(why);
        }
        let fits = match claim.needs.fits(self.capacity) {
            true => self.used.plus(claim.needs).fits(self.capacity),
            false => self.runs == 0,
        };
        if !recorded || !fits {
            self.stopped = 1;
            return Some(Waiting::ForRoom { needs: claim.needs, free: self.capacity.minus(self.used) });
        }
        self.take(claim);
        None
    }

    /// What it lacks that is not room, or room that no end of a run will give.
    fn lacks(&self, claim: &Claim) -> Option<Waiting> {
        let running = self.of.get(&claim.of).copied().unwrap_or_default();
        if let Some(limit) = claim.concurrency.filter(|limit| running >= *limit) {
            return Some(Waiting::AtLimit(limit));
        }
        for device in &claim.devices {
            let used = self.devices.get(device.path.as_str());
            if let Some((by, _)) = used.filter(|(_, shared)| !shared || !device.shared) {
                return Some(Waiting::ForDevice { device: device.path.clone(), by: Some(by.short()) });
            }
            if self.wanted.contains(device.path.as_str()) {
                return Some(Waiting::ForDevice { device: device.path.clone(), by: None });
            }
        }
        let left = self.capacity.minus(self.lasting);
        let needs = claim.needs;
        (needs.fits(self.capacity) && !needs.fits(left)).then_some(Waiting::ForServices { needs, left })
    }
}
