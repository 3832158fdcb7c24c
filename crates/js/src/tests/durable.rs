//! `durable-functions`, as programs on the `js` host see it. What it does is tested under Node.js, beside the published
//! library: `cargo xtask test` installs both.

use std::{env, path::Path, process::Command};

use super::*;

/// Runs a script of `sdk/js/test/durable` under Node.js.
fn node(script: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/js/test/durable");
    let output = Command::new("node").arg(folder.join(script)).args(arguments).output().expect("Node.js");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// Where `cargo xtask setup` puts the published library.
fn packages() -> String {
    env::var("TANDEM_TEST_JS").expect("TANDEM_TEST_JS: run the tests by `cargo xtask test`")
}

#[test]
fn generated_orchestrators_do_what_they_do_with_the_published_library() {
    let said = node("oracle.mjs", &[&packages(), "400"]);
    assert!(said.starts_with("400 programs twice"), "{said}");
}

#[test]
fn ids_of_generated_orchestrators_are_those_that_the_cloud_gives() {
    let said = node("cloud.mjs", &["500"]);
    assert!(said.ends_with("ids agree\n"), "{said}");
}

#[test]
fn generated_batches_of_entities_end_as_with_the_published_library() {
    assert_eq!(node("entities.mjs", &[&packages(), "400"]), "400 batches: no difference\n");
}

#[test]
fn what_is_ours_does_what_its_page_says() {
    for script in ["behaviour.mjs", "mistakes.mjs", "turns.mjs", "client.mjs", "locks.mjs"] {
        node(script, &[]);
    }
}

#[test]
fn the_typings_allow_what_programs_do_with_entities_and_nothing_else() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/js/test/types");
    let compiler = Path::new(&packages()).join("node_modules/typescript/bin/tsc");
    let output = Command::new("node").arg(compiler).arg("-p").arg(folder).output().expect("Node.js");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn history() -> Value {
    let at = "2026-01-01T00:00:00Z";
    json!([
        { "EventType": 12, "EventId": -1, "IsPlayed": false, "Timestamp": at },
        { "EventType": 0, "EventId": -1, "IsPlayed": false, "Timestamp": at },
    ])
}

async fn turn(vm: &Vm, request: Value) -> Value {
    vm.invoke("f", request, context()).await.unwrap()
}

#[tokio::test]
async fn the_slides_chain_runs_turn_by_turn_in_one_worker() {
    let chain = "const df = require('durable-functions');
        module.exports = df(function*(ctx) {
            const x = yield ctx.df.callActivityAsync('F1');
            return [yield ctx.df.callActivityAsync('F2', x), ctx.df.newGuid('i')];
        });";
    let index = "const cloud = require('@tandem/cloud'); new cloud.Function('f', require('./chain'));";
    let files = files(&[("index.js", index), ("chain.js", chain)]).import("index.js", "./chain", "chain.js");
    let vm = worker(files, &Arc::default()).await.unwrap();
    let binding = json!({ "history": history(), "instanceId": "i", "isReplaying": false });
    let first =
        turn(&vm, json!({ "instance": "i", "execution": "1", "binding": binding, "commit": "a" })).await;
    let state = json!({ "isDone": false, "actions": [[{ "actionType": 0, "functionName": "F1", "id": 0 }]], "schemaVersion": 1 });
    assert_eq!(first, json!({ "state": state }));
    let feed = |hash: &str, id: u32| {
        json!({ "instance": "i", "execution": "1", "hash": hash, "commit": "b", "events": [
            { "EventType": 12, "EventId": -1, "Timestamp": "2026-01-01T00:00:01Z" },
            { "EventType": 5, "EventId": -1, "TaskScheduledId": id, "Result": "\"x\"" },
        ] })
    };
    let second = turn(&vm, feed("a", 0)).await;
    let action = json!({ "actionType": 0, "functionName": "F2", "input": "\"x\"", "id": 1 });
    assert_eq!(second["state"]["actions"], json!([[action]]));
    assert_eq!(second["state"]["from"], json!(1));
    assert_eq!(turn(&vm, feed("wrong", 1)).await, json!({ "replay": true }));
    let mut whole = history();
    for event in
        feed("", 0)["events"].as_array().unwrap().iter().chain(feed("", 1)["events"].as_array().unwrap())
    {
        whole.as_array_mut().unwrap().push(event.clone());
    }
    let binding = json!({ "history": whole, "instanceId": "i" });
    let last =
        turn(&vm, json!({ "instance": "i", "execution": "1", "binding": binding, "commit": "c" })).await;
    // The GUID is the published library's for this instance and time.
    assert_eq!(last["state"]["output"], json!(["x", "155ac64c-12bf-53c0-903c-a6ba0707ba8e"]));
    assert_eq!(last["state"]["isDone"], json!(true));
}

#[tokio::test]
async fn async_generators_and_silent_replays_work_on_the_built_in_runtime() {
    let source = "import df from 'durable-functions'; import { Function } from '@tandem/cloud';
        let heard = [];
        console.log = (text) => heard.push(text);
        new Function('f', df.orchestrator(async function* (ctx) {
            console.log('begin');
            yield ctx.df.callActivity('A');
            ctx.log('end');
            if (ctx.df.getInput()) await new Promise((resolve) => setTimeout(resolve, 100));
            return [heard, ctx.df.currentUtcDateTime];
        }));";
    let vm = worker(files(&[("index.mjs", source)]), &Arc::default()).await.unwrap();
    let mut events = history();
    events[1]["IsPlayed"] = json!(true);
    // To the nanosecond, as the cloud writes it.
    events[0]["Timestamp"] = json!("2026-01-01T00:00:00.123456789Z");
    events.as_array_mut().unwrap().push(json!({ "EventType": 5, "TaskScheduledId": 0, "IsPlayed": false }));
    let request = |input: u32| json!({ "binding": { "history": events, "instanceId": "i", "input": input } });
    assert_eq!(turn(&vm, request(0)).await["state"]["output"], json!([["end"], "2026-01-01T00:00:00.123Z"]));
    let waits = turn(&vm, request(1)).await;
    assert_eq!(waits["state"]["code"], json!("E0860"));
}

#[tokio::test]
async fn an_entity_answers_a_batch() {
    let source = "const { Function } = require('@tandem/cloud'); const df = require('durable-functions');
        new Function('f', df.entity((ctx) => ctx.df.return(ctx.df.operationName + ctx.df.getInput())));";
    let vm = worker(files(&[("index.js", source)]), &Arc::default()).await.unwrap();
    let batch = json!([{ "id": "1", "isSignal": false, "name": "add", "input": "5" }]);
    let answer =
        turn(&vm, json!({ "self": { "name": "c", "key": "k" }, "exists": false, "batch": batch })).await;
    assert_eq!(answer["entityExists"], json!(true));
    assert_eq!(answer["results"][0]["result"], json!("\"add5\""));
}
