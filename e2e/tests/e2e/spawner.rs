//! The process that starts workers dies, and another one cannot be started for a while: requests wait, or are told so;
//! events are kept; and once it can, all are served.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    escape::spawner_of,
    harness::{Beside, Cloud, Hold, Met, PATIENCE, Project, Serving},
    workflows::ended,
};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
new cloud.Function("double", async (n) => 2 * n);
new cloud.Workflow("doubled", require("durable-functions")(function* (ctx) {
    return yield ctx.df.callActivity("double", ctx.df.getInput());
}));
exports.bucket = bucket.id;
"#;

const PUT_TEN: &str = "
for n in range(10):
    s3.put_object(Bucket=arguments[0], Key=f'{arguments[1]}{n}', Body=b'x')
";

/// Kills the spawner and waits until the cloud has noticed.
fn kill_spawner(serving: &Serving) {
    let spawner = Pid::from_raw(spawner_of(serving.pid().as_raw()).unwrap());
    kill(spawner, Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while kill(spawner, None).is_ok() {
        assert!(Instant::now() < deadline, "nobody noticed its end");
        thread::park_timeout(Duration::from_millis(5));
    }
}

fn invoke(project: &Project<'_>) -> Beside {
    Beside::start(project.command().args(["invoke", "double", "21"]))
}

#[test]
fn while_no_spawner_can_be_started_requests_are_told_so_and_events_wait() {
    let cloud = Cloud::new();
    let hold = Hold::new(cloud.scratch(), "starting");
    let met = Met::new(cloud.scratch(), "met");
    // The first attempt fails, and the next one is held: so it is told that there is none, for as long as the test likes.
    let point = "function.spawner.starting";
    let armed = format!("{point}@1:eio,{}", hold.at(&format!("{point}@2")));
    let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &armed), met.variable()]);
    let project = cloud.project("spawner", &[("index.js", PROGRAM)]);
    project.up();
    let (client, bucket) = (cloud.client(&project), project.output("bucket"));
    assert_eq!(invoke(&project).ran().ok().value(), "42");
    kill_spawner(&serving);
    hold.reached();
    client.boto3(PUT_TEN, &[&bucket, "kept"]).ok();
    for _ in 0..3 {
        invoke(&project).ran().failed("E0609").says("the process that starts workers is gone");
    }
    let ps = project.tandem(&["ps"]).ok();
    assert!(ps.stdout.contains("10 events on the way"), "{}", ps.all());
    // An instance waits, and says for what.
    project.tandem(&["workflow", "start", "doubled", "4", "--id", "waits"]).ok();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = project.tandem(&["workflow", "show", "waits"]).ok().stdout;
        if shown.contains("E0609") && shown.contains("the process that starts workers is gone") {
            break;
        }
        assert!(Instant::now() < deadline, "{shown}");
        thread::park_timeout(Duration::from_millis(20));
    }
    hold.release();
    // What waits is served by what the second attempt brings, without being asked again.
    let mut log = cloud.log(&project);
    log.wait_for_times("saw kept", 10);
    assert_eq!(invoke(&project).ran().ok().value(), "42");
    assert_eq!(log.texts().iter().filter(|text| text.contains("saw kept")).count(), 10);
    assert_eq!(met.count(point), 2, "it was tried more often than it failed");
    let done = ended(&project, "waits");
    assert_eq!((&done["output"], done.get("heldUp")), (&8.into(), None), "{done}");
    drop(log);
    cloud.observe();
    project.destroy();
}

#[test]
fn while_a_spawner_is_being_started_requests_and_events_wait_for_it() {
    let cloud = Cloud::new();
    let hold = Hold::new(cloud.scratch(), "starting");
    let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &hold.at("function.spawner.starting"))]);
    let project = cloud.project("spawner", &[("index.js", PROGRAM)]);
    project.up();
    let (client, bucket) = (cloud.client(&project), project.output("bucket"));
    assert_eq!(invoke(&project).ran().ok().value(), "42");
    kill_spawner(&serving);
    hold.reached();
    let waiting: Vec<Beside> = (0..3).map(|_| invoke(&project)).collect();
    client.boto3(PUT_TEN, &[&bucket, "kept"]).ok();
    hold.release();
    for request in waiting {
        assert_eq!(request.ran().ok().value(), "42");
    }
    let mut log = cloud.log(&project);
    log.wait_for_times("saw kept", 10);
    drop(log);
    cloud.observe();
    project.destroy();
}

/// A cloud can be stopped, too, while it cannot start one.
#[test]
fn a_cloud_without_a_spawner_stops_and_delivers_what_waited_at_its_next_start() {
    let cloud = Cloud::new();
    let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", "function.spawner.starting@1+:eio")]);
    let project = cloud.project("spawner", &[("index.js", PROGRAM)]);
    project.up();
    let (client, bucket) = (cloud.client(&project), project.output("bucket"));
    kill_spawner(&serving);
    client.boto3(PUT_TEN, &[&bucket, "kept"]).ok();
    invoke(&project).ran().failed("E0609");
    assert!(serving.terminate().success());
    let _serving = cloud.serve();
    cloud.log(&project).wait_for_times("saw kept", 10);
    project.destroy();
}
