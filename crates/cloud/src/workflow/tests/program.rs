//! The host of [`super::played`]: plays programs, and forgets, is busy and lost by chance.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tandem_model::{PhysicalId, Report, Urn, plan::Change, resource::Properties};

use crate::{
    provider::Lines,
    workflow::{Call, Failure, Fault, Host},
};

/// A step of a program. What it gets is added to a sum, which the next one gets.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Activity,
    All(u64),
    Timer,
    Event,
    /// An operation of the entity, waited for.
    Call,
    /// One that nobody waits for.
    Signal,
    /// A critical section that reads an entity, adds one, and writes: what comes between would be lost.
    Section,
}

/// Chances that are the same for the same seed.
pub(super) struct Chance(pub(super) AtomicU64);

impl Chance {
    /// Once in `n` times.
    fn one_in(&self, n: u64) -> bool {
        let seed = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (seed ^ (seed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 33).is_multiple_of(n)
    }
}

pub(super) struct Played {
    pub(super) program: Vec<Step>,
    pub(super) chance: Chance,
    /// Instance and execution → the history that its generator has seen, and the attempt that it stands at.
    pub(super) kept: Mutex<HashMap<String, (Vec<Value>, String)>>,
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
                Step::Section => {
                    let call = |operation: &str, input: u64, id: u64| {
                        json!({
                            "actionType": 7, "instanceId": "@count@pair", "operation": operation, "input": input,
                            "id": id,
                        })
                    };
                    let entities = ["@count@pair", "@count@other"];
                    ids += 4;
                    actions.push(json!({ "actionType": 102, "entities": entities, "id": begin }));
                    if !results.contains_key(&begin) {
                        return (actions, None);
                    }
                    actions.push(call("get", 0, begin + 1));
                    let Some(found) = results.get(&(begin + 1)) else { return (actions, None) };
                    actions.push(call("set", found + 1, begin + 2));
                    if !results.contains_key(&(begin + 2)) {
                        return (actions, None);
                    }
                    actions.push(
                        json!({ "actionType": 103, "lock": begin, "entities": entities, "id": begin + 3 }),
                    );
                    continue;
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

    pub(super) fn expected(&self) -> u64 {
        self.program.iter().fold(0, |sum, step| {
            sum + match step {
                Step::Activity => sum + 1,
                Step::All(count) => (0..*count).map(|n| n + 1).sum(),
                Step::Timer | Step::Signal | Step::Section => 0,
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
            let input: u64 = operation["input"].as_str().unwrap().parse().unwrap();
            let result = match operation["name"].as_str().unwrap() {
                "get" => state,
                "set" => std::mem::replace(&mut state, input),
                _ => {
                    state += input;
                    input
                }
            };
            results.push(json!({ "isError": false, "result": result.to_string() }));
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
