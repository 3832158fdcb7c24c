//! The state machine by itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::workflow::{
    action::State,
    calls::fresh,
    core::{self, Diverged, Turned},
    history::EventType,
    record::{Failure, Message, Open, Record, Status, Work},
};

fn record() -> Record {
    let workflow = "urn:tandem:shop:dev:workflow:chain".parse().unwrap();
    fresh(workflow, "i".into(), "v".into(), Some(json!(7)), Timestamp::UNIX_EPOCH)
}

fn state(json: Value) -> State {
    serde_json::from_value(json).unwrap()
}

/// An instance with what it has open, told things and answered by a script.
struct Instance {
    record: Record,
    open: BTreeMap<u32, Open>,
    events: Vec<(EventType, i64)>,
}

impl Instance {
    fn new() -> Self {
        Self { record: record(), open: BTreeMap::new(), events: Vec::new() }
    }

    fn done(&self, task: u32, result: Result<Value, &str>) -> Message {
        let failure = |reason: &str| Failure { reason: reason.into(), details: String::new() };
        Message::Done { execution: self.record.execution.clone(), task, result: result.map_err(failure) }
    }

    fn fired(&self, task: u32) -> Message {
        Message::Fired { execution: self.record.execution.clone(), task }
    }

    fn turn(&mut self, messages: Vec<Message>, answer: Value) -> Result<Option<Turned>, Diverged> {
        let now = self.record.updated;
        let Some(turn) = core::begin(&self.record, &self.open, messages, now) else { return Ok(None) };
        let turned = core::end(&self.record, turn, state(answer), "a")?;
        self.record = turned.record.clone();
        self.open.retain(|task, _| !turned.closed.contains(task));
        self.open.extend(turned.opened.clone());
        self.events.extend(turned.events.iter().map(|event| (event.event_type, event.event_id)));
        Ok(Some(turned))
    }
}

#[test]
fn a_chain_begins_one_task_after_the_other_and_ends_with_the_last_result() {
    let mut one = Instance::new();
    let call = |name: &str| json!({ "actionType": 0, "functionName": name });
    one.turn(vec![], json!({ "isDone": false, "actions": [[call("F1")]] })).unwrap().unwrap();
    assert!(matches!(&one.open[&0].work, Work::Activity { name, input: None } if name == "F1"));
    // With the whole list, or with what is new: both are understood.
    let done = one.done(0, Ok(json!(1)));
    one.turn(vec![done], json!({ "actions": [[call("F1"), call("F2")]] })).unwrap().unwrap();
    assert_eq!(one.open.keys().copied().collect::<Vec<_>>(), [1]);
    let done = one.done(1, Ok(json!(2)));
    one.turn(vec![done], json!({ "from": 2, "actions": [[call("F3")]] })).unwrap().unwrap();
    let done = one.done(2, Ok(json!(3)));
    let answer = json!({ "isDone": true, "output": 3, "from": 3, "actions": [[]] });
    one.turn(vec![done], answer).unwrap().unwrap();
    assert_eq!((one.record.status, one.record.output), (Status::Completed, Some(json!(3))));
    assert!(one.open.is_empty());
}

#[test]
fn what_was_told_before_is_told_to_nobody() {
    let mut one = Instance::new();
    let call = json!({ "actionType": 0, "functionName": "F" });
    one.turn(vec![], json!({ "actions": [[call]] })).unwrap().unwrap();
    let (first, second) = (one.done(0, Ok(json!(1))), one.done(0, Ok(json!(2))));
    let turned =
        one.turn(vec![first, second.clone()], json!({ "from": 1, "actions": [[]] })).unwrap().unwrap();
    let results: Vec<_> = turned.events.iter().filter_map(|event| event.result.as_deref()).collect();
    assert_eq!(results, ["1"]);
    assert_eq!(one.turn(vec![second], json!({ "actions": [[]] })), Ok(None));
    let of_another = Message::Done { execution: "x".into(), task: 0, result: Ok(json!(1)) };
    assert_eq!(one.turn(vec![of_another], json!({ "actions": [[]] })), Ok(None));
}

