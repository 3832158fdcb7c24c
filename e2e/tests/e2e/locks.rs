//! Critical sections: instances that have several entities to themselves, and give them back however they end.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    entities::{completed, told, until},
    harness::{Cloud, Project},
};

const HEAD: &str = r#"
const cloud = require('@tandem/cloud');
const df = require('durable-functions');
new cloud.Entity('account', df.entity((ctx) => {
    const input = ctx.df.getInput();
    switch (ctx.df.operationName) {
        case 'get':
            ctx.df.return(ctx.df.getState(() => 0));
            break;
        case 'set':
            ctx.df.setState(input);
            break;
        case 'add':
            ctx.df.setState(ctx.df.getState(() => 0) + input);
            break;
        case 'list':
            ctx.df.setState([...ctx.df.getState(() => []), input]);
            break;
        case 'enter':
            if (ctx.df.getState() === undefined) throw new Error('it is shut');
    }
}), { forceDestroy: true });
const account = (key) => new df.EntityId('account', key);
"#;

const TRANSFERS: &str = r#"
// Reads and writes are operations of their own: what came between them would be lost.
new cloud.Workflow('transfer', df.orchestrator(function* (ctx) {
    const [from, to, amount] = ctx.df.getInput();
    const [a, b] = [account(from), account(to)];
    const lock = yield ctx.df.lockEntities(a, b);
    try {
        const has = yield ctx.df.callEntity(a, 'get');
        const had = yield ctx.df.callEntity(b, 'get');
        if (has < amount) return 0;
        // Others may be signalled, and activities wait as ever.
        ctx.df.signalEntity(account('bank'), 'add', yield ctx.df.callActivity('fee', amount));
        yield ctx.df.callEntity(a, 'set', has - amount);
        yield ctx.df.callEntity(b, 'set', had + amount);
    } finally {
        lock.release();
    }
    // It goes on without them.
    yield ctx.df.createTimer(ctx.df.currentUtcDateTime);
    return amount;
}));
new cloud.Function('fee', async () => 1);
new cloud.Workflow('transfers', df.orchestrator(function* (ctx) {
    for (const [, to] of ctx.df.getInput()) ctx.df.signalEntity(account(to), 'add', 1);
    return yield ctx.df.Task.all(ctx.df.getInput().map((one) => ctx.df.callSubOrchestrator('transfer', one)));
}));
"#;

const HOLDERS: &str = r#"
new cloud.Workflow('hold', df.orchestrator(function* (ctx) {
    const keys = ctx.df.getInput();
    const lock = yield ctx.df.lockEntities(...keys.map(account));
    const how = yield ctx.df.waitForExternalEvent('go');
    if (how === 'fail') throw new Error('on purpose');
    if (how === 'again') return ctx.df.continueAsNew(keys);
    yield ctx.df.callEntity(account(keys[0]), 'list', how);
    lock.release();
    yield ctx.df.waitForExternalEvent('end');
    return ctx.df.isLocked().isLocked;
}));
new cloud.Workflow('push', df.orchestrator(function* (ctx) {
    const [key, value] = ctx.df.getInput();
    yield ctx.df.callEntity(account(key), 'list', value);
}));
new cloud.Workflow('gated', df.orchestrator(function* (ctx) {
    const lock = ctx.df.lockEntities(account('a'));
    yield ctx.df.Task.all([lock, ctx.df.callEntity(account('gate'), 'enter')]);
    lock.result.release();
    return 'in';
}));
new cloud.Workflow('nobody', df.orchestrator(function* (ctx) {
    try {
        yield ctx.df.lockEntities(account('a'), new df.EntityId('nobody', 'x'));
    } catch (error) {
        return error.message;
    }
}));
"#;

fn start(project: &Project, workflow: &str, input: &Value, id: &str) {
    project.tandem(&["workflow", "start", workflow, &input.to_string(), "--id", id]).ok();
}

fn signal(project: &Project, key: &str, operation: &str, input: &str) {
    project.tandem(&["workflow", "signal", &format!("@account@{key}"), operation, input]).ok();
}

fn state_of(project: &Project, key: &str) -> Value {
    told(project, &format!("@account@{key}")).map_or(Value::Null, |now| now["state"].clone())
}

fn becomes(project: &Project, key: &str, state: Value) {
    until(project, &format!("@account@{key}"), |now| now["state"] == state && now.get("lockedBy").is_none());
}

/// Starts a holder, and waits until it has its lock.
fn hold(project: &Project, keys: &[&str], id: &str) {
    start(project, "hold", &json!(keys), id);
    until(project, id, |now| now["lock"].get("heldSince").is_some());
}

