//! Entities: the example, as it stands, and a cloud that is killed at each of their commits.

use std::{thread::sleep, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Cloud, Project};

pub(crate) fn told(project: &Project, id: &str) -> Option<Value> {
    let shown = project.tandem(&["workflow", "show", id, "--json"]);
    (shown.code == Some(0)).then(|| serde_json::from_str(&shown.stdout).expect("it is JSON"))
}

pub(crate) fn until(project: &Project, id: &str, fits: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        if let Some(now) = told(project, id).filter(&fits) {
            return now;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{id} is not as it should be: {:?}", told(project, id));
}

pub(crate) fn completed(project: &Project, id: &str) -> Value {
    let ended = until(project, id, |now| {
        ["Completed", "Failed"].contains(&now["runtimeStatus"].as_str().unwrap_or_default())
    });
    assert_eq!(ended["runtimeStatus"], "Completed", "{ended}");
    ended
}

#[test]
fn transfers_between_accounts_lose_and_make_no_money() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "entities");
    let _serving = cloud.serve();
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    project.tandem(&["workflow", "signal", "@account@ada", "deposit", "100"]).ok();
    until(&project, "@account@ada", |now| now["state"] == json!(100));
    let transfer = |amount: u32| {
        let input = json!({ "from": "ada", "to": "bob", "amount": amount }).to_string();
        project.tandem(&["workflow", "start", "transfer", &input, "--wait"])
    };
    assert_eq!(transfer(30).ok().stdout.trim(), "{\"ada\":70,\"bob\":30}");
    transfer(71).failed("E0876").says("70 is not enough for 71");
    assert_eq!(project.tandem(&["invoke", "balance", "\"bob\""]).ok().stdout.trim(), "30");
    let listed = project.tandem(&["workflow", "entities"]).ok().stdout;
    assert!(listed.contains("@account@ada") && listed.contains("@account@bob"), "{listed}");
    assert!(project.tandem(&["workflow", "show", "@account@ada"]).ok().stdout.contains("70"));
    project.tandem(&["workflow", "show", "@account@eve"]).failed("E0871");
    project.tandem(&["workflow", "signal", "@acount@eve", "deposit", "1"]).failed("E0878");
    project.tandem(&["workflow", "signal", "account", "deposit", "1"]).failed("E0878").says("@NAME@KEY");
    // States are data.
    project.tandem(&["destroy", "--yes"]).failed("E0206").says("2 states");
    project.tandem(&["destroy", "--yes", "--force"]).ok();
    project.up();
    project.tandem(&["workflow", "show", "@account@ada"]).failed("E0871");
    project.destroy();
}

const PROGRAM: &str = r#"
const cloud = require('@tandem/cloud');
const df = require('durable-functions');
const counter = new cloud.Entity('counter', df.entity((ctx) => {
    const input = ctx.df.getInput();
    switch (ctx.df.operationName) {
        case 'add':
            ctx.df.setState(ctx.df.getState(() => 0) + input);
            break;
        case 'get':
            ctx.df.return(ctx.df.getState(() => 0));
            break;
        case 'pass':
            ctx.df.signalEntity(new df.EntityId('counter', 'other'), 'add', input);
            break;
        case 'list':
            ctx.df.setState([...ctx.df.getState(() => []), input]);
            break;
        case 'fail':
            throw new Error(`${input} on purpose`);
        case 'enter':
            if (ctx.df.getState() === undefined) throw new Error('it is shut');
            ctx.df.return(ctx.df.getState());
            break;
        case 'hang':
            for (;;);
    }
}), { forceDestroy: true, timeout: 2 });
new cloud.Workflow('work', df.orchestrator(function* (ctx) {
    const one = new df.EntityId('Counter', 'one');
    ctx.df.signalEntity(one, 'add', 1);
    yield ctx.df.callEntity(one, 'add', 1);
    yield ctx.df.callEntity(one, 'pass', 1);
    return yield ctx.df.callEntity(one, 'get');
}));
new cloud.Workflow('wrong', df.orchestrator(function* (ctx) {
    const said = [];
    for (const [name, operation] of [['counter', 'fail'], ['nobody', 'add'], ['counter', 'hang']]) {
        try {
            yield ctx.df.callEntity(new df.EntityId(name, 'wrong'), operation, 'failed');
        } catch (error) {
            said.push(error.message);
        }
    }
    return said;
}));
new cloud.Workflow('again', df.orchestrator(function* (ctx) {
    const n = ctx.df.getInput();
    ctx.df.signalEntity(new df.EntityId('counter', 'list'), 'list', n);
    if (n === 12) return n;
    yield ctx.df.createTimer(ctx.df.currentUtcDateTime);
    ctx.df.signalEntity(new df.EntityId('counter', 'list'), 'list', -n);
    ctx.df.continueAsNew(n + 1);
}));
new cloud.Workflow('enter', df.orchestrator(function* (ctx) {
    const gate = new df.EntityId('counter', 'gate');
    return yield ctx.df.callEntity(gate, 'enter');
}));
const b = new cloud.Bucket('b', { forceDestroy: true });
b.onPut('count', async () => {
    await counter.signal('puts', 'add', 1);
    await df.getClient().signalEntity(new df.EntityId('Counter', 'puts'), 'add', 10);
});
new cloud.Function('put', async (key) => { await b.put(key, 'x'); });
"#;