#[test]
fn a_retry_takes_an_id_for_its_pause_and_one_for_its_attempt_and_pauses_after_the_last_one() {
    let mut one = Instance::new();
    let retries = json!({ "firstRetryIntervalInMilliseconds": 1000, "maxNumberOfAttempts": 2, "backoffCoefficient": 3 });
    let call = json!({ "actionType": 1, "functionName": "F", "retryOptions": retries });
    let wait = json!({ "from": 1, "actions": [[]] });
    one.turn(vec![], json!({ "actions": [[call]] })).unwrap().unwrap();
    let failed = one.done(0, Err("no"));
    let turned = one.turn(vec![failed], wait.clone()).unwrap().unwrap();
    assert_eq!(turned.opened.keys().copied().collect::<Vec<_>>(), [1]);
    let Work::Timer { fire_at, .. } = &one.open[&1].work else { panic!() };
    assert_eq!(fire_at.as_second(), 1);
    let fired = one.fired(1);
    one.turn(vec![fired], wait.clone()).unwrap().unwrap();
    assert!(matches!(&one.open[&2].work, Work::Activity { .. }));
    let failed = one.done(2, Err("no again"));
    one.turn(vec![failed], wait.clone()).unwrap().unwrap();
    let Work::Timer { fire_at, .. } = &one.open[&3].work else { panic!() };
    assert_eq!(fire_at.as_second(), 3);
    let fired = one.fired(3);
    let answer = json!({ "from": 1, "error": "no again", "actions": [[]] });
    one.turn(vec![fired], answer).unwrap().unwrap();
    assert_eq!(one.record.status, Status::Failed);
    assert_eq!(one.record.next_task, 4);
}

#[test]
fn what_only_leads_to_a_retry_comes_first_in_a_turn() {
    let mut one = Instance::new();
    let retries = json!({ "firstRetryIntervalInMilliseconds": 1, "maxNumberOfAttempts": 2 });
    let both = json!({ "actionType": 11, "compoundActions": [
        { "actionType": 1, "functionName": "F", "retryOptions": retries },
        { "actionType": 0, "functionName": "G" },
    ] });
    one.turn(vec![], json!({ "actions": [[both]] })).unwrap().unwrap();
    let told = vec![one.done(1, Ok(json!(1))), one.done(0, Err("no"))];
    // The orchestrator saw the failure first, so its next task is number 3.
    let answer = json!({ "from": 2, "actions": [[{ "actionType": 0, "functionName": "H", "id": 3 }]] });
    let turned = one.turn(told, answer).unwrap().unwrap();
    let kinds: Vec<_> = turned.events.iter().map(|event| (event.event_type, event.event_id)).collect();
    use EventType::{
        OrchestratorCompleted, OrchestratorStarted, TaskCompleted, TaskFailed, TaskScheduled, TimerCreated,
    };
    assert_eq!(
        kinds,
        [
            (OrchestratorStarted, -1),
            (TaskFailed, -1),
            (TimerCreated, 2),
            (TaskCompleted, -1),
            (TaskScheduled, 3),
            (OrchestratorCompleted, -1)
        ]
    );
}

#[test]
fn another_action_than_before_is_told() {
    let mut one = Instance::new();
    let call = |id: u32| json!({ "actionType": 0, "functionName": "F", "id": id });
    one.turn(vec![], json!({ "actions": [[call(0), call(1)]] })).unwrap().unwrap();
    let done = one.done(0, Ok(json!(1)));
    let fewer = one.turn(vec![done.clone()], json!({ "actions": [[call(0)]] }));
    assert_eq!(fewer, Err(Diverged::Fewer { before: 2, now: 1 }));
    let other = one.turn(vec![done], json!({ "from": 2, "actions": [[call(7)]] }));
    assert_eq!(other, Err(Diverged::Task { action: 2, told: 7, counted: 2 }));
}

