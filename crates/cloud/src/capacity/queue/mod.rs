//! Who waits for room, who holds it, and who is next: pure.
//!
//! Replicas of services come before runs: somebody waits for them, and there are few. Among runs it is first come, first
//! served, and a point of priority is worth a [minute](PRIORITY) of waiting: a run with priority 10 goes before those that
//! came up to ten minutes earlier, and nobody is overtaken for ever.
//!
//! - Who waits for room stops all who come after, so a large run is never starved by small ones.
//! - Who waits for its task's `concurrency`, or for a device, is passed over: room is not what it lacks. Its place stays, and
//!   nobody who comes after it gets that device before.
//! - What services leave is all that runs can ever have: a run that needs more is passed over until a service gives room back.
//! - A run that fits no more, because the machine shrank, starts when no other run holds room.

mod pass;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use tandem_model::{Kind, Urn, inputs::Device};

use super::Room;
use pass::Pass;

/// What a point of priority is worth.
const PRIORITY: SignedDuration = SignedDuration::from_secs(60);

/// What one run or one replica asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// A run's id; or which replica of which version of a service.
    pub id: String,
    /// The task or the service.
    pub of: Urn,
    pub needs: Room,
    pub devices: Vec<Device>,
    pub priority: i32,
    /// How many of the same task may hold room at once.
    pub concurrency: Option<u32>,
}

impl Claim {
    /// Held as long as the service is there, not until something ends.
    fn is_lasting(&self) -> bool {
        self.of.kind == Kind::Service
    }
}

/// Why a run or a replica waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// It is the next one, and needs more than is free.
    ForRoom { needs: Room, free: Room },
    /// It needs more than the services leave.
    ForServices { needs: Room, left: Room },
    /// So many of its task run, and no more may.
    AtLimit(u32),
    /// Another one has the device, or waits for it longer.
    ForDevice { device: String, by: Option<String> },
    /// So many are before it.
    Behind(usize),
    /// It is being found out what runs already, or the cloud closes.
    Survey,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForRoom { needs, free } => write!(f, "needs {needs}; {free} free"),
            Self::ForServices { needs, left } => write!(f, "needs {needs}; services leave {left}"),
            Self::AtLimit(1) => f.write_str("1 run of its task at once"),
            Self::AtLimit(n) => write!(f, "{n} runs of its task at once"),
            Self::ForDevice { device, by: Some(by) } => write!(f, "`{device}` is used by {by}"),
            Self::ForDevice { device, by: None } => write!(f, "others wait for `{device}` longer"),
            Self::Behind(1) => f.write_str("behind 1 other run"),
            Self::Behind(n) => write!(f, "behind {n} other runs"),
            Self::Survey => f.write_str("the cloud looks what runs already"),
        }
    }
}

/// A place in the queue; the smallest is next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    is_run: bool,
    /// Acceptance, less what the priority is worth.
    due: Timestamp,
    accepted: Timestamp,
    id: String,
}

#[derive(Debug)]
struct Waiter {
    claim: Claim,
    /// Whether its record is on disk. Until then it keeps its place, and those behind it wait.
    recorded: bool,
}

