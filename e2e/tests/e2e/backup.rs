//! The cloud is copied while it works, and comes back in another folder.

use std::{fs, path::Path, process::Command, thread};

use crate::harness::{Cloud, Gate, Project, Ran};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`), { keyPrefix: "seen/" });
exports.bucket = bucket.id;
"#;

/// Puts objects, small and large, and remembers nothing: what is asked for is a function of the key.
const PUT_ALL: &str = "
for n in range(40):
    s3.put_object(Bucket=arguments[0], Key=f'kept/{n}', Body=str(n).encode() * (10 if n % 2 else 60000))
";

/// Puts and deletes until it is told to stop.
const LOAD: &str = "
import os
n = 0
while not os.path.exists(arguments[1]):
    s3.put_object(Bucket=arguments[0], Key=f'load/{n}', Body=b'x' * (100 if n % 3 else 100000))
    if n >= 5:
        s3.delete_object(Bucket=arguments[0], Key=f'load/{n - 5}')
    n += 1
print(n)
";

const CHECK: &str = "
for n in range(40):
    body = s3.get_object(Bucket=arguments[0], Key=f'kept/{n}')['Body'].read()
    assert body == str(n).encode() * (10 if n % 2 else 60000), n
for page in s3.get_paginator('list_objects_v2').paginate(Bucket=arguments[0], Prefix='load/'):
    for object in page.get('Contents', []):
        body = s3.get_object(Bucket=arguments[0], Key=object['Key'])['Body'].read()
        assert len(body) == object['Size'], object
";

/// The same program, deployed by nobody: it is to be found deployed.
fn same<'a>(cloud: &'a Cloud, name: &str, program: &str) -> Project<'a> {
    cloud.project(name, &[("index.js", program)])
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_backup_under_load_has_all_that_was_acknowledged_before_and_the_restored_cloud_has_nothing_to_do() {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let serving = cloud.serve();
    let project = same(&cloud, "backed", PROGRAM);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    client.boto3(PUT_ALL, &[&bucket]).ok();
    let endpoint = client.variable("AWS_ENDPOINT_URL").to_owned();
    let stop = cloud.scratch().join("stop");
    thread::scope(|scope| {
        let load = scope.spawn(|| client.boto3(LOAD, &[&bucket, path(&stop)]));
        let backup = cloud.tandem(&["backup", path(&file)]);
        fs::write(&stop, "").unwrap();
        let backup = backup.ok();
        assert!(backup.stderr.contains("backed up 1 stack"), "{}", backup.all());
        load.join().unwrap().ok();
    });
    cloud.tandem(&["backup", path(&file)]).failed("E0912").says("--force");
    assert!(serving.terminate().success());
    // Without a cloud it works too.
    cloud.tandem(&["backup", "--force", "--json", path(&file)]).ok();

    let restored = Cloud::new();
    restored.tandem(&["restore", path(&file)]).ok().says("tandem serve");
    let _serving = restored.serve();
    restored.tandem(&["restore", path(&file)]).failed("E0312");
    let project = same(&restored, "backed", PROGRAM);
    let preview = project.tandem(&["preview"]).ok();
    assert!(preview.all().contains("Nothing to do"), "{}", preview.all());
    let client = restored.client(&project);
    assert_eq!(client.variable("AWS_ENDPOINT_URL"), endpoint);
    client.boto3(CHECK, &[&bucket]).ok();
    client.boto3("s3.put_object(Bucket=arguments[0], Key='seen/it', Body=b'x')", &[&bucket]).ok();
    restored.log(&project).wait_for("saw seen/it");
    project.destroy();
}

#[test]
fn what_was_on_its_way_is_delivered_after_a_restore_and_what_ran_is_lost() {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let mut gate = Gate::shut();
    let serving = cloud.serve();
    cloud.import_busybox();
    let stop = gate.command("container");
    let url = gate.command("handler").rsplit(' ').next().unwrap().to_owned();
    let program = format!(
        r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
const job = new cloud.Task("job", {{ image: "docker.io/library/busybox", command: ["sh", "-c", "{stop}"] }});
bucket.onPut("onPut", async (args) => {{
    await fetch("{url}");
    console.log(`handled ${{args.key}}`);
}});
bucket.onDelete("onDelete", async () => {{ await job.run({{}}); }});
exports.bucket = bucket.id;
"#
    );
    let project = same(&cloud, "underway", &program);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    client.boto3("s3.put_object(Bucket=arguments[0], Key='one', Body=b'x')", &[&bucket]).ok();
    let handler = gate.wait_for("handler");
    client.boto3("s3.delete_object(Bucket=arguments[0], Key='one')", &[&bucket]).ok();
    let container = gate.wait_for("container");
    cloud.observe();
    cloud.tandem(&["backup", path(&file)]).ok();
    handler.release();
    container.release();
    cloud.log(&project).wait_for("handled one");
    project.destroy();
    assert!(serving.terminate().success());

    let restored = Cloud::new();
    restored.tandem(&["restore", path(&file)]).ok();
    let _serving = restored.serve();
    let project = same(&restored, "underway", &program);
    gate.wait_for("handler").release();
    let mut log = restored.log(&project);
    log.wait_for("handled one");
    let ps = project.tandem(&["ps"]).ok();
    assert!(ps.stdout.contains("lost"), "{}", ps.all());
    drop(log);
    project.destroy();
}

/// Where a cloud can die while it writes a backup.
const BACKUP_POINTS: &[&str] = &["backup.moment.passed", "backup.file.synced"];
/// Where a restore can die; it moves five things to their places.
const RESTORE_POINTS: &[&str] = &[
    "restore.home.marked",
    "restore.content.synced",
    "restore.entry.moved",
    "restore.entry.moved@3",
    "restore.entry.moved@5",
    "restore.entries.synced",
];

#[test]
fn killed_anywhere_a_backup_leaves_the_former_file_and_a_restore_nothing_or_the_whole() {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let serving = cloud.serve();
    let project = same(&cloud, "killed", PROGRAM);
    project.up();
    let bucket = project.output("bucket");
    cloud.client(&project).boto3(PUT_ALL, &[&bucket]).ok();
    assert!(serving.terminate().success());
    fs::write(&file, "the former backup").unwrap();
    for point in BACKUP_POINTS {
        let serving = cloud.serve_until(point);
        cloud.tandem(&["backup", "--force", path(&file)]).refused();
        serving.died(point);
        assert_eq!(fs::read_to_string(&file).unwrap(), "the former backup", "{point}");
    }
    let serving = cloud.serve();
    cloud.tandem(&["backup", "--force", path(&file)]).ok();
    assert!(!file.with_extension("tar.partial").exists());
    assert!(serving.terminate().success());

    for point in RESTORE_POINTS {
        let restored = Cloud::new();
        let mut killed: Command = restored.command();
        killed.args(["restore", path(&file)]).env("TANDEM_FAILPOINT", point);
        let killed = Ran::run(&mut killed);
        assert_eq!(killed.code, None, "{point} was not met: {}", killed.all());
        restored.tandem(&["serve"]).failed("E0918").says("tandem restore");
        restored.tandem(&["restore", path(&file)]).ok();
        let serving = restored.serve();
        let project = same(&restored, "killed", PROGRAM);
        assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{point}");
        restored.client(&project).boto3(CHECK, &[&bucket]).ok();
        assert!(serving.terminate().success());
    }
}

#[test]
fn a_damaged_backup_is_refused_naming_what_and_the_home_stays_empty() {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let serving = cloud.serve();
    let project = same(&cloud, "damaged", PROGRAM);
    project.up();
    let bucket = project.output("bucket");
    cloud.client(&project).boto3(PUT_ALL, &[&bucket]).ok();
    cloud.tandem(&["backup", path(&file)]).ok();
    project.destroy();
    assert!(serving.terminate().success());
    let whole = fs::read(&file).unwrap();
    let restored = Cloud::new();
    for (bytes, says) in [
        (whole[..whole.len() / 2].to_vec(), "it ends within `"),
        ([&whole[..whole.len() / 2], b"x", &whole[whole.len() / 2 + 1..]].concat(), "checksum"),
    ] {
        fs::write(&file, bytes).unwrap();
        restored.tandem(&["restore", path(&file)]).failed("E0914").says(says);
        let left: Vec<_> = fs::read_dir(restored.home()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["cloud.lock"]);
    }
    fs::write(&file, "something else").unwrap();
    restored.tandem(&["restore", path(&file)]).failed("E0915");
    restored.tandem(&["restore", "/nowhere/file"]).failed("E0913");
    restored.tandem(&["backup", path(&cloud.scratch().join("none.tar"))]).failed("E0916");
    fs::write(restored.home().join("mine"), "").unwrap();
    fs::write(&file, &whole).unwrap();
    restored.tandem(&["restore", path(&file)]).failed("E0917").says("`mine`");
}