#[test]
fn a_timer_that_is_cancelled_fires_for_nobody() {
    let mut one = Instance::new();
    let timer = json!({ "actionType": 5, "fireAt": "2030-01-01T00:00:00Z" });
    let event = json!({ "actionType": 6, "externalEventName": "go" });
    one.turn(vec![], json!({ "actions": [[{ "actionType": 11, "compoundActions": [timer, event] }]] }))
        .unwrap()
        .unwrap();
    let raised = Message::Raised { name: "go".into(), data: json!(true) };
    let turned =
        one.turn(vec![raised], json!({ "from": 2, "canceled": [0], "actions": [[]] })).unwrap().unwrap();
    assert_eq!(turned.closed, [0].into());
    let fired = one.fired(0);
    assert_eq!(one.turn(vec![fired], json!({ "actions": [[]] })), Ok(None));
}

#[test]
fn an_execution_that_goes_on_as_a_new_one_forgets_the_old_one() {
    let mut one = Instance::new();
    let answer = json!({ "isDone": true, "actions": [[{ "actionType": 4, "input": 8 }]] });
    let turned = one.turn(vec![], answer).unwrap().unwrap();
    assert!(turned.renewed);
    assert_eq!((one.record.input, one.record.turns, one.record.status), (Some(json!(8)), 0, Status::Pending));
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let nothing = Some(Value::Null);
    let one = Record { input: nothing.clone(), output: nothing.clone(), custom_status: nothing, ..record() };
    let row = crate::workflow::store::json(&one);
    let read: Record = serde_json::from_slice(&row).unwrap();
    assert_eq!(crate::workflow::store::json(&read), row);
}

#[test]
fn messages_to_entities_leave_in_their_order_and_an_answer_is_an_event_of_its_message() {
    let mut one = Instance::new();
    let message = |kind: u32, operation: &str, id: u32| json!({ "actionType": kind, "instanceId": "@c@k", "operation": operation, "input": "\"x\"", "id": id });
    let actions = json!({ "actions": [[message(9, "a", 0), message(7, "b", 1)]] });
    let turned = one.turn(vec![], actions).unwrap().unwrap();
    let sent: Vec<_> = turned.sent.iter().map(|one| (one.operation.as_str(), one.waits)).collect();
    assert_eq!(sent, [("a", false), ("b", true)]);
    assert_eq!(one.open.keys().copied().collect::<Vec<_>>(), [1], "nobody waits for a signal");
    let message = turned.sent[1].id(&one.record.execution);
    let recorded = turned.events.iter().find(|event| event.event_id == 1).unwrap();
    let input: Value = serde_json::from_str(recorded.input.as_ref().unwrap()).unwrap();
    assert_eq!((&input["id"], &input["input"]), (&json!(message), &json!("\"x\"")));
    let answer = one.done(1, Err("no"));
    let turned =
        one.turn(vec![answer], json!({ "from": 2, "isDone": true, "actions": [[]] })).unwrap().unwrap();
    let event = turned.events.iter().find(|event| event.event_type == EventType::EventRaised).unwrap();
    assert_eq!(event.name.as_deref(), Some(message.as_str()));
    let answered: Value = serde_json::from_str(event.input.as_ref().unwrap()).unwrap();
    assert_eq!(answered, json!({ "result": "\"no\"", "exceptionType": "Error" }));
    assert!(one.open.is_empty());
}

#[test]
fn what_is_sent_to_entities_leaves_also_with_a_turn_that_begins_anew_or_ends() {
    for end in [json!({ "actionType": 4, "input": 2 }), Value::Null] {
        let mut one = Instance::new();
        let signal = json!({ "actionType": 9, "instanceId": "@c@k", "operation": "a", "id": 0 });
        let actions: Vec<_> = [signal, end].into_iter().filter(|action| !action.is_null()).collect();
        let answer = json!({ "isDone": true, "actions": [actions] });
        assert_eq!(one.turn(vec![], answer).unwrap().unwrap().sent.len(), 1);
    }
}

fn lock(id: u32) -> Value {
    json!({ "actionType": 102, "entities": ["@c@b", "@c@a"], "id": id })
}

/// What the last entity says when it gives the lock of that task.
fn given(one: &Instance, task: u32) -> Message {
    let Work::Lock { id, .. } = &one.open[&task].work else { panic!("no lock") };
    one.done(task, Ok(json!(id)))
}

