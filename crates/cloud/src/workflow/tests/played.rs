//! Random programs on a random host: workers that forget their generators, are busy or lost, stores that refuse commits,
//! clouds that are closed in the middle. Every instance ends as its program says, and no result is recorded twice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};
use tandem_model::{
    Kind, PhysicalId, Report, StackId, Urn,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{MemoryStore, Store};

use crate::{
    provider::Lines,
    resource::Resources,
    workflow::{Call, EntityKey, Failure, Fault, Host, InstanceKey, Start, Status, Workflows},
};

/// A step of a program. What it gets is added to a sum, which the next one gets.
#[derive(Debug, Clone)]
enum Step {
    Activity,
    All(u64),
    Timer,
    Event,
    /// An operation of the entity, waited for.
    Call,
    /// One that nobody waits for.
    Signal,
}

/// Chances that are the same for the same seed.
struct Chance(AtomicU64);

impl Chance {
    /// Once in `n` times.
    fn one_in(&self, n: u64) -> bool {
        let seed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33).is_multiple_of(n)
    }
}

struct Played {
    program: Vec<Step>,
    chance: Chance,
    /// Instance and execution → the history that its generator has seen, and the attempt that it stands at.
    kept: Mutex<HashMap<String, (Vec<Value>, String)>>,
}

impl Played {
    /// What the program asks for after these events: flat actions, how many before the last event, the sum if it ended.
    fn play(&self, events: &[Value]) -> (Vec<Value>, Option<u64>) {
        let results: BTreeMap<u64, u64> = events
            .iter()
            .filter_map(|event| {
                let task = event.get("TaskScheduledId").or(event.get("TimerId"))?.as_u64()?;
                let answer: Value = serde_json::from_str(event["Input"].as_str().unwrap_or("null")).unwrap();
                let result = event["Result"].as_str().or(answer["result"].as_str()).unwrap_or("0");
                Some((task, result.parse().unwrap()))
            })
            .collect();
        let raised = events
            .iter()
            .filter(|event| event["EventType"] == 15 && event.get("TaskScheduledId").is_none())
            .count();
        let (mut actions, mut sum, mut ids, mut taken) = (Vec::new(), 0, 0, 0);
        for step in &self.program {
            let begin = ids;
            match step {
                Step::Activity => {
                    actions.push(json!({ "actionType": 0, "functionName": "next", "input": sum, "id": ids }));
                    ids += 1;
                }
                Step::All(count) => {
                    let all: Vec<_> = (0..*count)
                        .map(
                            |n| json!({ "actionType": 0, "functionName": "next", "input": n, "id": ids + n }),
                        )
                        .collect();
                    ids += count;
                    actions.push(json!({ "actionType": 12, "compoundActions": all }));
                }
                Step::Timer => {
                    actions.push(json!({ "actionType": 5, "fireAt": "1970-01-01T00:00:00Z", "id": ids }));
                    ids += 1;
                }
                Step::Call | Step::Signal => {
                    let waits = matches!(step, Step::Call);
                    actions.push(json!({
                        "actionType": if waits { 7 } else { 9 },
                        "instanceId": "@count@all", "operation": "add", "input": 1, "id": ids,
                    }));
                    ids += 1;
                    if !waits {
                        continue;
                    }
                }
                Step::Event => {
                    actions.push(json!({ "actionType": 6, "externalEventName": "go" }));
                    taken += 1;
                    if raised < taken {
                        return (actions, None);
                    }
                    sum += 1;
                }
            }
            let mut got = (begin..ids).map(|id| results.get(&id));
            match got.try_fold(0, |all, one| Some(all + one?)) {
                Some(got) => sum += got,
                None => return (actions, None),
            }
        }
        (actions, Some(sum))
    }

    fn expected(&self) -> u64 {
        self.program.iter().fold(0, |sum, step| {
            sum + match step {
                Step::Activity => sum + 1,
                Step::All(count) => (0..*count).map(|n| n + 1).sum(),
                Step::Timer | Step::Signal => 0,
                Step::Event | Step::Call => 1,
            }
        })
    }

