//! Which run starts next: pure, first come, first served.
//!
//! The head of the queue starts when what it sets aside is free; nothing overtakes it, so a large run is never starved by
//! small ones. A run that finds the machine empty starts in any case.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use jiff::{SignedDuration, Timestamp};
use tandem_model::ByteSize;

use super::RunId;

/// What a run sets aside, or what a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    pub memory: ByteSize,
    /// In thousandths of a core; 0 sets none aside.
    pub millicores: u64,
}

impl Room {
    fn plus(self, other: Self) -> Self {
        let memory = ByteSize(self.memory.0.saturating_add(other.memory.0));
        Self { memory, millicores: self.millicores.saturating_add(other.millicores) }
    }

    fn minus(self, other: Self) -> Self {
        let memory = ByteSize(self.memory.0.saturating_sub(other.memory.0));
        Self { memory, millicores: self.millicores.saturating_sub(other.millicores) }
    }

    /// Whether it is no more than that, in every respect.
    pub fn fits(self, into: Self) -> bool {
        self.memory <= into.memory && self.millicores <= into.millicores
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.memory)?;
        match self.millicores {
            0 => Ok(()),
            n => write!(f, " and {} cores", n as f64 / 1000.0),
        }
    }
}

/// Why a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// It is the next one, and needs more than is free.
    ForRoom { needs: Room, free: Room },
    /// So many are before it.
    Behind(usize),
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForRoom { needs, free } => write!(f, "needs {needs}; {free} free"),
            Self::Behind(1) => f.write_str("behind 1 other run"),
            Self::Behind(n) => write!(f, "behind {n} other runs"),
        }
    }
}

/// The queue, and what is set aside.
#[derive(Debug)]
pub(super) struct Scheduler {
    capacity: Room,
    /// Sum of `held`.
    used: Room,
    held: HashMap<RunId, Room>,
    queue: BTreeMap<(Timestamp, RunId), Waiter>,
    /// When those in the queue were accepted.
    accepted: HashMap<RunId, Timestamp>,
    /// When the last one was.
    last: Timestamp,
    /// Nobody is admitted before it is known what runs already.
    open: bool,
}

#[derive(Debug)]
struct Waiter {
    needs: Room,
    /// Whether its record is on disk. Until then it keeps its place, and those behind it wait.
    recorded: bool,
}

impl Scheduler {
    pub(super) fn new(capacity: Room) -> Self {
        Self {
            capacity,
            used: Room::default(),
            held: HashMap::new(),
            queue: BTreeMap::new(),
            accepted: HashMap::new(),
            last: Timestamp::UNIX_EPOCH,
            open: false,
        }
    }

    /// From now on runs are admitted.
    pub(super) fn open(&mut self) {
        self.open = true;
    }

    /// No run is admitted any more.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Gives a run the last place, before it is recorded, and answers the time that stands for it: no two have the same.
    /// Who is asked for twice at once keeps the place that it has.
    pub(super) fn place(&mut self, id: &RunId, now: Timestamp, needs: Room) -> Timestamp {
        if let Some(accepted) = self.accepted.get(id) {
            return *accepted;
        }
        let next = self.last + SignedDuration::from_micros(1);
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        self.put(id.clone(), now.max(next), Waiter { needs, recorded: false });
        self.last
    }

    /// It is on disk, and may be admitted.
    pub(super) fn recorded(&mut self, id: &RunId, accepted: Timestamp, needs: Room) {
        match self.key(id).and_then(|key| self.queue.get_mut(&key)) {
            Some(waiter) => waiter.recorded = true,
            None => self.enqueue(id.clone(), accepted, needs),
        }
    }

    /// It could not be recorded, and leaves; unless somebody else has recorded it.
    pub(super) fn not_recorded(&mut self, id: &RunId) {
        if self.key(id).and_then(|key| self.queue.get(&key)).is_some_and(|waiter| !waiter.recorded) {
            self.leave(id);
        }
    }