#[test]
fn a_lock_is_open_until_it_is_given_back_and_its_calls_are_known_as_such() {
    let mut one = Instance::new();
    one.turn(vec![], json!({ "actions": [[lock(0)]] })).unwrap().unwrap();
    let Work::Lock { entities, since: None, .. } = &one.open[&0].work else { panic!() };
    assert_eq!(entities, &["@c@a", "@c@b"], "everybody locks in the same order");
    // Of another request, as before a rewinding.
    let stale = one.done(0, Ok(json!("another")));
    assert_eq!(one.turn(vec![stale], json!({ "from": 1, "actions": [[]] })), Ok(None));
    let call = |to: &str, kind: u32, id: u32| json!({ "actionType": kind, "instanceId": to, "operation": "a", "id": id });
    let told = vec![given(&one, 0), given(&one, 0)];
    let actions = json!({ "from": 1, "actions": [[call("@c@a", 7, 1), call("@c@x", 9, 2)]] });
    let turned = one.turn(told, actions).unwrap().unwrap();
    assert!(matches!(&one.open[&0].work, Work::Lock { since: Some(_), .. }));
    let within: Vec<_> = turned.sent.iter().map(|sent| (sent.to.as_str(), sent.within)).collect();
    assert_eq!(within, [("@c@a", true), ("@c@x", false)]);
    let times = one.events.iter().filter(|(kind, _)| *kind == EventType::LockAcquired).count();
    assert_eq!(times, 1);
    let again = given(&one, 0);
    assert_eq!(one.turn(vec![again], json!({ "from": 3, "actions": [[]] })), Ok(None));
    let unlock = json!({ "actionType": 103, "lock": 0, "entities": ["@c@b", "@c@a"], "id": 3 });
    let answer = one.done(1, Ok(json!(1)));
    let actions = json!({ "from": 3, "actions": [[unlock, call("@c@a", 7, 4)]] });
    let turned = one.turn(vec![answer], actions).unwrap().unwrap();
    assert_eq!(one.open.keys().copied().collect::<Vec<_>>(), [4]);
    assert!(!turned.sent[0].within, "it comes after the section");
}

#[test]
fn a_lock_that_is_given_and_given_back_in_one_turn_is_open_no_more() {
    let mut one = Instance::new();
    one.turn(vec![], json!({ "actions": [[lock(0)]] })).unwrap().unwrap();
    let unlock = json!({ "actionType": 103, "lock": 0, "entities": ["@c@b", "@c@a"], "id": 1 });
    let told = vec![given(&one, 0)];
    let turned = one.turn(told, json!({ "from": 1, "actions": [[unlock, lock(2)]] })).unwrap().unwrap();
    assert_eq!((turned.closed, one.open.keys().copied().collect::<Vec<_>>()), ([0].into(), vec![2]));
}

#[test]
fn a_lock_that_is_refused_is_over() {
    let mut one = Instance::new();
    one.turn(vec![], json!({ "actions": [[lock(0)]] })).unwrap().unwrap();
    let refused = one.done(0, Err("no"));
    let turned = one.turn(vec![refused], json!({ "from": 1, "actions": [[]] })).unwrap().unwrap();
    let event = turned.events.iter().find(|event| event.event_type == EventType::LockAcquired).unwrap();
    assert_eq!((event.reason.as_deref(), event.task_scheduled_id), (Some("no"), Some(0)));
    assert!(one.open.is_empty());
}

#[test]
fn another_lock_than_before_is_told() {
    let mut one = Instance::new();
    let wrong = one.turn(vec![], json!({ "actions": [[lock(1)]] }));
    assert_eq!(wrong, Err(Diverged::Task { action: 0, told: 1, counted: 0 }));
}

#[test]
fn an_instance_that_ends_or_begins_anew_has_no_lock() {
    for end in [
        json!({ "isDone": true, "from": 1, "actions": [[]] }),
        json!({ "isDone": true, "from": 1, "actions": [[{ "actionType": 4 }]] }),
    ] {
        let mut one = Instance::new();
        one.turn(vec![], json!({ "actions": [[lock(0)]] })).unwrap().unwrap();
        let told = vec![given(&one, 0)];
        let turned = one.turn(told, end).unwrap().unwrap();
        assert!(turned.opened.is_empty() && (turned.renewed || turned.record.status.ended()));
    }
}
