//! Many requests at once, and workers that die.

use super::*;

const MANY: usize = 1000;

/// Lets every worker ask, answer and ask again until nothing is left to do; answers the most that ran at once.
fn serve(w: &mut World) -> usize {
    let mut most = 0;
    for worker in w.workers(F) {
        w.poll(worker);
    }
    while let Some((invocation, worker)) = w.running.iter().next().map(|(i, worker)| (*i, *worker)) {
        most = most.max(w.running.len());
        w.answer(invocation).unwrap();
        w.poll(worker);
    }
    most
}

#[test]
fn a_thousand_requests_at_once_run_once_each_in_their_order_and_never_more_than_the_concurrency() {
    for concurrency in [1, 10, 100] {
        let limits = Limits { at_once: 40, at_most: 200, queue: MANY, ..LIMITS };
        let mut w = World::new(Limits { spares: 0, ..limits });
        w.define(F, concurrency);
        let all: Vec<_> = (0..MANY).map(|_| w.invoke(F)).collect();
        let refused = Event::Invoke { function: F, invocation: InvocationId(99_999) };
        assert_eq!(w.on(refused), Err(Refused::QueueFull));
        assert_eq!(serve(&mut w), concurrency.min(limits.at_once));
        assert_eq!(w.handed[&F], all);
        assert!(w.settled.values().all(|outcome| *outcome == Outcome::Answered));
        assert_eq!(w.started, concurrency.min(limits.at_once));
    }
}

#[test]
fn handlers_that_compute_get_no_more_workers_than_at_once_however_long_they_take() {
    let mut w = world();
    for _ in 0..50 {
        w.invoke(F);
    }
    for worker in w.workers(F) {
        w.poll(worker);
    }
    w.sees = (LIMITS.at_once, true);
    w.pass(LIMITS.stall * 10);
    assert_eq!(w.workers(F).len(), LIMITS.at_once);
    // One of them waits: that is room for one more.
    w.sees = (LIMITS.at_once - 1, true);
    w.pass(LIMITS.stall);
    assert_eq!(w.workers(F).len(), LIMITS.at_once + 1);
}

#[test]
fn without_memory_no_worker_beyond_at_once_starts() {
    let mut w = world();
    for _ in 0..8 {
        w.invoke(F);
    }
    w.sees = (0, false);
    w.pass(LIMITS.stall * 10);
    assert_eq!(w.workers(F).len(), LIMITS.at_once);
}

#[test]
fn a_function_whose_workers_cannot_start_is_started_ever_more_rarely_and_disturbs_no_other() {
    let mut w = world();
    let all: Vec<_> = (0..MANY / 10).map(|_| w.invoke(F)).collect();
    let end = w.now + Duration::from_secs(10);
    while w.now < end {
        for worker in w.workers(F) {
            w.exit(worker, Loss::Exited(1));
        }
        w.pass(Duration::from_millis(5));
    }
    // Those that started together, then 10, 20, 40 … milliseconds apart, then a second.
    assert!((15..30).contains(&w.started), "{} starts", w.started);
    assert_eq!(w.settled.len(), w.started, "each start takes one request with it");
    assert!(all[..w.started].iter().all(|i| w.settled.contains_key(i)), "the oldest first");
    let theirs = w.invoke(G);
    let [worker] = w.workers(G)[..] else { panic!("it starts at once") };
    w.poll(worker);
    assert_eq!(w.running[&theirs], worker);
}

#[test]
fn the_first_answer_of_a_new_worker_ends_the_pauses() {
    let mut w = world();
    for _ in 0..20 {
        w.invoke(F);
    }
    for worker in w.workers(F) {
        w.exit(worker, Loss::Signalled(9));
    }
    w.pass(Duration::from_millis(200));
    let [worker] = w.workers(F)[..] else { panic!("one tries: {:?}", w.core) };
    w.poll(worker);
    assert_eq!(w.workers(F).len(), 2, "once it has loaded, another may try");
    let first = w.running.iter().find(|(_, by)| **by == worker).map(|(i, _)| *i).unwrap();
    w.answer(first).unwrap();
    assert_eq!(w.workers(F).len(), LIMITS.at_once, "and all, once it has answered");
}

#[test]
fn a_worker_that_dies_at_every_third_request_is_replaced_at_once() {
    let mut w = world();
    w.define(F, 1);
    let all: Vec<_> = (0..30).map(|_| w.invoke(F)).collect();
    for (n, request) in all.iter().enumerate() {
        let [worker] = w.workers(F)[..] else { panic!("no worker for request {n}: {:?}", w.core) };
        if !w.running.contains_key(request) {
            w.poll(worker);
        }
        match n % 3 {
            2 => w.exit(worker, Loss::Signalled(9)),
            _ => w.answer(*request).unwrap(),
        }
    }
    assert_eq!((w.started, w.settled.len()), (10, 30));
}

#[test]
fn a_killed_worker_counts_against_the_concurrency_until_it_is_gone() {
    let mut w = world();
    w.define(F, 1);
    w.invoke(F);
    let worker = w.workers(F)[0];
    w.poll(worker);
    w.invoke(F);
    w.pass(TIMEOUT);
    assert!(w.killed.contains(&worker) && w.workers(F).is_empty(), "its handler may still run");
    w.bury();
    assert_eq!(w.workers(F).len(), 1);
}