    /// Puts a run in its place, by the time when it was accepted.
    pub(super) fn enqueue(&mut self, id: RunId, accepted: Timestamp, needs: Room) {
        self.put(id, accepted, Waiter { needs, recorded: true });
    }

    fn put(&mut self, id: RunId, accepted: Timestamp, waiter: Waiter) {
        self.last = self.last.max(accepted);
        self.accepted.insert(id.clone(), accepted);
        self.queue.insert((accepted, id), waiter);
    }

    fn key(&self, id: &RunId) -> Option<(Timestamp, RunId)> {
        self.accepted.get(id).map(|accepted| (*accepted, id.clone()))
    }

    /// Sets room aside for a run that runs already, free or not.
    pub(super) fn hold(&mut self, id: RunId, needs: Room) {
        if self.held.insert(id, needs).is_none() {
            self.used = self.used.plus(needs);
        }
    }

    /// Forgets a run, whether it waits or runs.
    pub(super) fn leave(&mut self, id: &RunId) {
        if let Some(room) = self.held.remove(id) {
            self.used = self.used.minus(room);
        }
        if let Some(key) = self.key(id) {
            self.queue.remove(&key);
            self.accepted.remove(id);
        }
    }

    /// Takes from the queue what fits, and sets its room aside.
    pub(super) fn admit(&mut self) -> Vec<RunId> {
        let mut admitted = Vec::new();
        while let Some(head) = self.queue.first_entry() {
            let Waiter { needs, recorded } = *head.get();
            let fits = self.held.is_empty() || self.used.plus(needs).fits(self.capacity);
            if !self.open || !recorded || !fits {
                break;
            }
            let ((_, id), _) = head.remove_entry();
            self.accepted.remove(&id);
            self.hold(id.clone(), needs);
            admitted.push(id);
        }
        admitted
    }

    /// Why a run waits; `None` if it does not.
    pub(super) fn why(&self, id: &RunId) -> Option<Waiting> {
        let key = self.key(id)?;
        let needs = self.queue.get(&key)?.needs;
        Some(self.waiting(self.queue.range(..key).count(), needs))
    }

    /// Why each run waits that does.
    pub(super) fn all_waiting(&self) -> HashMap<&RunId, Waiting> {
        let waiters = self.queue.iter().enumerate();
        waiters.map(|(position, ((_, id), waiter))| (id, self.waiting(position, waiter.needs))).collect()
    }