#[test]
fn transfers_that_read_and_write_in_critical_sections_lose_nothing_whatever_order_they_lock_in() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", &format!("{HEAD}{TRANSFERS}"))]);
    let _serving = cloud.serve();
    project.up();
    let keys = ["ada", "bob", "cid", "dan"];
    for key in keys {
        signal(&project, key, "set", "50");
    }
    // Every pair in both directions, so that without an order somebody would wait for ever.
    let pairs = (0..60).map(|n| (keys[n % 4], keys[(n % 4 + 1 + n % 3) % 4], 1 + n * 7 % 40));
    let transfers: Vec<_> = pairs.collect();
    start(&project, "transfers", &json!(transfers), "all");
    let moved = completed(&project, "all")["output"].clone();
    let mut expected: BTreeMap<&str, i64> = keys.iter().map(|key| (*key, 50)).collect();
    for (n, (from, to, amount)) in transfers.iter().enumerate() {
        let amount = i64::try_from(*amount).expect("it is small");
        let moved = moved[n].as_i64().expect("an amount");
        assert!(moved == amount || moved == 0, "{moved} of {amount}");
        *expected.entry(from).or_default() -= moved;
        // Somebody else adds one at the same time.
        *expected.entry(to).or_default() += moved + 1;
    }
    for key in keys {
        becomes(&project, key, json!(expected[key]));
    }
    let moved = moved.as_array().expect("a list").iter().filter(|one| **one != json!(0)).count();
    assert!(moved > 10, "{moved} transfers");
    becomes(&project, "bank", json!(moved));
    project.destroy();
}

/// Where the commits of a transfer are, and what lies between them.
const POINTS: &[&str] = &[
    "workflow.turn.answered",
    "workflow.turn.committed",
    "entity.lock.committed",
    "entity.lock.committed@2",
    "workflow.turn.answered@2",
    "workflow.turn.committed@2",
    "entity.batch.answered",
    "entity.batch.committed",
    "entity.batch.committed@4",
    "workflow.turn.answered@7",
    // It released its lock, and goes on.
    "workflow.turn.committed@7",
    "workflow.turn.committed@8",
];

#[test]
fn a_kill_at_any_commit_point_of_a_critical_section_neither_loses_nor_keeps_a_lock() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", &format!("{HEAD}{TRANSFERS}"))]);
    let serving = cloud.serve();
    project.up();
    signal(&project, "ada", "set", "100");
    becomes(&project, "ada", json!(100));
    serving.kill();
    for (number, point) in (1..).zip(POINTS) {
        let id = format!("i{number}");
        let serving = cloud.serve_until(point);
        let input = json!(["ada", "bob", 1]).to_string();
        let started = project.tandem(&["workflow", "start", "transfer", &input, "--id", &id]);
        serving.died(point);

        let serving = cloud.serve();
        if told(&project, &id).is_none() {
            assert_ne!(started.code, Some(0), "{point}: what was acknowledged is gone");
            project.tandem(&["workflow", "start", "transfer", &input, "--id", &id]).ok();
        }
        completed(&project, &id);
        becomes(&project, "ada", json!(100 - number));
        becomes(&project, "bob", json!(number));
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    let bob = told(&project, "@account@bob").expect("it has a state");
    assert_eq!(bob["operations"], json!(2 * POINTS.len()), "each was applied once");
    project.destroy();
}

