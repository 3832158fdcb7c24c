//! Scenarios and properties of the pools, with workers played by the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{
    room::{SPARE_DELAY, SPARE_RETRY},
    *,
};

mod load;

const LIMITS: Limits = Limits {
    at_once: 4,
    at_most: 6,
    spares: 1,
    idle: Duration::from_secs(60),
    stall: Duration::from_millis(200),
    init: Duration::from_secs(10),
    queue: 100,
};
const TIMEOUT: Duration = Duration::from_secs(3);
const F: FunctionId = FunctionId(1);
const G: FunctionId = FunctionId(2);

/// Plays the driver, the processes and the callers, and checks the invariants after every event.
struct World {
    core: Core,
    now: Now,
    next: u64,
    generation: u64,
    /// Living processes, and what each serves.
    alive: BTreeMap<WorkerId, Option<(FunctionId, u64)>>,
    killed: BTreeSet<WorkerId>,
    running: BTreeMap<InvocationId, WorkerId>,
    handed: BTreeMap<FunctionId, Vec<InvocationId>>,
    of: BTreeMap<InvocationId, FunctionId>,
    settled: BTreeMap<InvocationId, Outcome>,
    /// What is seen when the core asks to look: how many workers compute, and whether there is memory.
    sees: (usize, bool),
    /// Requests that were abandoned before they started.
    left: BTreeSet<InvocationId>,
    started: usize,
}

impl World {
    fn new(limits: Limits) -> Self {
        let mut world = Self {
            core: Core::new(limits),
            now: Now::ZERO,
            next: 0,
            generation: 0,
            alive: BTreeMap::new(),
            killed: BTreeSet::new(),
            running: BTreeMap::new(),
            handed: BTreeMap::new(),
            of: BTreeMap::new(),
            settled: BTreeMap::new(),
            sees: (0, true),
            left: BTreeSet::new(),
            started: 0,
        };
        for function in [F, G] {
            world.define(function, 100);
        }
        world
    }

    fn define(&mut self, function: FunctionId, concurrency: usize) {
        self.generation += 1;
        let definition =
            Definition { generation: self.generation, concurrency, per_worker: 1, timeout: TIMEOUT };
        self.on(Event::Define { function, definition }).unwrap();
    }

    fn on(&mut self, event: Event) -> Result<(), Refused> {
        let mut effects = Vec::new();
        let result = self.core.on(self.now, event, &mut effects);
        if result.is_err() {
            assert!(effects.is_empty(), "a refused event has no effects");
        }
        let mut looks = false;
        for effect in effects {
            match effect {
                Effect::Look => looks = true,
                Effect::Start { worker } => {
                    self.started += 1;
                    assert!(self.alive.insert(worker, None).is_none());
                }
                Effect::Assign { worker, function, generation } => {
                    let duty = self.alive.get_mut(&worker).expect("only a living worker is assigned");
                    assert!(duty.replace((function, generation)).is_none(), "a worker is assigned once");
                }
                Effect::Hand { worker, invocation } => {
                    let duty = self.alive[&worker].expect("only an assigned worker is handed requests");
                    assert_eq!(duty.0, self.of[&invocation], "a worker gets requests of its function");
                    assert!(!self.killed.contains(&worker), "a killed worker is handed nothing");
                    assert!(self.running.insert(invocation, worker).is_none(), "handed once");
                    self.handed.entry(duty.0).or_default().push(invocation);
                }
                Effect::Settle { invocation, outcome } => {
                    self.running.remove(&invocation);
                    assert!(self.settled.insert(invocation, outcome).is_none(), "settles once");
                }
                Effect::Kill { worker } => {
                    assert!(self.alive.contains_key(&worker));
                    assert!(self.killed.insert(worker), "killed once");
                }
            }
        }
        if looks {
            let (computing, memory) = self.sees;
            self.on(Event::Looked { computing, memory }).unwrap();
        }
        self.listed_as_they_are();
        let assigned = self.alive.values().flatten().count();
        assert!(assigned <= self.core.limits.at_most, "{assigned} assigned workers");
        if let Some(due) = self.core.due()
            && due <= self.now
            && event == Event::Tick
        {
            panic!("a tick leaves nothing due: {due:?} at {:?}", self.now);
        }
        result
    }