    fn turn(&self, request: &Value) -> Value {
        let key = format!("{}/{}", request["instance"], request["execution"]);
        let mut kept = self.kept.lock().unwrap();
        let before = kept.remove(&key);
        let (mut events, seen) = match request.get("binding") {
            Some(binding) => (binding["history"].as_array().unwrap().clone(), None),
            None => match before {
                Some((events, at)) if request["hash"] == at.as_str() && !self.chance.one_in(5) => {
                    let seen = events.len();
                    (events, Some(seen))
                }
                _ => return json!({ "replay": true }),
            },
        };
        if let (Some(_), Some(new)) = (seen, request.get("events")) {
            events.extend(new.as_array().unwrap().iter().cloned());
        }
        let (actions, done) = self.play(&events);
        let skipped = seen.map_or(0, |seen| self.play(&events[..seen]).0.len());
        let flat = |actions: &[Value]| {
            actions
                .iter()
                .map(|one| one.get("compoundActions").map_or(1, |all| all.as_array().unwrap().len()))
                .sum::<usize>()
        };
        let state = json!({
            "isDone": done.is_some(),
            "output": done,
            "from": flat(&actions[..skipped]),
            "actions": [actions[skipped..]],
        });
        kept.insert(key, (events, request["commit"].as_str().unwrap().to_owned()));
        json!({ "state": state })
    }
}

fn lost() -> Report {
    Report { code: "E0000".into(), message: "lost".into(), help: String::new(), causes: vec![] }
}

#[async_trait]
impl Host for Played {
    async fn prepare(&self, _: &Change, _: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        Ok(Properties::new())
    }

    fn define(&self, _: &Urn, _: &PhysicalId, _: &Properties) {}

    fn forget(&self, _: &Urn, _: &PhysicalId) {}

    async fn turns(&self, _: &PhysicalId, request: Bytes, _: Option<String>) -> Result<Bytes, Fault> {
        if self.chance.one_in(12) {
            return Err(Fault::Busy(lost()));
        }
        let request: Value = serde_json::from_slice(&request).unwrap();
        let turns: Vec<_> = request["turns"].as_array().unwrap().iter().map(|one| self.turn(one)).collect();
        if self.chance.one_in(20) {
            // It worked, and nobody heard the answer.
            return Err(Fault::Busy(lost()));
        }
        Ok(json!({ "turns": turns }).to_string().into())
    }

    /// An entity that counts, and answers what it was given.
    async fn operations(&self, _: &Urn, request: Bytes, _: Option<String>) -> Result<Bytes, Fault> {
        let request: Value = serde_json::from_slice(&request).unwrap();
        let batch = request["batch"].as_array().unwrap();
        if batch.len() > 1 && self.chance.one_in(6) {
            return Err(Fault::Lost(lost()));
        }
        let mut state: u64 = request["state"].as_str().map_or(0, |text| text.parse().unwrap());
        let mut results = Vec::new();
        for operation in batch {
            let input = operation["input"].as_str().unwrap();
            state += input.parse::<u64>().unwrap();
            results.push(json!({ "isError": false, "result": input }));
        }
        if self.chance.one_in(6) {
            // It worked, and nobody heard the answer.
            return Err(Fault::Busy(lost()));
        }
        let state = state.to_string();
        let signals = Vec::<Value>::new();
        Ok(json!({ "entityExists": true, "entityState": state, "results": results, "signals": signals })
            .to_string()
            .into())
    }

    async fn activity(&self, call: Call) -> Result<Result<Value, Failure>, Fault> {
        if self.chance.one_in(8) {
            return Err(Fault::Busy(lost()));
        }
        tokio::task::yield_now().await;
        Ok(Ok(json!(call.input.as_u64().unwrap() + 1)))
    }

    fn run_of(&self, _: &Urn, key: &str) -> String {
        key.to_owned()
    }

    async fn run(&self, call: Call) -> Result<Result<Value, Failure>, Fault> {
        self.activity(call).await
    }
}

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
                Step::Event | Step::Call | Step::Signal => 0,
            })
            .sum();
        let ends =
            told.iter().filter(|one| ["TaskCompleted", "TimerFired"].contains(&one.event_type.as_str()));
        assert_eq!(ends.count() as u64, tasks, "{told:?}");
        assert!(told.iter().all(|one| !one.event_type.ends_with("Scheduled")), "{told:?}");
    }
    let sent = host.program.iter().filter(|step| matches!(step, Step::Call | Step::Signal)).count();
    let expected = (sent * instances) as u64 + signals;
    let applied =
        || workflows.entity(&counted).unwrap().map_or((json!(0), 0), |one| (one.state, one.operations));
    for _ in 0..6000 {
        if applied().1 == expected {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(applied(), (json!(expected), expected), "each operation counts once");
    workflows.close(Duration::from_secs(5)).await;
    assert_eq!(applied(), (json!(expected), expected));
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Activity),
        2 => (0..12u64).prop_map(Step::All),
        1 => Just(Step::Timer),
        2 => Just(Step::Event),
        2 => Just(Step::Call),
        1 => Just(Step::Signal),
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
