//! The cloud dies while it starts for the first time, or while it makes a change true.

use std::os::unix::process::ExitStatusExt;

use super::harness::Cloud;

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
exports.bucket = bucket.id;
"#;

/// Where the cloud can die between the arrival of a change and its answer.
const CHANGE_POINTS: &[&str] = &["archive.file.synced", "target.change.prepared", "target.change.committed"];

#[test]
fn a_cloud_killed_within_a_change_makes_it_once_when_asked_again() {
    for point in CHANGE_POINTS {
        let cloud = Cloud::new();
        let serving = cloud.serve_until(point);
        let project = cloud.project("change", &[("index.js", PROGRAM)]);
        assert_ne!(project.tandem(&["up", "--yes"]).code, Some(0), "{point}");
        serving.died(point);

        let _serving = cloud.serve();
        project.up();
        assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{point}");
        let client = cloud.client(&project);
        let buckets = client.boto3("print(len(s3.list_buckets()['Buckets']))", &[]).ok();
        assert_eq!(buckets.value(), "1", "{point}: made twice, or lost");
        let bucket = project.output("bucket");
        client.boto3("s3.put_object(Bucket=arguments[0], Key='k', Body=b'x')", &[&bucket]).ok();
        cloud.log(&project).wait_for("saw k");
        project.destroy();
    }
}

#[test]
fn a_cloud_killed_before_its_root_key_has_its_name_makes_another_at_the_next_start() {
    let cloud = Cloud::new();
    let killed =
        cloud.command().arg("serve").env("TANDEM_FAILPOINT", "credential.root.written").status().unwrap();
    assert_eq!(killed.signal(), Some(9));
    let _serving = cloud.serve();
    let project = cloud.project("keys", &[("index.js", PROGRAM)]);
    project.up();
    cloud.client(&project).boto3("s3.list_buckets()", &[]).ok();
    project.destroy();
}

#[test]
fn an_up_killed_after_a_step_was_refused_can_be_run_again() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let refused = r#"
const cloud = require("@tandem/cloud");
new cloud.Task("job", { image: "docker.io/library/nowhere" });
"#;
    let project = cloud.project("refused", &[("index.js", refused)]);
    let killed = project
        .command()
        .args(["up", "--yes"])
        .env("TANDEM_FAILPOINT", "engine.journal.failed")
        .status()
        .unwrap();
    assert_eq!(killed.signal(), Some(9));
    let again = project.tandem(&["up", "--yes"]);
    assert_eq!(again.code, Some(1));
    assert!(
        again.all().contains("E0403") && again.all().contains("docker.io/library/nowhere"),
        "{}",
        again.all()
    );
    project.destroy();
}
