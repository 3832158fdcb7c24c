//! A thousand instances at once, while the cloud and its workers are killed.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    chaos::{Victim, kill},
    harness::{Cloud, Project, Serving},
    workflows::status,
};

const CHAINS: usize = 1000;
const FANS: usize = 10;
/// How many starts one call of `begin` makes.
const TOGETHER: usize = 100;
const KILLS: usize = 12;

/// Activities answer something else each time they are called, so a result that is recorded twice would be seen.
const PROGRAM: &str = r#"
const cloud = require('@tandem/cloud');
const df = require('durable-functions');
for (const n of [1, 2, 3, 4]) {
    new cloud.Function(`F${n}`, async (x) => ({ value: x * 10 + n, tag: crypto.randomUUID() }));
}
const chain = new cloud.Workflow('chain', df(function* (ctx) {
    let x = ctx.df.getInput();
    const tags = [];
    for (const n of [1, 2, 3, 4]) {
        const done = yield ctx.df.callActivityAsync(`F${n}`, x);
        x = done.value;
        tags.push(done.tag);
    }
    return { value: x, tags };
}));
new cloud.Function('part', async (n) => ({ value: n, tag: crypto.randomUUID() }));
const fan = new cloud.Workflow('fan', df.orchestrator(function* (ctx) {
    const parts = Array.from({ length: 100 }, (_, n) => ctx.df.callActivity('part', n));
    const done = yield ctx.df.Task.all(parts);
    return { value: done.reduce((sum, one) => sum + one.value, 0), tags: done.map((one) => one.tag) };
}));
new cloud.Function('begin', async ({ of, from, to }) => {
    for (let n = from; n < to; n++) {
        try {
            await (of === 'fan' ? fan : chain).start(n, { id: `${of}${n}` });
        } catch (error) {
            if (error.code !== 'E0872') throw error;
        }
    }
});
"#;

/// Starts instances; again until it is answered.
fn begin(project: &Project, of: &str, from: usize, to: usize) {
    let asked = json!({ "of": of, "from": from, "to": to }).to_string();
    let until = Instant::now() + Duration::from_secs(60);
    while project.tandem(&["invoke", "begin", &asked]).code != Some(0) {
        assert!(Instant::now() < until, "{of} {from} to {to} cannot be started");
    }
}

fn listed(project: &Project) -> Vec<Value> {
    let told = project.tandem(&["workflow", "ls", "--json"]).ok().stdout;
    serde_json::from_str(&told).expect("the list is JSON")
}

/// The results that are recorded: what each is of, and its tag.
fn results(told: &Value) -> BTreeSet<(String, String)> {
    let events = told["historyEvents"].as_array().expect("there are events");
    let done = events.iter().filter(|event| event["EventType"] == "TaskCompleted");
    done.map(|event| (event["FunctionName"].to_string(), event["Result"]["tag"].to_string())).collect()
}

#[test]
fn a_thousand_instances_end_with_the_right_result_though_cloud_and_workers_are_killed() {
    let cloud = Cloud::new();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let mut serving = cloud.serve();
    project.up();
    let mut seen: Vec<(String, BTreeSet<(String, String)>)> = Vec::new();
    begin(&project, "fan", 0, FANS);
    for round in 0..KILLS {
        let from = round * TOGETHER;
        if from < CHAINS {
            begin(&project, "chain", from, from + TOGETHER);
        }
        for worker in 0..3 {
            kill(serving.pid(), Victim::Worker(worker));
            sleep(Duration::from_millis(100));
        }
        // What is recorded now must stay as it is.
        for id in [format!("chain{from}"), format!("chain{}", from + 50), format!("fan{}", round % FANS)] {
            if from < CHAINS {
                let told = status(&project, &id);
                seen.push((id, results(&told)));
            }
        }
        serving = again(&cloud, serving);
    }
    all_ended(&project);
    for told in listed(&project) {
        assert_eq!(told["runtimeStatus"], "Completed", "{told}");
        let n = told["input"].as_u64().unwrap_or_default();
        let right = if told["name"] == "fan" { 4950 } else { n * 10_000 + 1234 };
        assert_eq!(told["output"]["value"], right, "{told}");
    }
    assert!(seen.iter().any(|(_, results)| !results.is_empty()), "nothing was recorded before a kill");
    for (id, before) in seen {
        let told = status(&project, &id);
        let recorded = results(&told);
        assert!(before.is_subset(&recorded), "{id}: {before:?} became {recorded:?}");
        let tags: BTreeSet<_> = recorded.iter().map(|(_, tag)| tag.clone()).collect();
        let used = told["output"]["tags"].as_array().expect("tags").iter().map(Value::to_string);
        assert_eq!(tags, used.collect(), "{id}");
    }
    project.destroy();
    drop(serving);
}

fn again(cloud: &Cloud, serving: Serving) -> Serving {
    serving.kill();
    cloud.serve()
}

fn all_ended(project: &Project) {
    let until = Instant::now() + Duration::from_secs(240);
    loop {
        let all = listed(project);
        let open =
            all.iter().filter(|one| one["runtimeStatus"] != "Completed" && one["runtimeStatus"] != "Failed");
        let open: Vec<_> = open.collect();
        if open.is_empty() {
            assert_eq!(all.len(), CHAINS + FANS);
            return;
        }
        assert!(Instant::now() < until, "{} instances are stuck: {}", open.len(), open[0]);
        sleep(Duration::from_millis(500));
    }
}