    /// What `tandem ps` would tell is what there is: every process, what it serves, and whether it works.
    fn listed_as_they_are(&self) {
        let listed: BTreeMap<_, _> = self.core.workers().map(|(id, f, doing)| (id, (f, doing))).collect();
        assert!(listed.keys().eq(self.alive.keys()), "listed {listed:?}, alive {:?}", self.alive);
        for (worker, duty) in &self.alive {
            let (function, doing) = listed[worker];
            assert_eq!(function, duty.map(|(function, _)| function), "{worker:?}");
            let busy = self.running.values().any(|by| by == worker);
            match doing {
                Doing::Ending => assert!(self.killed.contains(worker)),
                Doing::Spare => assert!(duty.is_none() && !self.killed.contains(worker)),
                Doing::Busy => assert!(busy && !self.killed.contains(worker)),
                Doing::Starting | Doing::Idle => {
                    assert!(duty.is_some() && !busy && !self.killed.contains(worker));
                }
            }
        }
        if self.of.len() > 200 {
            // Counting them anew for each event takes too long.
            return;
        }
        let waiting = |f| self.of.iter().filter(|(i, of)| **of == f && self.is_waiting(**i)).count();
        for function in [F, G] {
            let queued = self.core.queues().find(|(id, _)| *id == function).map_or(0, |(_, n)| n);
            assert_eq!(queued, waiting(function), "{function:?} in {:?}", self.core);
        }
    }

    fn is_waiting(&self, invocation: InvocationId) -> bool {
        !self.settled.contains_key(&invocation)
            && !self.running.contains_key(&invocation)
            && !self.left.contains(&invocation)
    }

    fn invoke(&mut self, function: FunctionId) -> InvocationId {
        self.next += 1;
        let invocation = InvocationId(self.next);
        self.of.insert(invocation, function);
        self.on(Event::Invoke { function, invocation }).unwrap();
        invocation
    }

    /// The live, assigned workers of a function that are not being killed.
    fn workers(&self, function: FunctionId) -> Vec<WorkerId> {
        self.alive
            .iter()
            .filter(|(id, duty)| duty.is_some_and(|(f, _)| f == function) && !self.killed.contains(id))
            .map(|(id, _)| *id)
            .collect()
    }

    fn abandon(&mut self, invocation: InvocationId) {
        if self.is_waiting(invocation) {
            self.left.insert(invocation);
        }
        self.on(Event::Abandon { invocation }).unwrap();
    }

    fn poll(&mut self, worker: WorkerId) {
        self.on(Event::Poll { worker }).unwrap();
    }

    fn answer(&mut self, invocation: InvocationId) -> Result<(), Refused> {
        let worker = self.running.get(&invocation).copied().unwrap_or(WorkerId(0));
        self.on(Event::Answer { worker, invocation })
    }

    fn exit(&mut self, worker: WorkerId, loss: Loss) {
        self.alive.remove(&worker);
        self.killed.remove(&worker);
        self.on(Event::Exit { worker, loss }).unwrap();
    }

    /// Lets the killed processes end.
    fn bury(&mut self) {
        while let Some(worker) = self.killed.first().copied() {
            self.exit(worker, Loss::Signalled(9));
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.core.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.on(Event::Tick).unwrap();
        }
        self.now = end;
    }
}

fn world() -> World {
    World::new(Limits { spares: 0, ..LIMITS })
}

#[test]
fn the_first_event_starts_a_worker_and_the_idle_one_takes_the_second() {
    let mut w = world();
    let first = w.invoke(F);
    let [worker] = w.workers(F)[..] else { panic!("one worker starts") };
    w.poll(worker);
    assert_eq!(w.running[&first], worker);
    w.answer(first).unwrap();
    // The next request comes before the worker has asked again, and still starts no second one.
    let second = w.invoke(F);
    assert_eq!(w.workers(F), [worker]);
    w.poll(worker);
    assert_eq!(w.running[&second], worker);
}

#[test]
fn fifty_events_at_once_start_only_as_many_workers_as_the_machine_bears() {
    let mut w = world();
    let all: Vec<_> = (0..50).map(|_| w.invoke(F)).collect();
    assert_eq!(w.workers(F).len(), 4);
    let mut answered = 0;
    for worker in w.workers(F) {
        w.poll(worker);
    }
    while let Some((invocation, worker)) = w.running.iter().next().map(|(i, w)| (*i, *w)) {
        w.answer(invocation).unwrap();
        w.poll(worker);
        answered += 1;
    }
    assert_eq!(answered, 50);
    assert_eq!(w.alive.len(), 4);
    assert_eq!(w.handed[&F], all, "in the order in which they came");
}

