//! Random programs on a random host: workers that forget their generators, are busy or lost, stores that refuse commits,
//! clouds that are closed in the middle. Every instance ends as its program says, and no result is recorded twice.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Value, json};
use tandem_model::{
    Kind, PhysicalId, StackId, Urn,
    resource::{Properties, Recorded},
};
use tandem_store::{MemoryStore, Store};

use super::program::{Chance, Played, Step};
use crate::{
    resource::Resources,
    workflow::{EntityKey, InstanceKey, Start, Status, Workflows},
};

fn stack() -> StackId {
    "shop/dev".parse().unwrap()
}

fn deployed() -> Arc<Resources> {
    let resources = Arc::new(Resources::default());
    for (kind, name) in [(Kind::Workflow, "program"), (Kind::Function, "next"), (Kind::Entity, "count")] {
        resources.put(Recorded {
            urn: Urn::new(stack(), kind, name.parse().unwrap()),
            id: PhysicalId(name.to_owned()),
            inputs: Properties::new(),
            outputs: Properties::new(),
            depends_on: vec![],
        });
    }
    resources
}

async fn play(program: Vec<Step>, seed: u64, restarts: u32, instances: usize) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let resources = deployed();
    let events = program.iter().filter(|step| matches!(step, Step::Event)).count();
    let host = Arc::new(Played { program, chance: Chance(AtomicU64::new(seed)), kept: Mutex::default() });
    let open = || {
        let workflows = Workflows::new(store.clone(), resources.clone(), host.clone());
        async move {
            workflows.open().await.unwrap();
            workflows
        }
    };
    let mut workflows = open().await;
    let counted = EntityKey::new(stack(), "Count", "all");
    let locked = EntityKey::new(stack(), "Count", "pair");
    let signals = u64::from(restarts);
    let key = |n: usize| InstanceKey { stack: stack(), id: format!("i{n}") };
    for n in 0..instances {
        let workflow = Urn::new(stack(), Kind::Workflow, "program".parse().unwrap());
        let input = (n > 0).then_some(Value::Null);
        let start = Start { workflow, id: Some(key(n).id), input, key: None, traceparent: None };
        workflows.start(start).await.unwrap();
        for _ in 0..events {
            // Some come before they are waited for.
            workflows.raise(&key(n), "go", json!(n)).await.unwrap();
        }
    }
    for restart in 0..restarts {
        for _ in 0..2 {
            // A handler that runs again says the same once more.
            let call = format!("handler/{restart}");
            workflows.signal(&counted, "add", Some(&json!(1)), Some(&call), None).await.unwrap();
            let call = format!("{call}/locked");
            workflows.signal(&locked, "add", Some(&json!(1)), Some(&call), None).await.unwrap();
        }
        tokio::time::sleep(Duration::from_micros(u64::from(restart) * 300)).await;
        workflows.close(Duration::from_secs(5)).await;
        if seed.is_multiple_of(2) {
            host.kept.lock().unwrap().clear();
        }
        workflows = open().await;
    }
    for n in 0..instances {
        let ended = tokio::time::timeout(Duration::from_secs(60), workflows.wait(&key(n))).await;
        let ended = ended.expect("no instance is stuck").unwrap();
        assert_eq!((ended.runtime_status, ended.output), (Status::Completed, json!(host.expected())));
        let told = workflows.status(&key(n), true).unwrap().history_events.unwrap();
        // What began a task and what ended it are one event: nothing is left open, and nothing ended twice.
        let tasks: u64 = host
            .program
            .iter()
            .map(|step| match step {
                Step::Activity | Step::Timer => 1,
                Step::All(count) => *count,
                Step::Event | Step::Call | Step::Signal | Step::Section => 0,
            })
            .sum();
        let ends =
            told.iter().filter(|one| ["TaskCompleted", "TimerFired"].contains(&one.event_type.as_str()));
        assert_eq!(ends.count() as u64, tasks, "{told:?}");
        assert!(told.iter().all(|one| !one.event_type.ends_with("Scheduled")), "{told:?}");
    }
    let sent = host.program.iter().filter(|step| matches!(step, Step::Call | Step::Signal)).count();
    let expected = (sent * instances) as u64 + signals;
    let sections = host.program.iter().filter(|step| matches!(step, Step::Section)).count() * instances;
    let within = sections as u64 + signals;
    let applied = || {
        [&counted, &locked].map(|entity| {
            let now = workflows.entity(entity).unwrap();
            now.map_or((json!(0), 0, None), |one| (one.state, one.operations, one.locked_by))
        })
    };
    let end = [
        (json!(expected), expected, None),
        // Two operations a section; none was lost between them.
        (json!(within), sections as u64 * 2 + signals, None),
    ];
    let waits = || {
        let snapshot = store.snapshot().unwrap();
        let mut rows = snapshot
            .prefix(b"entity/")
            .unwrap()
            .map(|row| String::from_utf8(row.unwrap().0.to_vec()).unwrap());
        let tables = ["entity/m/", "entity/c/", "entity/l/"];
        rows.find(|row| tables.iter().any(|table| row.starts_with(table)))
    };
    for _ in 0..6000 {
        if applied() == end && waits().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(applied(), end, "each operation counts once");
    workflows.close(Duration::from_secs(5)).await;
    assert_eq!(applied(), end);
    assert_eq!(waits(), None, "nothing waits, and nobody holds a lock");
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Activity),
        2 => (0..12u64).prop_map(Step::All),
        1 => Just(Step::Timer),
        2 => Just(Step::Event),
        2 => Just(Step::Call),
        1 => Just(Step::Signal),
        2 => Just(Step::Section),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_instance_ends_as_its_program_says_whatever_happens_to_workers_and_cloud(
        program in prop::collection::vec(step(), 0..7),
        seed in any::<u64>(),
        restarts in 0..4u32,
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(program, seed, restarts, 3));
    }
}

#[test]
fn no_timer_is_passed_over_while_others_are_begun() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(play(vec![Step::Timer; 8], 1, 0, 200));
}

#[test]
fn sections_of_many_instances_follow_each_other_and_lose_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in 0..2 {
        let program = vec![Step::Section, Step::Signal, Step::Section, Step::Call, Step::Section];
        runtime.block_on(play(program, seed, 3, 6));
    }
}
