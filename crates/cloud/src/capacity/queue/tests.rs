use proptest::prelude::*;
use tandem_model::ByteSize;

use super::*;

fn room(mebibytes: u64, millicores: u64) -> Room {
    Room { memory: ByteSize::mebibytes(mebibytes), millicores }
}

fn run_of(task: &str, n: usize, needs: Room) -> Claim {
    Claim {
        id: n.to_string(),
        of: format!("urn:tandem:shop:dev:task:{task}").parse().unwrap(),
        needs,
        devices: vec![],
        priority: 0,
        concurrency: None,
    }
}

fn run(n: usize, needs: Room) -> Claim {
    run_of("job", n, needs)
}

fn replica(n: usize, needs: Room) -> Claim {
    Claim { of: "urn:tandem:shop:dev:service:web".parse().unwrap(), ..run(n, needs) }
}

fn device(path: &str, shared: bool) -> Device {
    Device { path: path.to_owned(), shared }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// With claims that came one second after the other.
fn queue(capacity: Room, claims: impl IntoIterator<Item = Claim>) -> Queue {
    let mut queue = Queue::new(capacity);
    claims.into_iter().enumerate().for_each(|(n, claim)| queue.recorded(claim, at(n as i64)));
    queue
}

fn ids<const N: usize>(ids: [usize; N]) -> Vec<String> {
    ids.map(|n| n.to_string()).into()
}

fn why(queue: &Queue, n: usize) -> String {
    queue.why(&n.to_string()).map(|why| why.to_string()).unwrap_or_default()
}

#[test]
fn runs_start_while_there_is_room_and_wait_when_there_is_none() {
    let needs = [512, 400, 512].map(|n| room(n, 0));
    let mut queue = queue(room(1000, 2000), (0..3).map(|n| run(n, needs[n])));
    assert_eq!(queue.admit(), ids([0, 1]));
    let free = room(88, 2000);
    assert_eq!(queue.why("2"), Some(Waiting::ForRoom { needs: room(512, 0), free }));
    assert_eq!(why(&queue, 2), "needs 512 MiB; 88 MiB and 2 cores free");
    queue.leave("0");
    assert_eq!(queue.admit(), ids([2]));
    assert_eq!(queue.why("2"), None);
}

#[test]
fn a_small_run_does_not_overtake_a_large_one() {
    let needs = [600, 600, 10].map(|n| room(n, 0));
    let mut queue = queue(room(1000, 0), (0..3).map(|n| run(n, needs[n])));
    assert_eq!(queue.admit(), ids([0]));
    assert_eq!(queue.why("2"), Some(Waiting::Behind(1)));
}

#[test]
fn who_came_first_is_first_also_if_others_are_recorded_before() {
    let mut queue = queue(room(1000, 0), []);
    let claim = |n| run(n, room(600, 0));
    let (first, second) = (queue.place(claim(0), at(7)), queue.place(claim(1), at(7)));
    assert!(first < second, "one moment, and an order all the same");
    assert_eq!(queue.place(claim(1), at(7)), second, "it has its place");
    queue.recorded(claim(1), second);
    assert!(queue.admit().is_empty());
    assert_eq!(queue.why("1"), Some(Waiting::Behind(1)));
    queue.recorded(claim(0), first);
    assert_eq!(queue.admit(), ids([0]));
    queue.leave("0");
    assert_eq!(queue.admit(), ids([1]));
    assert!(queue.all_waiting().is_empty());
    // Who could not be recorded makes way.
    let (second, third) = (queue.place(claim(2), at(7)), queue.place(claim(3), at(7)));
    queue.leave("1");
    queue.recorded(claim(3), third);
    queue.not_recorded("2");
    assert_eq!(queue.admit(), ids([3]));
    // Asked for twice at once: whoever recorded it, it has its place.
    queue.leave("3");
    queue.recorded(claim(2), second);
    queue.not_recorded("2");
    assert_eq!(queue.admit(), ids([2]));
    queue.not_recorded("2");
    assert!(queue.is_held("2"));
    // Asked for once more while it runs: its room is its own.
    queue.place(claim(2), at(9));
    queue.not_recorded("2");
    assert!(queue.is_held("2") && queue.all_waiting().is_empty());
}

#[test]
fn a_clock_that_is_set_back_changes_nobodys_place() {
    let mut queue = queue(room(100, 0), []);
    let first = queue.place(run(0, room(100, 0)), at(1_000_000));
    let second = queue.place(run(1, room(100, 0)), at(5));
    assert!(first < second);
    queue.recorded(run(1, room(100, 0)), second);
    queue.recorded(run(0, room(100, 0)), first);
    assert_eq!(queue.admit(), ids([0]));
}

#[test]
fn processors_are_set_aside_like_memory() {
    let mut queue = queue(room(1000, 2000), [run(0, room(1, 1500)), run(1, room(1, 1000))]);
    assert_eq!(queue.admit(), ids([0]));
    queue.leave("0");
    assert_eq!(queue.admit(), ids([1]));
}

#[test]
fn nobody_starts_before_it_is_known_what_runs_and_that_counts() {
    let mut queue = queue(room(1000, 0), [run(1, room(600, 0))]);
    queue.surveys = 1;
    assert!(queue.admit().is_empty());
    assert_eq!(why(&queue, 1), "the cloud looks what runs already");
    queue.hold(run(0, room(600, 0)));
    queue.surveys = 0;
    assert!(queue.admit().is_empty());
    queue.leave("0");
    assert_eq!(queue.admit(), ids([1]));
}

#[test]
fn what_fits_no_more_since_the_machine_shrank_starts_alone() {
    let mut queue = queue(room(100, 0), [run(0, room(10, 0)), run(1, room(600, 0)), run(2, room(1, 0))]);
    queue.hold(replica(3, room(10, 0)));
    assert_eq!(queue.admit(), ids([0]));
    queue.leave("0");
    assert_eq!(queue.admit(), ids([1]), "services do not end");
    queue.leave("1");
    assert_eq!(queue.admit(), ids([2]));
}

#[test]
fn a_point_of_priority_goes_for_a_minute_of_waiting() {
    let urgent = |n, priority| Claim { priority, ..run(n, room(100, 0)) };
    let mut queue = queue(room(100, 0), []);
    queue.hold(run(9, room(100, 0)));
    for (n, priority, second) in [(0, 0, 0), (1, 5, 299), (2, 5, 301), (3, -1, 0), (4, 0, 59), (5, 0, 61)] {
        queue.recorded(urgent(n, priority), at(second));
    }
    let mut order = Vec::new();
    let mut before = "9".to_owned();
    for _ in 0..6 {
        queue.leave(&before);
        let admitted = queue.admit();
        assert_eq!(admitted.len(), 1);
        before.clone_from(&admitted[0]);
        order.extend(admitted);
    }
    assert_eq!(order, ids([1, 0, 2, 4, 3, 5]));
}

#[test]
fn no_more_of_a_task_run_at_once_than_it_allows_and_others_pass() {
    let few = |n| Claim { concurrency: Some(2), ..run_of("few", n, room(10, 0)) };
    let claims = [few(0), few(1), few(2), run(3, room(10, 0)), few(4), run(5, room(10, 0))];
    let mut queue = queue(room(1000, 0), claims);
    assert_eq!(queue.admit(), ids([0, 1, 3, 5]));
    assert_eq!(why(&queue, 2), "2 runs of its task at once");
    queue.leave("3");
    assert!(queue.admit().is_empty());
    queue.leave("1");
    assert_eq!(queue.admit(), ids([2]), "in their order");
    queue.leave("0");
    assert_eq!(queue.admit(), ids([4]));
}

#[test]
fn a_device_is_waited_for_unless_all_share_it_and_nobody_waits_for_ever() {
    let uses = |n, shared| Claim { devices: vec![device("/dev/fuse", shared)], ..run(n, room(10, 0)) };
    let claims = [uses(0, true), uses(1, true), uses(2, false), uses(3, true), run(4, room(10, 0))];
    let mut queue = queue(room(1000, 0), claims);
    assert_eq!(queue.admit(), ids([0, 1, 4]), "shared, and who does not use it");
    assert_eq!(why(&queue, 2), "`/dev/fuse` is used by task/job");
    assert_eq!(why(&queue, 3), "others wait for `/dev/fuse` longer");
    queue.leave("0");
    assert!(queue.admit().is_empty());
    queue.leave("1");
    assert_eq!(queue.admit(), ids([2]), "alone");
    queue.leave("2");
    assert_eq!(queue.admit(), ids([3]));
}

#[test]
fn replicas_come_before_runs_and_what_services_leave_is_all_that_runs_can_have() {
    let mut queue = queue(room(1000, 0), [run(0, room(700, 0)), run(1, room(400, 0))]);
    queue.recorded(replica(7, room(500, 0)), at(99));
    // The larger run will never fit beside the service: the smaller one does not wait for it.
    assert_eq!(queue.admit(), ids([7, 1]));
    assert_eq!(why(&queue, 0), "needs 700 MiB; services leave 500 MiB");
    queue.leave("7");
    assert!(queue.admit().is_empty());
    assert_eq!(why(&queue, 0), "needs 700 MiB; 600 MiB free");
    queue.leave("1");
    assert_eq!(queue.admit(), ids([0]));
}

#[test]
fn it_is_known_how_many_more_would_start() {
    let mut queue = queue(room(1000, 0), [run(0, room(300, 0))]);
    queue.admit();
    assert_eq!(queue.would_start(&run(9, room(200, 0)), 1000), 3);
    assert_eq!(queue.would_start(&run(9, room(0, 0)), 1000), 1000);
    assert_eq!(queue.would_start(&Claim { concurrency: Some(2), ..run(9, room(200, 0)) }, 1000), 1);
    let exclusive = Claim { devices: vec![device("/dev/kvm", false)], ..run(9, room(200, 0)) };
    assert_eq!(queue.would_start(&exclusive, 1000), 1);
    // Somebody waits for room, so nobody would.
    queue.recorded(run(1, room(800, 0)), at(1));
    queue.admit();
    assert_eq!(queue.would_start(&run(9, room(200, 0)), 1000), 0);
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let devices = (0u8..4, any::<bool>()).prop_map(|(n, shared)| match n {
        0 => vec![device("/dev/a", shared)],
        1 => vec![device("/dev/a", shared), device("/dev/b", false)],
        _ => vec![],
    });
    let limit = proptest::option::of(1u32..3);
    (1u64..500, 0u64..2000, 0usize..3, -3i32..3, limit, devices).prop_map(
        |(memory, cores, task, priority, concurrency, devices)| Claim {
            priority,
            // The limit is the task's: the same for all of its runs.
            concurrency: concurrency.filter(|_| task == 0).map(|_| 2),
            devices,
            ..run_of(["a", "b", "c"][task], 0, room(memory, cores))
        },
    )
}

proptest! {
    #[test]
    fn all_runs_start_once_and_never_more_than_fits(
        claims in proptest::collection::vec(any_claim(), 1..40),
        ends in proptest::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let capacity = room(500, 2000);
        let claims: Vec<Claim> =
            claims.into_iter().enumerate().map(|(n, claim)| Claim { id: n.to_string(), ..claim }).collect();
        let mut queue = queue(capacity, claims.clone());
        let (mut started, mut running) = (Vec::new(), Vec::new());
        for end in ends.iter().cycle() {
            let admitted = queue.admit();
            prop_assert!(queue.admit().is_empty(), "all at once");
            running.extend(admitted.clone());
            started.extend(admitted);
            prop_assert!(queue.used().fits(capacity));
            for path in ["/dev/a", "/dev/b"] {
                let uses: Vec<bool> = queue.held().flat_map(|c| &c.devices)
                    .filter(|d| d.path == path).map(|d| d.shared).collect();
                prop_assert!(uses.len() < 2 || uses.iter().all(|shared| *shared), "{uses:?}");
            }
            for (claim, ..) in queue.all_waiting() {
                prop_assert!(queue.why(&claim.id).is_some_and(|why| why != Waiting::Survey));
            }
            if running.is_empty() {
                break;
            }
            queue.leave(&running.swap_remove(end.index(running.len())));
        }
        started.sort();
        let mut all: Vec<String> = claims.iter().map(|claim| claim.id.clone()).collect();
        all.sort();
        prop_assert_eq!(started, all);
        prop_assert_eq!(queue.used(), Room::default());
    }

    #[test]
    fn runs_that_want_nothing_special_start_in_order(
        needs in proptest::collection::vec((1u64..500, 0u64..2000), 1..40),
    ) {
        let mut queue =
            queue(room(500, 2000), needs.iter().enumerate().map(|(n, (m, c))| run(n, room(*m, *c))));
        let (mut started, mut running) = (Vec::new(), Vec::new());
        loop {
            let admitted = queue.admit();
            running.extend(admitted.clone());
            started.extend(admitted);
            let Some(done) = running.pop() else { break };
            queue.leave(&done);
        }
        prop_assert_eq!(started, (0..needs.len()).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