#[test]
fn handlers_that_wait_for_each_other_get_one_more_worker_per_stall() {
    let mut w = world();
    for _ in 0..8 {
        w.invoke(F);
    }
    for worker in w.workers(F) {
        w.poll(worker);
    }
    w.pass(LIMITS.stall);
    assert_eq!(w.workers(F).len(), 5);
    w.pass(LIMITS.stall * 2);
    assert_eq!(w.workers(F).len(), 6, "never more than at_most");
}

/// Four workers of `F` that have nothing to do.
fn four_idle(w: &mut World) {
    let requests: Vec<_> = (0..4).map(|_| w.invoke(F)).collect();
    for worker in w.workers(F) {
        w.poll(worker);
    }
    for request in &requests {
        let worker = w.running[request];
        w.answer(*request).unwrap();
        w.poll(worker);
    }
}

#[test]
fn an_idle_worker_of_another_function_stays_while_there_is_memory() {
    let mut w = world();
    four_idle(&mut w);
    w.invoke(G);
    assert_eq!((w.killed.len(), w.workers(F).len(), w.workers(G).len()), (0, 4, 1));
}

#[test]
fn an_idle_worker_of_another_function_makes_room_when_there_are_as_many_as_there_may_be() {
    let mut w = world();
    four_idle(&mut w);
    for _ in 0..3 {
        w.invoke(G);
    }
    assert_eq!((w.killed.len(), w.workers(G).len()), (1, 2));
    w.bury();
    assert_eq!((w.workers(F).len(), w.workers(G).len()), (3, 3));
}

#[test]
fn workers_in_use_bound_what_starts_however_many_are_idle() {
    let mut w = world();
    four_idle(&mut w);
    for _ in 0..3 {
        w.invoke(F);
    }
    w.invoke(G);
    w.invoke(G);
    assert_eq!(w.workers(G).len(), 1, "three serve, one loads, and one is idle");
}

#[test]
fn a_busy_function_yields_to_one_that_has_no_worker_and_waited_longer() {
    let mut w = world();
    for _ in 0..4 {
        w.invoke(F);
    }
    let workers = w.workers(F);
    for worker in &workers {
        w.poll(*worker);
    }
    w.invoke(G);
    let later = w.invoke(F);
    let first = w.handed[&F][0];
    w.answer(first).unwrap();
    w.poll(workers[0]);
    assert!(w.killed.contains(&workers[0]) && !w.running.contains_key(&later));
    w.bury();
    assert_eq!(w.workers(G).len(), 1);
}

#[test]
fn concurrency_bounds_the_workers_of_a_function() {
    let mut w = world();
    w.define(F, 2);
    for _ in 0..5 {
        w.invoke(F);
    }
    assert_eq!(w.workers(F).len(), 2);
}

#[test]
fn a_passed_deadline_kills_the_worker_and_refuses_the_late_answer() {
    let mut w = world();
    let request = w.invoke(F);
    let worker = w.workers(F)[0];
    w.poll(worker);
    w.pass(TIMEOUT);
    assert!(w.killed.contains(&worker));
    assert_eq!(w.answer(request), Err(Refused::NotInFlight));
    assert!(w.settled.is_empty(), "its last lines come before its end");
    w.exit(worker, Loss::Signalled(9));
    assert_eq!(w.settled[&request], Outcome::TimedOut { after: TIMEOUT });
}

#[test]
fn a_lost_worker_ends_its_request_and_an_answer_of_another_is_refused() {
    let mut w = world();
    let (a, b) = (w.invoke(F), w.invoke(F));
    let workers = w.workers(F);
    w.poll(workers[0]);
    w.poll(workers[1]);
    assert_eq!(w.on(Event::Answer { worker: workers[1], invocation: a }), Err(Refused::NotInFlight));
    w.exit(workers[0], Loss::OutOfMemory);
    assert_eq!(w.settled[&a], Outcome::Lost(Loss::OutOfMemory));
    w.answer(b).unwrap();
    assert_eq!(w.settled[&b], Outcome::Answered);
}