/// A file under the cloud's feet is cut, another one is gone.
#[test]
fn a_body_that_the_disk_lost_is_a_clear_error_and_the_rest_is_served_and_backed_up() {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let _serving = cloud.serve();
    let project = same(&cloud, "lost", PROGRAM);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let put = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x' * 100000)";
    let blobs = || -> Vec<_> {
        fs::read_dir(cloud.home().join("data/blobs")).unwrap().map(|e| e.unwrap().path()).collect()
    };
    client.boto3(put, &[&bucket, "cut"]).ok();
    fs::File::options().write(true).open(&blobs()[0]).unwrap().set_len(1000).unwrap();
    let cut = blobs();
    client.boto3(put, &[&bucket, "gone"]).ok();
    fs::remove_file(blobs().iter().find(|path| !cut.contains(path)).unwrap()).unwrap();
    client.boto3(put, &[&bucket, "whole"]).ok();
    let get = "
try:
    s3.get_object(Bucket=arguments[0], Key=arguments[1])
except ClientError as error:
    print(error.response['ResponseMetadata']['HTTPStatusCode'], error.response['Error']['Message'])
";
    let error = client.boto3(get, &[&bucket, "cut"]).ok();
    assert!(
        error.stdout.starts_with("500") && error.stdout.contains("ends after 1000 bytes"),
        "{}",
        error.all()
    );
    let error = client.boto3(get, &[&bucket, "gone"]).ok();
    assert!(error.stdout.starts_with("500") && error.stdout.contains("is not there"), "{}", error.all());
    assert_eq!(client.boto3(get, &[&bucket, "whole"]).ok().stdout, "");
    cloud.tandem(&["backup", path(&file)]).ok().says("2 large objects could not be read");
    project.destroy();
}