/// Where entities' commits are, and what lies between them.
const POINTS: &[&str] = &[
    "workflow.turn.answered",
    "workflow.turn.committed",
    "workflow.turn.committed@2",
    "entity.batch.answered",
    "entity.batch.answered@2",
    "entity.batch.answered@4",
    "entity.batch.committed",
    "entity.batch.committed@2",
    "entity.batch.committed@3",
    "entity.batch.committed@4",
];

#[test]
fn a_kill_at_any_commit_point_of_an_entity_applies_each_operation_once() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let serving = cloud.serve();
    project.up();
    serving.kill();
    for (number, point) in (1..).zip(POINTS) {
        let id = format!("i{number}");
        let serving = cloud.serve_until(point);
        let started = project.tandem(&["workflow", "start", "work", "--id", &id]);
        serving.died(point);

        let serving = cloud.serve();
        if told(&project, &id).is_none() {
            assert_ne!(started.code, Some(0), "{point}: what was acknowledged is gone");
            project.tandem(&["workflow", "start", "work", "--id", &id]).ok();
        }
        let ended = completed(&project, &id);
        assert_eq!(ended["output"], json!(2 * number), "{point}: {ended}");
        // What the entity passed on comes later.
        until(&project, "@counter@other", |now| now["state"] == json!(number));
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    let one = told(&project, "@counter@one").expect("it has a state");
    assert_eq!(one["state"], json!(2 * POINTS.len()));
    assert_eq!(one["operations"], json!(4 * POINTS.len()), "each was applied once");
    project.destroy();
}

#[test]
fn a_handler_that_is_killed_while_it_signals_signals_once() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let serving = cloud.serve();
    project.up();
    serving.kill();
    let points = ["entity.signal.committed", "entity.signal.committed@2", "entity.batch.committed"];
    for (number, point) in (1..).zip(points) {
        let serving = cloud.serve_until(point);
        // Whether it is answered or not, the object is there before anybody is told of it.
        let _ = project.tandem(&["invoke", "put", &format!("\"k{number}\"")]);
        serving.died(point);
        let serving = cloud.serve();
        until(&project, "@counter@puts", |now| now["state"] == json!(11 * number));
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    let puts = told(&project, "@counter@puts").expect("it has a state");
    assert_eq!((&puts["state"], &puts["operations"]), (&json!(33), &json!(6)));
    project.destroy();
}

#[test]
fn an_operation_that_fails_is_an_error_for_who_called_and_signals_of_one_sender_keep_their_order() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let _serving = cloud.serve();
    project.up();
    project.tandem(&["workflow", "start", "wrong", "--id", "wrong"]).ok();
    let said = completed(&project, "wrong")["output"].clone();
    assert_eq!(said[0], "failed on purpose", "{said}");
    assert!(said[1].to_string().contains("there is no entity `nobody`"), "{said}");
    assert!(said[2].to_string().contains("timed out"), "{said}");
    project.tandem(&["workflow", "start", "again", "1", "--id", "again"]).ok();
    assert_eq!(completed(&project, "again")["output"], 12);
    let expected: Vec<i32> = (1..12).flat_map(|n| [n, -n]).chain([12]).collect();
    until(&project, "@counter@list", |now| now["state"] == json!(expected));
    let shown = project.tandem(&["workflow", "show", "wrong"]).ok().stdout;
    assert!(shown.contains("entity @counter@wrong fail"), "{shown}");
    project.destroy();
}

#[test]
fn an_instance_that_failed_by_an_entity_asks_it_again_when_it_is_rewound() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let _serving = cloud.serve();
    project.up();
    project
        .tandem(&["workflow", "start", "enter", "--id", "one", "--wait"])
        .failed("E0876")
        .says("it is shut");
    project.tandem(&["workflow", "signal", "@counter@gate", "add", "7"]).ok();
    project.tandem(&["workflow", "rewind", "one"]).ok();
    assert_eq!(completed(&project, "one")["output"], 7);
    project.destroy();
}