#[test]
fn a_worker_that_cannot_start_fails_one_request_and_the_next_gets_a_worker() {
    let mut w = world();
    w.define(F, 1);
    let (a, b) = (w.invoke(F), w.invoke(F));
    let worker = w.workers(F)[0];
    w.on(Event::InitFail { worker }).unwrap();
    assert_eq!(w.settled[&a], Outcome::InitFailed);
    w.bury();
    w.pass(Duration::from_millis(10));
    let worker = w.workers(F)[0];
    w.exit(worker, Loss::NotStarted);
    assert_eq!(w.settled[&b], Outcome::Lost(Loss::NotStarted));
    assert!(w.alive.is_empty());
}

#[test]
fn a_top_level_that_never_ends_is_killed() {
    let mut w = world();
    let a = w.invoke(F);
    w.pass(LIMITS.init);
    w.bury();
    assert_eq!(w.settled[&a], Outcome::InitTimedOut);
}

#[test]
fn a_new_version_lets_the_old_worker_finish_and_serves_the_next_request_by_a_new_one() {
    let mut w = world();
    let a = w.invoke(F);
    let old = w.workers(F)[0];
    w.poll(old);
    w.define(F, 100);
    assert!(w.killed.is_empty(), "its request may finish");
    let b = w.invoke(F);
    w.answer(a).unwrap();
    assert!(w.killed.contains(&old));
    w.bury();
    let new = w.workers(F)[0];
    assert_eq!(w.alive[&new], Some((F, w.generation)));
    w.poll(new);
    assert_eq!(w.running[&b], new);
}

#[test]
fn a_removed_function_drops_what_waits_and_finishes_what_runs() {
    let mut w = world();
    w.define(F, 1);
    let (a, b) = (w.invoke(F), w.invoke(F));
    let worker = w.workers(F)[0];
    w.poll(worker);
    w.on(Event::Remove { function: F }).unwrap();
    assert_eq!(w.settled.get(&b), Some(&Outcome::Dropped));
    w.answer(a).unwrap();
    w.bury();
    assert!(w.alive.is_empty());
    let again = Event::Invoke { function: F, invocation: InvocationId(9) };
    assert_eq!(w.on(again), Err(Refused::NoSuchFunction));
}

#[test]
fn a_spare_is_kept_only_while_functions_are_used() {
    let mut w = World::new(LIMITS);
    assert!(w.alive.is_empty());
    let a = w.invoke(F);
    let worker = w.workers(F)[0];
    assert_eq!(w.alive.len(), 1, "the spare does not compete with the cold start");
    w.poll(worker);
    w.answer(a).unwrap();
    w.poll(worker);
    w.pass(SPARE_DELAY);
    assert_eq!(w.alive.len(), 2);
    w.invoke(G);
    assert_eq!(w.alive.len(), 2, "the spare is taken");
    let worker = w.workers(G)[0];
    w.exit(worker, Loss::Exited(1));
    w.pass(LIMITS.idle * 2);
    w.bury();
    assert!(w.alive.is_empty(), "no worker when idle: {:?}", w.core);
    assert_eq!(w.core.due(), None, "and nothing to wake up for");
}

#[test]
fn a_spare_that_dies_is_not_replaced_at_once() {
    let mut w = World::new(LIMITS);
    w.invoke(F);
    w.pass(SPARE_DELAY);
    let spare = *w.alive.iter().find(|(_, duty)| duty.is_none()).unwrap().0;
    w.exit(spare, Loss::NotStarted);
    assert_eq!(w.alive.len(), 1);
    w.pass(SPARE_RETRY);
    assert_eq!(w.alive.len(), 2);
}

#[test]
fn a_request_whose_poll_went_away_is_handed_again_first() {
    let mut w = world();
    w.define(F, 1);
    let (a, b) = (w.invoke(F), w.invoke(F));
    let worker = w.workers(F)[0];
    w.poll(worker);
    w.running.remove(&a);
    w.on(Event::PutBack { worker, invocation: a }).unwrap();
    w.poll(worker);
    assert_eq!(w.running.get(&a), Some(&worker));
    assert!(!w.running.contains_key(&b));
}

