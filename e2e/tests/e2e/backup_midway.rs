//! A backup is taken while an `up` is under way: it is one moment of the state and of the cloud, and where it is
//! restored the next `up` goes on.

use std::path::Path;

use crate::harness::{Beside, Cloud, Hold, Project};

const BEFORE: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
new cloud.Bucket("dropped");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
exports.bucket = bucket.id;
"#;

/// Creates, updates, replaces and deletes.
const AFTER: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
const added = new cloud.Bucket("added");
const job = new cloud.Task("job", { build: "./job" });
bucket.onPut("onPut", async (args) => {
    await job.run();
    console.log(`now saw ${args.key}`);
});
exports.bucket = bucket.id;
exports.added = added.id;
"#;

/// Where the command is held: before, between and after its two records of a change, first and later ones.
const CLIENT: &[&str] = &[
    "engine.state.writing",
    "engine.journal.begun",
    "engine.journal.begun@3",
    "engine.target.applied",
    "engine.target.applied@3",
    "engine.journal.done@2",
    "engine.state.saved@2",
    "engine.state.acknowledged",
    "engine.journal.clearing@2",
];

/// Where the cloud is held: with a change prepared and not committed, and committed and not answered.
const CLOUD: &[&str] = &[
    "target.change.prepared",
    "target.change.prepared@3",
    "target.change.committed",
    "target.change.committed@3",
    "bucket.closing.committed",
];

fn project<'a>(cloud: &'a Cloud, name: &str, program: &str) -> Project<'a> {
    cloud.project(
        name,
        &[("index.js", program), ("job/Dockerfile", "FROM docker.io/library/busybox\nCMD echo ran\n")],
    )
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Takes a backup while an `up` is held, lets both end, and goes on where the backup is restored.
fn at(point: &str, in_cloud: bool) {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let serving = cloud.serve();
    cloud.import_busybox();
    let origin = project(&cloud, "midway", BEFORE);
    origin.up();
    let bucket = origin.output("bucket");
    origin.edit("index.js", AFTER);
    assert!(serving.terminate().success());

    let hold = Hold::new(cloud.scratch(), "up");
    let held = hold.at(point);
    let armed = [("TANDEM_FAILPOINT", &*held)];
    let (in_serving, in_up) = if in_cloud { (&armed[..], &[][..]) } else { (&[][..], &armed[..]) };
    let serving = cloud.serve_with(in_serving);
    let mut command = origin.command();
    let up = Beside::start(command.args(["up", "--yes"]).envs(in_up.iter().copied()));
    hold.reached();
    cloud.tandem(&["backup", path(&file)]).ok();
    hold.release();
    // It was in nobody's way.
    up.ran().ok();
    assert!(origin.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{point}");
    origin.destroy();
    assert!(serving.terminate().success());

    let restored = Cloud::new();
    restored.tandem(&["restore", path(&file)]).ok();
    let _serving = restored.serve();
    restored.import_busybox();
    let target = project(&restored, "midway", AFTER);
    target.up();
    let preview = target.tandem(&["preview"]).ok();
    assert!(preview.all().contains("Nothing to do"), "{point}: {}", preview.all());
    assert_eq!(target.output("bucket"), bucket, "{point}: the bucket that stays was made anew");
    let client = restored.client(&target);
    let buckets = client.boto3("print(len(s3.list_buckets()['Buckets']))", &[]).ok();
    assert_eq!(buckets.value(), "2", "{point}: a bucket that the state does not know");
    for name in ["bucket", "added"] {
        let put = "s3.put_object(Bucket=arguments[0], Key='k', Body=b'x')";
        client.boto3(put, &[&target.output(name)]).ok();
    }
    restored.log(&target).wait_for("now saw k");
    target.destroy();
    let again = target.tandem(&["destroy", "--yes"]).ok();
    assert!(again.stderr.contains("nothing to destroy"), "{point}: {}", again.all());
}

#[test]
fn a_backup_of_an_up_that_is_held_in_the_command_is_one_moment_and_goes_on_where_it_is_restored() {
    CLIENT.iter().for_each(|point| at(point, false));
}

#[test]
fn a_backup_of_an_up_that_is_held_in_the_cloud_is_one_moment_and_goes_on_where_it_is_restored() {
    CLOUD.iter().for_each(|point| at(point, true));
}
