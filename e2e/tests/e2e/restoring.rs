//! A restore that finds too little room says so and leaves the target as it was, so that it can be run again.

use std::{fs, path::Path};

use crate::harness::{Cloud, Disk, Project, Ran};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`), { keyPrefix: "seen/" });
exports.bucket = bucket.id;
"#;

/// Bodies of their own, and enough rows that the store grows.
const PUT_ALL: &str = "
for n in range(30):
    s3.put_object(Bucket=arguments[0], Key=f'small/{n}', Body=b's' * 30000)
for n in range(6):
    s3.put_object(Bucket=arguments[0], Key=f'large/{n}', Body=b'l' * 1000000)
";

const COUNT: &str = "
objects = s3.list_objects_v2(Bucket=arguments[0])['Contents']
print(sum(len(s3.get_object(Bucket=arguments[0], Key=o['Key'])['Body'].read()) for o in objects))
";

fn project<'a>(cloud: &'a Cloud) -> Project<'a> {
    cloud.project("restoring", &[("index.js", PROGRAM)])
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What is in a home, but for what does not count.
fn found(home: &Path) -> Vec<String> {
    let entries =
        fs::read_dir(home).map(|entries| entries.map(|e| e.unwrap().file_name())).into_iter().flatten();
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.retain(|name| name != "cloud.lock");
    names.sort();
    names
}

#[track_caller]
fn refused_for_space(ran: Ran, why: &str) {
    let ran = ran.refused();
    let says = |words: &[&str]| words.iter().any(|word| ran.stderr.contains(word));
    assert!(says(&["No space left on device", "full"]), "{why}: {}", ran.all());
    // Without room for the folder itself nothing has begun.
    let remedies = [
        "error[E0314]",
        "make room there, or set TANDEM_HOME to a folder on a larger disk; then run `tandem restore` again",
    ];
    assert!(says(&remedies), "{why}: no remedy: {}", ran.all());
}

/// Where a restore writes.
const WRITES: &[&str] = &[
    "restore.home.marking",
    "restore.file.writing",
    "restore.content.syncing",
    "restore.entry.moving",
    "restore.entry.moving@3",
    "restore.mark.removing",
    "store.commit.judged",
];

#[test]
fn a_restore_onto_a_disk_that_is_too_small_leaves_the_home_empty_and_succeeds_when_there_is_room() {
    let cloud = Cloud::new();
    let file = cloud.scratch().join("backup.tar");
    let serving = cloud.serve();
    let origin = project(&cloud);
    origin.up();
    let bucket = origin.output("bucket");
    cloud.client(&origin).boto3(PUT_ALL, &[&bucket]).ok();
    cloud.tandem(&["backup", path(&file)]).ok();
    assert!(serving.terminate().success());
    let whole = (30 * 30_000 + 6 * 1_000_000).to_string();

    // A real disk, with less and less missing.
    let disk = Disk::of_mebibytes(64);
    let restored = Cloud::new_in(disk.path());
    let target = project(&restored);
    for free in [0, 4096, 64 << 10, 1 << 20, 2 << 20, 4 << 20, 6 << 20] {
        disk.fill_up_to(free);
        refused_for_space(restored.tandem(&["restore", path(&file)]), &format!("{free} bytes free"));
        assert_eq!(found(&restored.home()), [""; 0], "{free}: something is left");
        disk.free();
    }
    restored.tandem(&["restore", path(&file)]).ok();
    // A home that has a cloud is not touched, whatever the disk.
    disk.fill_up_to(0);
    let before = found(&restored.home());
    restored.tandem(&["restore", path(&file)]).failed("E0917");
    assert_eq!(found(&restored.home()), before);
    disk.free();
    {
        let _serving = restored.serve();
        assert!(target.tandem(&["preview"]).ok().all().contains("Nothing to do"));
        assert_eq!(restored.client(&target).boto3(COUNT, &[&bucket]).ok().value(), whole);
        target.destroy();
    }

    // At each write, also when it moves what is complete to its place.
    for point in WRITES {
        let restored = Cloud::new();
        let armed = format!("{point}:enospc");
        let mut full = restored.command();
        full.args(["restore", path(&file)]).env("TANDEM_FAILPOINT", &armed);
        refused_for_space(Ran::run(&mut full), &armed);
        // Either nothing is left, or what no cloud starts on.
        if found(&restored.home()).is_empty() {
            assert!(!point.starts_with("restore.entry") && *point != "restore.mark.removing", "{armed}");
        } else {
            restored.tandem(&["serve"]).failed("E0918").says("tandem restore");
        }
        restored.tandem(&["restore", path(&file)]).ok();
        let serving = restored.serve();
        let target = project(&restored);
        assert!(target.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{armed}");
        assert_eq!(restored.client(&target).boto3(COUNT, &[&bucket]).ok().value(), whole, "{armed}");
        assert!(serving.terminate().success());
    }
}