#[test]
fn closing_finishes_what_runs_and_takes_nothing_new() {
    let mut w = world();
    w.define(F, 1);
    let (a, b) = (w.invoke(F), w.invoke(F));
    let worker = w.workers(F)[0];
    w.poll(worker);
    w.on(Event::Close).unwrap();
    assert_eq!(w.settled.get(&b), Some(&Outcome::Dropped));
    let late = Event::Invoke { function: F, invocation: InvocationId(9) };
    assert_eq!(w.on(late), Err(Refused::Closing));
    w.answer(a).unwrap();
    w.bury();
    assert!(!w.core.has_workers());
}

#[derive(Debug, Clone)]
enum Play {
    Invoke(bool),
    Abandon(usize),
    Poll(usize),
    Unpoll(usize),
    Answer(usize),
    Crash(usize),
    InitFail(usize),
    Bury,
    Pass(u64),
    Define(bool, usize),
}

fn play() -> impl Strategy<Value = Play> {
    prop_oneof![
        6 => any::<bool>().prop_map(Play::Invoke),
        1 => (0..9usize).prop_map(Play::Abandon),
        6 => (0..9usize).prop_map(Play::Poll),
        1 => (0..9usize).prop_map(Play::Unpoll),
        6 => (0..9usize).prop_map(Play::Answer),
        1 => (0..9usize).prop_map(Play::Crash),
        1 => (0..9usize).prop_map(Play::InitFail),
        3 => Just(Play::Bury),
        2 => (1..5_000u64).prop_map(Play::Pass),
        1 => (any::<bool>(), 1..4usize).prop_map(|(f, n)| Play::Define(f, n)),
    ]
}

proptest! {
    #[test]
    fn every_invocation_settles_once_whatever_workers_do(plays in prop::collection::vec(play(), 1..120)) {
        let mut w = World::new(LIMITS);
        let mut polling = BTreeSet::new();
        let pick = |w: &World, n: usize| w.alive.keys().nth(n).copied();
        for play in plays {
            match play {
                Play::Invoke(f) => { w.invoke(if f { F } else { G }); }
                Play::Abandon(n) => {
                    let open = w.of.keys().filter(|i| !w.settled.contains_key(i)).nth(n).copied();
                    if let Some(invocation) = open {
                        w.abandon(invocation);
                    }
                }
                Play::Poll(n) => if let Some(worker) = pick(&w, n) {
                    let busy = w.running.values().any(|r| *r == worker);
                    if !busy && !polling.contains(&worker) && w.on(Event::Poll { worker }).is_ok() {
                        polling.insert(worker);
                    }
                },
                Play::Unpoll(n) => if let Some(worker) = pick(&w, n)
                    && !w.running.values().any(|r| *r == worker) && polling.remove(&worker)
                {
                    w.on(Event::Unpoll { worker }).unwrap();
                },
                Play::Answer(n) => if let Some(invocation) = w.running.keys().nth(n).copied() {
                    let worker = w.running[&invocation];
                    if w.answer(invocation).is_ok() { polling.remove(&worker); }
                },
                Play::Crash(n) => if let Some(worker) = pick(&w, n) { w.exit(worker, Loss::Signalled(11)); },
                Play::InitFail(n) => if let Some(worker) = pick(&w, n)
                    && !w.running.values().any(|r| *r == worker)
                {
                    w.on(Event::InitFail { worker }).unwrap();
                },
                Play::Bury => w.bury(),
                Play::Pass(millis) => w.pass(Duration::from_millis(millis)),
                Play::Define(f, n) => w.define(if f { F } else { G }, n),
            }
        }
        // Well-behaved workers from here on: everything must come to its end.
        let open = |w: &World| {
            w.of.keys().any(|i| !w.settled.contains_key(i) && !w.left.contains(i))
        };
        for _ in 0..2_000 {
            if !open(&w) { break; }
            w.bury();
            let running: Vec<_> = w.running.keys().copied().collect();
            for invocation in running { let _ = w.answer(invocation); }
            for worker in [w.workers(F), w.workers(G)].concat() {
                let _ = w.on(Event::Poll { worker });
            }
            w.pass(Duration::from_millis(10));
        }
        for invocation in w.of.keys() {
            prop_assert!(
                w.settled.contains_key(invocation) || w.left.contains(invocation),
                "{invocation:?} of {:?} is lost", w.core
            );
        }
        w.pass(LIMITS.idle * 3);
        w.bury();
        prop_assert!(w.alive.is_empty(), "{:?}", w.core);
        prop_assert_eq!(w.core.due(), None);
    }
}
