//! The cloud is killed with -9 at its commit points, and loses nothing.

use std::collections::BTreeSet;

use crate::harness::{Cloud, Gate, Project};

/// A bucket whose objects start a container each; the container stops at the gate and ends with code 7.
fn deploy<'a>(cloud: &'a Cloud, gate: &Gate) -> Project<'a> {
    cloud.import_busybox();
    let stop = gate.command("$KEY");
    let program = format!(
        r#"
const cloud = require("@tandem/cloud");

const bucket = new cloud.Bucket("bucket");

const job = new cloud.Task("job", {{
    image: "docker.io/library/busybox",
    ephemeralStorage: 32,
    command: ["sh", "-c", "echo begin $KEY; {stop}; echo end $KEY; exit 7"],
}});

bucket.onPut("onPut", async (args) => {{
    console.log(`handling ${{args.key}}`);
    const run = await job.run({{ environment: {{ KEY: args.key }} }});
    console.log(`handled ${{args.key}} by ${{run.id}}`);
}});

exports.bucket = bucket.id;
"#
    );
    let project = cloud.project("crash", &[("index.js", &program)]);
    project.up();
    project
}

const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x')";

/// Where the cloud can die between a PUT and the record of the container's end, in the order of things.
const COMMIT_POINTS: &[&str] = &[
    // The object, and its event in the same commit.
    "blob.file.written",
    "blob.file.synced",
    "store.commit.judged",
    "store.commit.logged",
    "store.commit.synced",
    // The delivery.
    "function.delivery.received",
    "dispatch.attempt.counted",
    // The run that the handler starts.
    "task.run.committed",
    "container.start.prepared",
    "container.start.disk",
    "container.start.mounted",
    "container.start.monitored",
    "container.start.begun",
    "container.start.started",
    "task.container.created",
    // The handler's answer.
    "function.delivery.answered",
    "dispatch.consumer.answered",
    "dispatch.outcome.committed",
    // The container's end.
    "task.exit.observed",
    "container.remove.deleted",
    "container.remove.unmounted",
    "container.remove.cleared",
];

/// Large enough to be a file of its own beside the store.
const PUT_LARGE: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x' * (1 << 20))";
const HEAD: &str = "s3.head_object(Bucket=arguments[0], Key=arguments[1])";

/// The cloud dies at each commit point in turn. Each time it is started again and the event's effect must be there once:
/// one container, its whole log, its true exit code.
#[test]
fn killed_at_any_commit_point_between_put_and_exit_loses_nothing_and_starts_nothing_twice() {
    let cloud = Cloud::new();
    let mut gate = Gate::open();
    let serving = cloud.serve();
    let project = deploy(&cloud, &gate);
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    assert!(serving.terminate().success());

    // The point names the object: one that stood twice would be put twice, and look like an event delivered twice.
    assert_eq!(COMMIT_POINTS.iter().collect::<BTreeSet<_>>().len(), COMMIT_POINTS.len());

    for point in COMMIT_POINTS {
        let serving = cloud.serve_until(point);
        let put = client.boto3(PUT_LARGE, &[&bucket, point]);
        serving.died(point);

        let serving = cloud.serve();
        if client.boto3(HEAD, &[&bucket, point]).code != Some(0) {
            assert_ne!(put.code, Some(0), "{point}: an acknowledged object is gone");
            // Killed before the commit: nothing happened, and the client was told so.
            client.boto3(PUT_LARGE, &[&bucket, point]).ok();
        }
        let mut log = cloud.log(&project);
        log.wait_for(&format!("handled {point} by"));
        log.wait_for(&format!("end {point}"));
        assert_eq!(gate.count(point), 1, "{point}: started twice for one event");
        cloud.observe();
        assert!(serving.terminate().success(), "{point}");
    }

    let _serving = cloud.serve();
    let mut log = cloud.log(&project);
    log.wait_for_times("exited with code 7", COMMIT_POINTS.len());
    for point in COMMIT_POINTS {
        let said = |what: &str| format!("{what} {point}");
        let begun = log.texts().iter().filter(|text| **text == said("begin")).count();
        assert_eq!(begun, 1, "{point}: its log tells of one container");
        let prefix = format!("handled {point} by ");
        let runs: BTreeSet<&str> =
            log.texts().into_iter().filter_map(|text| text.strip_prefix(&prefix)).collect();
        assert_eq!(runs.len(), 1, "{point}: every attempt must find the same run: {runs:?}");
        assert_eq!(gate.count(point), 1, "{point}: started again later");
    }
    drop(log);
    project.destroy();
}

#[test]
fn killed_while_the_container_runs_keeps_its_exit_code_and_its_whole_log() {
    let cloud = Cloud::new();
    let mut gate = Gate::shut();
    let serving = cloud.serve();
    let project = deploy(&cloud, &gate);
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    client.boto3(PUT, &[&bucket, "one"]).ok();
    let visit = gate.wait_for("one");
    cloud.observe();
    serving.kill();
    // It ends while there is no cloud.
    visit.release();
    let _serving = cloud.serve();
    let mut log = cloud.log(&project);
    log.wait_for("begin one");
    log.wait_for("end one");
    log.wait_for("exited with code 7");
    assert_eq!(gate.count("one"), 1);
    drop(log);
    project.destroy();
}

#[test]
fn a_container_that_outlives_the_cloud_is_found_again() {
    let cloud = Cloud::new();
    let mut gate = Gate::shut();
    let serving = cloud.serve();
    let project = deploy(&cloud, &gate);
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let endpoint = client.variable("AWS_ENDPOINT_URL").to_owned();
    client.boto3(PUT, &[&bucket, "one"]).ok();
    let visit = gate.wait_for("one");
    cloud.observe();
    serving.kill();
    let _serving = cloud.serve();
    assert_eq!(
        cloud.client(&project).variable("AWS_ENDPOINT_URL"),
        endpoint,
        "a restart never moves an address"
    );
    let ps = project.tandem(&["ps"]).ok();
    assert!(ps.stdout.contains("job") && ps.stdout.contains("running"), "{}", ps.all());
    visit.release();
    let mut log = cloud.log(&project);
    log.wait_for("end one");
    log.wait_for("exited with code 7");
    assert_eq!(gate.count("one"), 1);
    drop(log);
    project.destroy();
}

/// Where an `up` can die between its first journal record and its last.
const UPDATE_POINTS: &[&str] = &[
    "engine.journal.begun",
    "engine.target.applied",
    "engine.journal.done",
    "engine.state.written",
    "engine.state.saved",
    "engine.state.acknowledged",
];

#[test]
fn an_up_killed_at_any_point_is_taken_up_by_the_next() {
    let program = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
exports.bucket = bucket.id;
"#;
    for failpoint in UPDATE_POINTS {
        let cloud = Cloud::new();
        let _serving = cloud.serve();
        let project = cloud.project("resumed", &[("index.js", program)]);
        for round in 1..=2 {
            let armed = format!("{failpoint}@{round}");
            let killed =
                project.command().args(["up", "--yes"]).env("TANDEM_FAILPOINT", &armed).status().unwrap();
            // The first one dies; the second one may have nothing left to die at.
            assert!(!killed.success() || round > 1, "{armed} was not met");
        }
        project.up();
        assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{failpoint}");
        let buckets = cloud.client(&project).boto3("print(len(s3.list_buckets()['Buckets']))", &[]).ok();
        assert_eq!(buckets.value(), "1", "{failpoint}: a resource that the state does not know");
        project.destroy();
    }
}