/// Those who wait, and what is set aside.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) capacity: Room,
    held: HashMap<String, Claim>,
    waiting: BTreeMap<Turn, Waiter>,
    /// The places of those that wait.
    turns: HashMap<String, Turn>,
    /// When the last one was accepted.
    last: Timestamp,
    /// So many still find out what runs already.
    pub(super) surveys: usize,
    /// Nobody is admitted any more.
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: Room) -> Self {
        Self {
            capacity,
            held: HashMap::new(),
            waiting: BTreeMap::new(),
            turns: HashMap::new(),
            last: Timestamp::UNIX_EPOCH,
            surveys: 0,
            closed: false,
        }
    }

    /// Gives a run the last place of its priority, before it is recorded, and answers the time that stands for it: no two
    /// have the same. Who is asked for twice at once keeps the place that it has.
    pub(super) fn place(&mut self, claim: Claim, now: Timestamp) -> Timestamp {
        if let Some(turn) = self.turns.get(&claim.id) {
            return turn.accepted;
        }
        let next = self.last + SignedDuration::from_micros(1);
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        self.put(now.max(next), Waiter { claim, recorded: false });
        self.last
    }

    /// It is on disk, and may be admitted. It gets its place back if it has none.
    pub(super) fn recorded(&mut self, claim: Claim, accepted: Timestamp) {
        match self.turns.get(&claim.id).and_then(|turn| self.waiting.get_mut(turn)) {
            Some(waiter) => waiter.recorded = true,
            None => self.put(accepted, Waiter { claim, recorded: true }),
        }
    }

    /// It could not be recorded, and leaves; unless somebody else has recorded it.
    pub(super) fn not_recorded(&mut self, id: &str) {
        let waiter = self.turns.get(id).and_then(|turn| self.waiting.get(turn));
        if waiter.is_some_and(|waiter| !waiter.recorded) {
            self.retire(id);
        }
    }

    fn retire(&mut self, id: &str) {
        if let Some(turn) = self.turns.remove(id) {
            self.waiting.remove(&turn);
        }
    }

    fn put(&mut self, accepted: Timestamp, waiter: Waiter) {
        self.last = self.last.max(accepted);
        let worth = PRIORITY * waiter.claim.priority;
        let due = accepted.checked_sub(worth).unwrap_or(accepted);
        let is_run = !waiter.claim.is_lasting();
        let turn = Turn { is_run, due, accepted, id: waiter.claim.id.clone() };
        self.turns.insert(turn.id.clone(), turn.clone());
        self.waiting.insert(turn, waiter);
    }

    /// Sets room aside for what runs already, free or not.
    pub(super) fn hold(&mut self, claim: Claim) {
        self.held.insert(claim.id.clone(), claim);
    }

    /// Changes what somebody claims who waits or holds room.
    pub(super) fn resize(&mut self, claim: Claim) {
        if let Some(waiter) = self.turns.get(&claim.id).and_then(|turn| self.waiting.get_mut(turn)) {
            waiter.claim = claim;
        } else if self.is_held(&claim.id) {
            self.hold(claim);
        }
    }

    pub(super) fn is_held(&self, id: &str) -> bool {
        self.held.contains_key(id)
    }

    /// Forgets who waits or holds room.
    pub(super) fn leave(&mut self, id: &str) {
        self.held.remove(id);
        self.retire(id);
    }

    /// Takes from the queue what may start, and sets its room aside.
    pub(super) fn admit(&mut self) -> Vec<String> {
        if !self.is_open() {
            return Vec::new();
        }
        let mut pass = Pass::of(self);
        let all = self.waiting.iter();
        let admitted: Vec<Turn> =
            all.filter(|(_, waiter)| pass.why(waiter).is_none()).map(|(turn, _)| turn.clone()).collect();
        let mut ids = Vec::with_capacity(admitted.len());
        for turn in admitted {
            self.turns.remove(&turn.id);
            let waiter = self.waiting.remove(&turn);
            self.held.extend(waiter.map(|waiter| (turn.id.clone(), waiter.claim)));
            ids.push(turn.id);
        }
        ids
    }

    fn is_open(&self) -> bool {
        self.surveys == 0 && !self.closed
    }

    /// Who waits and why, in order.
    pub(super) fn all_waiting(&self) -> Vec<(&Claim, Timestamp, Waiting)> {
        let mut pass = Pass::of(self);
        let all = self.waiting.iter();
        all.map(|(turn, waiter)| (&waiter.claim, turn.accepted, pass.why(waiter).unwrap_or(Waiting::Survey)))
            .collect()
    }

    /// Why it waits; `None` if it does not.
    pub(super) fn why(&self, id: &str) -> Option<Waiting> {
        self.turns.get(id)?;
        self.all_waiting().into_iter().find(|(claim, ..)| claim.id == id).map(|(.., why)| why)
    }

    /// Who holds room, in no order.
    pub(super) fn held(&self) -> impl Iterator<Item = &Claim> {
        self.held.values()
    }

    /// What is set aside.
    pub(super) fn used(&self) -> Room {
        self.held().fold(Room::default(), |sum, claim| sum.plus(claim.needs))
    }

    /// How many more like this one would start if they were asked for now.
    pub(super) fn would_start(&self, claim: &Claim, most: u32) -> u32 {
        let one = Waiter { claim: claim.clone(), recorded: true };
        let mut pass = Pass::of(self);
        for waiter in self.waiting.values() {
            pass.why(waiter);
        }
        (0..most).take_while(|_| pass.why(&one).is_none()).count() as u32
    }
}