    fn waiting(&self, position: usize, needs: Room) -> Waiting {
        match position {
            0 => Waiting::ForRoom { needs, free: self.capacity.minus(self.used) },
            n => Waiting::Behind(n),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn room(mebibytes: u64, millicores: u64) -> Room {
        Room { memory: ByteSize::mebibytes(mebibytes), millicores }
    }

    fn id(n: usize) -> RunId {
        RunId(n.to_string())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn scheduler(capacity: Room, runs: &[Room]) -> Scheduler {
        let mut scheduler = Scheduler::new(capacity);
        scheduler.open();
        runs.iter().enumerate().for_each(|(n, needs)| scheduler.enqueue(id(n), at(n as i64), *needs));
        scheduler
    }

    #[test]
    fn runs_start_while_there_is_room_and_wait_when_there_is_none() {
        let mut scheduler = scheduler(room(1000, 2000), &[room(512, 0), room(400, 0), room(512, 0)]);
        assert_eq!(scheduler.admit(), [id(0), id(1)]);
        let free = room(88, 2000);
        assert_eq!(scheduler.why(&id(2)), Some(Waiting::ForRoom { needs: room(512, 0), free }));
        assert_eq!(scheduler.why(&id(2)).unwrap().to_string(), "needs 512 MiB; 88 MiB and 2 cores free");
        scheduler.leave(&id(0));
        assert_eq!(scheduler.admit(), [id(2)]);
        assert_eq!(scheduler.why(&id(2)), None);
    }

    #[test]
    fn a_small_run_does_not_overtake_a_large_one() {
        let mut scheduler = scheduler(room(1000, 0), &[room(600, 0), room(600, 0), room(10, 0)]);
        assert_eq!(scheduler.admit(), [id(0)]);
        assert_eq!(scheduler.why(&id(2)), Some(Waiting::Behind(1)));
    }

    #[test]
    fn who_came_first_is_first_also_if_others_are_recorded_before() {
        let mut scheduler = scheduler(room(1000, 0), &[]);
        let needs = room(600, 0);
        let place = |scheduler: &mut Scheduler, n| scheduler.place(&id(n), at(7), needs);
        let (first, second) = (place(&mut scheduler, 0), place(&mut scheduler, 1));
        assert!(first < second, "one moment, and an order all the same");
        assert_eq!(place(&mut scheduler, 1), second, "it has its place");
        scheduler.recorded(&id(1), second, needs);
        assert_eq!(scheduler.admit(), []);
        assert_eq!(scheduler.why(&id(1)), Some(Waiting::Behind(1)));
        scheduler.recorded(&id(0), first, needs);
        assert_eq!(scheduler.admit(), [id(0)]);
        assert_eq!(scheduler.all_waiting()[&id(1)], scheduler.why(&id(1)).unwrap());
        scheduler.leave(&id(0));
        assert_eq!(scheduler.admit(), [id(1)]);
        assert!(scheduler.all_waiting().is_empty());
        // Who could not be recorded makes way.
        let (second, third) = (place(&mut scheduler, 2), place(&mut scheduler, 3));
        scheduler.leave(&id(1));
        scheduler.recorded(&id(3), third, needs);
        scheduler.not_recorded(&id(2));
        assert_eq!(scheduler.admit(), [id(3)]);
        // Asked for twice at once: whoever recorded it, it has its place.
        scheduler.leave(&id(3));
        scheduler.recorded(&id(2), second, needs);
        scheduler.not_recorded(&id(2));
        assert_eq!(scheduler.admit(), [id(2)]);
        scheduler.not_recorded(&id(2));
        assert!(scheduler.held.contains_key(&id(2)));
    }

    #[test]
    fn processors_are_set_aside_like_memory() {
        let mut scheduler = scheduler(room(1000, 2000), &[room(1, 1500), room(1, 1000)]);
        assert_eq!(scheduler.admit(), [id(0)]);
        scheduler.leave(&id(0));
        assert_eq!(scheduler.admit(), [id(1)]);
    }

    #[test]
    fn nobody_starts_before_it_is_known_what_runs_and_that_counts() {
        let mut scheduler = Scheduler::new(room(1000, 0));
        scheduler.enqueue(id(1), at(1), room(600, 0));
        assert_eq!(scheduler.admit(), []);
        scheduler.hold(id(0), room(600, 0));
        scheduler.open();
        assert_eq!(scheduler.admit(), []);
        scheduler.leave(&id(0));
        assert_eq!(scheduler.admit(), [id(1)]);
    }

    #[test]
    fn what_fits_no_more_since_the_machine_shrank_starts_alone() {
        let mut scheduler = scheduler(room(100, 0), &[room(10, 0), room(600, 0)]);
        assert_eq!(scheduler.admit(), [id(0)]);
        scheduler.leave(&id(0));
        assert_eq!(scheduler.admit(), [id(1)]);
    }

    proptest! {
        #[test]
        fn all_runs_start_once_in_order_and_never_more_than_fits(
            needs in proptest::collection::vec((1u64..500, 0u64..2000), 1..40),
        ) {
            let capacity = room(500, 2000);
            let needs: Vec<Room> = needs.into_iter().map(|(m, c)| room(m, c)).collect();
            let mut scheduler = scheduler(capacity, &needs);
            let (mut started, mut running) = (Vec::new(), Vec::new());
            loop {
                let admitted = scheduler.admit();
                running.extend(admitted.clone());
                started.extend(admitted);
                prop_assert!(scheduler.used.fits(capacity));
                let Some(done) = running.pop() else { break };
                scheduler.leave(&done);
            }
            prop_assert_eq!(started, (0..needs.len()).map(id).collect::<Vec<_>>());
            prop_assert_eq!(scheduler.used, Room::default());
        }
    }
}
