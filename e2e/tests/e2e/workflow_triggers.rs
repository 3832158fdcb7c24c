//! Events that start instances, with no handler between: of buckets, topics, timers, queues and streams.

use std::{thread::sleep, time::Duration};

use serde_json::Value;

use crate::harness::{Cloud, Project};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const df = require("durable-functions");
const told = new cloud.Workflow("told", df.orchestrator(function* (ctx) {
    const { type, data } = ctx.df.getInput();
    return [type, yield ctx.df.callActivity("note", data.key ?? data.message ?? data.messages?.[0].body ?? data.records?.[0].data)];
}));
new cloud.Function("note", async (what) => `noted ${what}`);
const bucket = new cloud.Bucket("bucket", { forceDestroy: true });
bucket.onPut("putted", told, { keyPrefix: "in/" });
const topic = new cloud.Topic("topic");
topic.subscribe("published", told);
topic.subscribe("again", told);
const queue = new cloud.Queue("queue", { forceDestroy: true });
queue.subscribe("sent", told);
const stream = new cloud.Stream("stream", { forceDestroy: true });
stream.subscribe("recorded", told);
new cloud.Function("put", () => bucket.put("in/a", "a"));
new cloud.Function("publish", () => topic.publish("m"));
new cloud.Function("send", () => queue.sendBatch(["q1", "q2"]));
new cloud.Function("record", () => stream.put("key", "r"));
"#;

/// Apart, for it would start instances at any time.
const TIMER: &str = r#"
cloud.timer.interval("soon", { seconds: 1 }, new cloud.Workflow("ticked", df.orchestrator(function* (ctx) {
    return ctx.df.getInput().type;
})));
"#;

fn instances(project: &Project) -> Vec<Value> {
    serde_json::from_str(&project.tandem(&["workflow", "ls", "--json"]).ok().stdout).expect("a list is JSON")
}

/// The outputs of the instances of `told`, once there are so many and all of them have ended.
fn outputs(project: &Project, count: usize) -> Vec<String> {
    for _ in 0..600 {
        let all = instances(project);
        let told: Vec<_> = all.iter().filter(|one| one["name"] == "told").collect();
        if told.len() >= count && told.iter().all(|one| one["runtimeStatus"] == "Completed") {
            let mut outputs: Vec<_> = told.iter().map(|one| one["output"].to_string()).collect();
            outputs.sort();
            return outputs;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("not {count} instances that have ended: {:?}", instances(project));
}

const PUT: &str = r#"["dev.tandem.bucket.object.put","noted in/a"]"#;
const PUBLISHED: &str = r#"["dev.tandem.topic.message","noted m"]"#;
const SENT: [&str; 2] =
    [r#"["dev.tandem.queue.messages","noted q1"]"#, r#"["dev.tandem.queue.messages","noted q2"]"#];
const RECORDED: &str = r#"["dev.tandem.stream.records","noted \"r\""]"#;

#[test]
fn events_of_every_source_start_instances() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("started", &[("index.js", &format!("{PROGRAM}{TIMER}"))]);
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    for function in ["put", "publish", "send", "record"] {
        project.tandem(&["invoke", function]).ok();
    }
    assert_eq!(outputs(&project, 6), [PUT, SENT[0], SENT[1], RECORDED, PUBLISHED, PUBLISHED]);
    let why = project.tandem(&["why", "bucket/in/a"]).ok().stdout;
    for line in
        ["subscription/putted → workflow/told", "of workflow/told completed", "function/note answered"]
    {
        assert!(why.contains(line), "{line}: {why}");
    }
    for _ in 0..200 {
        if instances(&project)
            .iter()
            .any(|one| one["name"] == "ticked" && one["output"] == "dev.tandem.timer.tick")
        {
            project.destroy();
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("the timer started nothing: {:?}", instances(&project));
}

#[test]
fn an_event_starts_one_instance_also_if_the_cloud_is_killed_before_it_notes_that() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project("once", &[("index.js", PROGRAM)]);
    project.up();
    serving.kill();
    let mut expected = Vec::new();
    for (function, starts) in
        [("put", &[PUT][..]), ("publish", &[PUBLISHED, PUBLISHED]), ("send", &SENT), ("record", &[RECORDED])]
    {
        let serving = cloud.serve_until("workflow.message.committed");
        let _ = project.tandem(&["invoke", function]);
        serving.died("workflow.message.committed");
        let serving = cloud.serve();
        expected.extend(starts.iter().map(|output| (*output).to_owned()));
        expected.sort();
        assert_eq!(outputs(&project, expected.len()), expected, "{function}");
        // Nothing comes later.
        serving.kill();
        let serving = cloud.serve();
        assert_eq!(outputs(&project, expected.len()), expected, "{function}");
        serving.kill();
    }
    let _serving = cloud.serve();
    project.destroy();
}

#[test]
fn an_event_that_no_instance_can_take_goes_to_the_dead_letters() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let large = PROGRAM
        .replace(r#"stream.put("key", "r")"#, r#"stream.put("key", "r".repeat((1 << 20) - 10))"#)
        .replace(r#""recorded", told"#, r#""recorded", told, { maxAttempts: 1 }"#);
    let project = cloud.project("large", &[("index.js", &large)]);
    project.up();
    project.tandem(&["invoke", "record"]).ok();
    for _ in 0..600 {
        let letters = project.tandem(&["dead-letters", "ls"]).ok().stdout;
        if letters.contains("E0874") {
            assert!(!instances(&project).iter().any(|one| one["name"] == "told"));
            project.tandem(&["destroy", "--yes", "--force"]).ok();
            return;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{}", project.tandem(&["dead-letters", "ls"]).all());
}
