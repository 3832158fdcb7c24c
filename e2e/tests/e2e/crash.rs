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

/// Puts an object whose event meets the failpoint, starts the cloud again, and checks that the event's effect is there
/// once: one container, its whole log, its true exit code.
fn killed_at(failpoint: &str) {
    let cloud = Cloud::new();
    let mut gate = Gate::open();
    let serving = cloud.serve();
    let project = deploy(&cloud, &gate);
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    assert!(serving.terminate().success());

    let serving = cloud.serve_until(failpoint);
    // Whether the client is answered depends on the failpoint; that the object is there does not.
    let put = client.boto3(PUT, &[&bucket, "one"]);
    serving.died();

    let _serving = cloud.serve();
    let head = client.boto3("s3.head_object(Bucket=arguments[0], Key=arguments[1])", &[&bucket, "one"]);
    if head.code != Some(0) {
        assert_ne!(put.code, Some(0), "an acknowledged object is gone:\n{}", head.all());
        // Killed before the commit: nothing happened, and the client was told so.
        client.boto3(PUT, &[&bucket, "one"]).ok();
    }
    gate.wait_for("one").release();
    let mut log = cloud.log(&project);
    log.wait_for("handled one by");
    log.wait_for("end one");
    log.wait_for("exited with code 7");
    // A later object goes all the way, and so would have a second container for the first.
    client.boto3(PUT, &[&bucket, "two"]).ok();
    gate.wait_for("two").release();
    log.wait_for("end two");
    assert_eq!(gate.count("one"), 1, "started twice for one event");
    let runs: BTreeSet<&str> =
        log.texts().into_iter().filter_map(|text| text.strip_prefix("handled one by ")).collect();
    assert_eq!(runs.len(), 1, "every attempt must find the same run: {runs:?}");
    drop(log);
    project.destroy();
}

#[test]
fn killed_between_put_and_event_still_delivers() {
    killed_at("bucket.put.committed");
}

#[test]
fn killed_before_the_handler_is_asked_still_delivers() {
    killed_at("dispatch.attempt.counted");
}

#[test]
fn killed_between_the_handlers_answer_and_its_record_starts_no_second_container() {
    killed_at("dispatch.consumer.answered");
}

#[test]
fn killed_after_the_deliverys_end_does_not_deliver_again() {
    killed_at("dispatch.outcome.committed");
}

#[test]
fn killed_while_the_container_runs_keeps_its_exit_code_and_its_whole_log() {
    let cloud = Cloud::new();
    let mut gate = Gate::open();
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
    let mut gate = Gate::open();
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

#[test]
fn an_up_killed_at_any_point_is_taken_up_by_the_next() {
    let program = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
exports.bucket = bucket.id;
"#;
    for failpoint in
        ["engine.step.begun", "engine.step.answered", "engine.step.recorded", "engine.state.written"]
    {
        let cloud = Cloud::new();
        let _serving = cloud.serve();
        let project = cloud.project("resumed", &[("index.js", program)]);
        for round in 1..=2 {
            let armed = format!("{failpoint}@{round}");
            let killed =
                project.command().args(["up", "--yes"]).env("TANDEM_FAILPOINT", &armed).status().unwrap();
            assert!(!killed.success(), "{armed} was not met");
        }
        project.up();
        assert!(project.tandem(&["preview"]).ok().all().contains("nothing to do"), "{failpoint}");
        let buckets = cloud.client(&project).boto3("print(len(s3.list_buckets()['Buckets']))", &[]).ok();
        assert_eq!(buckets.value(), "1", "{failpoint}: a resource that the state does not know");
        project.destroy();
    }
}