#[test]
fn what_others_ask_of_a_locked_entity_waits_in_its_order() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", &format!("{HEAD}{HOLDERS}"))]);
    let serving = cloud.serve();
    project.up();
    hold(&project, &["b", "a"], "one");
    let shown = project.tandem(&["workflow", "show", "one"]).ok().stdout;
    assert!(shown.contains("on @account@a, @account@b: held for"), "{shown}");
    let shown = project.tandem(&["workflow", "show", "@account@b"]).ok().stdout;
    assert!(shown.contains("locked    by one for"), "{shown}");
    signal(&project, "b", "list", "1");
    start(&project, "push", &json!(["b", 2]), "two");
    until(&project, "two", |now| now["historyEvents"].to_string().contains("EventSent"));
    signal(&project, "b", "list", "3");
    start(&project, "hold", &json!(["b"]), "three");
    until(&project, "three", |now| now["lock"]["heldBy"]["@account@b"]["instanceId"] == "one");
    let shown = project.tandem(&["workflow", "show", "three"]).ok().stdout;
    assert!(shown.contains("on @account@b: waits for it; one has @account@b"), "{shown}");
    signal(&project, "b", "list", "4");
    // A restart changes nothing.
    serving.kill();
    let _serving = cloud.serve();
    assert_eq!(state_of(&project, "b"), Value::Null);
    project.tandem(&["workflow", "raise", "one", "go", "0"]).ok();
    completed(&project, "two");
    // The next one has it before the last signal.
    until(&project, "three", |now| now["lock"].get("heldSince").is_some());
    assert_eq!(state_of(&project, "b"), json!([0, 1, 2, 3]));
    assert_eq!(told(&project, "one").expect("it goes on").get("lock"), None);
    project.tandem(&["workflow", "raise", "one", "end", "0"]).ok();
    assert_eq!(completed(&project, "one")["output"], json!(false));
    project.tandem(&["workflow", "raise", "three", "go", "\"three\""]).ok();
    project.tandem(&["workflow", "raise", "three", "end", "0"]).ok();
    completed(&project, "three");
    becomes(&project, "b", json!([0, 1, 2, 3, "three", 4]));
    let shown = project.tandem(&["workflow", "show", "three"]).ok().stdout;
    assert!(shown.contains("lock on @account@b") && shown.contains("given"), "{shown}");
    assert!(shown.contains("release of @account@b"), "{shown}");
    assert_eq!(told(&project, "three").expect("it is there").get("lock"), None);
    project.destroy();
}

#[test]
fn an_instance_that_ends_gives_its_entities_back_however_it_ends() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", &format!("{HEAD}{HOLDERS}"))]);
    let _serving = cloud.serve();
    project.up();
    // One that holds its lock, and one that has the first of its entities and waits for the second.
    hold(&project, &["b"], "holder");
    start(&project, "hold", &json!(["b", "a"]), "waiter");
    until(&project, "@account@a", |now| now["lockedBy"]["instanceId"] == "waiter");
    let shown = project.tandem(&["workflow", "show", "@account@a"]).ok().stdout;
    assert!(shown.contains("locked    by waiter, which waits for others"), "{shown}");
    signal(&project, "a", "add", "1");
    signal(&project, "b", "add", "1");
    project.tandem(&["workflow", "terminate", "waiter", "--reason", "enough"]).ok();
    becomes(&project, "a", json!(1));
    assert_eq!(state_of(&project, "b"), Value::Null);
    project.tandem(&["workflow", "terminate", "holder", "--reason", "enough"]).ok();
    becomes(&project, "b", json!(1));

    // One that failed has given its lock back, and cannot take up where it was.
    hold(&project, &["b"], "failed");
    signal(&project, "b", "add", "1");
    project.tandem(&["workflow", "raise", "failed", "go", "\"fail\""]).ok();
    becomes(&project, "b", json!(2));
    project
        .tandem(&["workflow", "rewind", "failed"])
        .failed("E0881")
        .says("failed within a critical section");
    project.tandem(&["workflow", "purge", "failed"]).ok();

    // The next generation asks anew, behind who waits.
    hold(&project, &["b"], "again");
    signal(&project, "b", "add", "1");
    project.tandem(&["workflow", "raise", "again", "go", "\"again\""]).ok();
    until(&project, "@account@b", |now| now["state"] == json!(3));
    until(&project, "again", |now| now["lock"].get("heldSince").is_some());

    // Deleted with its workflow.
    signal(&project, "b", "add", "1");
    project.edit("index.js", HEAD);
    project.up();
    becomes(&project, "b", json!(4));
    project.destroy();
}

#[test]
fn an_instance_that_failed_while_it_waited_asks_for_its_lock_again_when_it_is_rewound() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", &format!("{HEAD}{HOLDERS}"))]);
    let _serving = cloud.serve();
    project.up();
    hold(&project, &["a"], "holder");
    start(&project, "gated", &Value::Null, "gated");
    until(&project, "gated", |now| now["runtimeStatus"] == "Failed");
    signal(&project, "gate", "set", "1");
    becomes(&project, "gate", json!(1));
    project.tandem(&["workflow", "rewind", "gated"]).ok();
    until(&project, "gated", |now| now["lock"]["heldBy"]["@account@a"]["instanceId"] == "holder");
    project.tandem(&["workflow", "raise", "holder", "go", "1"]).ok();
    assert_eq!(completed(&project, "gated")["output"], "in");
    becomes(&project, "a", json!([1]));
    // Of a set with somebody in it who is not there, nobody is locked.
    start(&project, "nobody", &Value::Null, "nobody");
    let said = completed(&project, "nobody")["output"].clone();
    assert!(said.to_string().contains("there is no entity `nobody`"), "{said}");
    becomes(&project, "a", json!([1]));
    project.destroy();
}
