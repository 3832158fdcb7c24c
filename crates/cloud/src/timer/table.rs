//! The timers in memory, by the moment at which each is to be looked at again. The records in the store are the truth.

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use tandem_model::{PhysicalId, StackId, Urn, inputs, schedule::Schedule};

use super::{TimerStatus, core, store::Record};

/// A timer that is deployed. Its schedule is read when it is needed: a cron expression in its read form has 5 KiB.
#[derive(Debug, Clone)]
pub(super) struct Armed {
    pub(super) urn: Urn,
    pub(super) declared: inputs::Timer,
    pub(super) base: Timestamp,
    /// Another one than that which a tick began with means that it was armed anew meanwhile.
    pub(super) turn: u64,
    shown: String,
    pub(super) record: Record,
    next: Option<Timestamp>,
    /// Its place in the queue.
    look: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Table {
    armed: HashMap<PhysicalId, Armed>,
    queue: BTreeSet<(Timestamp, PhysicalId)>,
    /// Due, but nobody would hear it.
    unheard: HashSet<PhysicalId>,
    turns: u64,
    /// What the clock last said.
    read: Timestamp,
}

impl Table {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { armed: HashMap::new(), queue: BTreeSet::new(), unheard: HashSet::new(), turns: 0, read: now }
    }

    pub(super) fn arm(
        &mut self,
        urn: &Urn,
        id: &PhysicalId,
        declared: inputs::Timer,
        schedule: &Schedule,
        record: &Record,
        now: Timestamp,
    ) {
        self.disarm(id);
        self.turns += 1;
        let base = core::base(schedule, record, now);
        let next = core::next(schedule, record, base);
        let armed = Armed {
            urn: urn.clone(),
            declared,
            base,
            turn: self.turns,
            shown: schedule.to_string(),
            record: record.clone(),
            next,
            look: None,
        };
        self.armed.insert(id.clone(), armed);
        if let Some(next) = next {
            self.look_at(id, next);
        }
    }

    pub(super) fn disarm(&mut self, id: &PhysicalId) {
        self.unheard.remove(id);
        if let Some(Armed { look: Some(look), .. }) = self.armed.remove(id) {
            self.queue.remove(&(look, id.clone()));
        }
    }

    pub(super) fn get(&self, id: &PhysicalId) -> Option<&Armed> {
        self.armed.get(id)
    }

    /// Whether nothing has armed it anew since.
    pub(super) fn is_at(&self, id: &PhysicalId, turn: u64) -> bool {
        self.armed.get(id).is_some_and(|armed| armed.turn == turn)
    }

    pub(super) fn look_at(&mut self, id: &PhysicalId, moment: Timestamp) {
        let Some(armed) = self.armed.get_mut(id) else { return };
        if let Some(look) = armed.look.replace(moment) {
            self.queue.remove(&(look, id.clone()));
        }
        self.queue.insert((moment, id.clone()));
    }

    /// It is due, and waits for somebody who would hear it.
    pub(super) fn keep_unheard(&mut self, id: &PhysicalId) {
        self.unheard.insert(id.clone());
    }

    /// Somebody may hear now what nobody heard before.
    pub(super) fn look_at_unheard(&mut self) {
        for id in std::mem::take(&mut self.unheard) {
            self.look_at(&id, self.read);
        }
    }

    /// Those that are to be looked at by now, taken off the queue.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<PhysicalId> {
        self.read = now;
        let mut due = Vec::new();
        while let Some((_, id)) = self.queue.first().filter(|(look, _)| *look <= now).cloned() {
            self.queue.pop_first();
            if let Some(armed) = self.armed.get_mut(&id) {
                armed.look = None;
            }
            due.push(id);
        }
        due
    }

    /// Whether the clock says clearly less than it said before.
    pub(super) fn was_set_back(&self, now: Timestamp) -> bool {
        self.read.duration_since(now) > core::TOLERANCE
    }

    pub(super) fn all(&self) -> Vec<(PhysicalId, Armed)> {
        self.armed.iter().map(|(id, armed)| (id.clone(), armed.clone())).collect()
    }

    pub(super) fn next_look(&self) -> Option<Timestamp> {
        self.queue.first().map(|(look, _)| *look)
    }

    pub(super) fn status(&self, stack: Option<&StackId>) -> Vec<TimerStatus> {
        let of_stack =
            self.armed.values().filter(|armed| stack.is_none_or(|stack| armed.urn.stack == *stack));
        let mut all: Vec<_> = of_stack
            .map(|armed| TimerStatus {
                urn: armed.urn.clone(),
                schedule: armed.shown.clone(),
                next: armed.next,
                last: armed.record.last,
                ticks: armed.record.ticks,
            })
            .collect();
        all.sort_by(|a, b| a.urn.cmp(&b.urn));
        all
    }
}
