//! The disk is full at one write after the other: the command says so with a remedy, and done again it works, without
//! a restart of the cloud and without anything lost.

use std::fs;

use crate::harness::{Cloud, Disk, Met, Project, Ran};

/// Where the cloud writes between the first byte of an `up` and the last log line of a container.
const CLOUD_WRITES: &[&str] = &[
    "archive.file.writing",
    "archive.file.synced",
    "task.context.unpacking",
    "blob.file.creating",
    "blob.file.writing",
    "blob.file.written",
    "log.segment.writing",
    "container.bundle.writing",
    "container.start.prepared",
    "container.start.mounted",
];

/// A bucket, a function on it, and a task built for this test alone, so that each round unpacks and builds.
fn project<'a>(cloud: &'a Cloud, name: &str) -> Project<'a> {
    let program = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
const job = new cloud.Task("job", { build: "./job" });
bucket.onPut("onPut", async (args) => {
    console.log(`handling ${args.key}`);
    await job.run({ environment: { KEY: args.key } });
});
exports.bucket = bucket.id;
"#;
    let dockerfile = format!("FROM docker.io/library/busybox\nCMD echo ended {name} $KEY\n");
    cloud.project(name, &[("index.js", program), ("job/Dockerfile", &dockerfile)])
}

const PUT_LARGE: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x' * (1 << 20))";
const SIZE: &str = "print(s3.head_object(Bucket=arguments[0], Key=arguments[1])['ContentLength'])";

/// Does it, and does it again if it was refused; the refusal must say what to do.
#[track_caller]
fn at_most_twice(what: &str, mut doing: impl FnMut() -> Ran) -> bool {
    let first = doing();
    if first.code == Some(0) {
        return false;
    }
    let said = first.all();
    let full = ["full", "No space", "space"].iter().any(|word| said.contains(word));
    assert!(full, "{what}: a full disk must be called that:\n{said}");
    doing().ok();
    true
}

/// From an `up` to the end of a container that an object started.
fn whole_way(cloud: &Cloud, name: &str, log_is_full: bool) {
    let project = project(cloud, name);
    at_most_twice(name, || project.tandem(&["up", "--yes"]));
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{name}");
    let (client, bucket) = (cloud.client(&project), project.output("bucket"));
    at_most_twice(name, || client.boto3(PUT_LARGE, &[&bucket, "a"]));
    assert_eq!(client.boto3(SIZE, &[&bucket, "a"]).ok().value(), (1 << 20).to_string());
    let mut log = cloud.log(&project);
    log.wait_for(&format!("ended {name} a"));
    if log_is_full {
        // Lines that could not be kept are not lost without a word.
        client.boto3(PUT_LARGE, &[&bucket, "b"]).ok();
        log.wait_for("1 lines were dropped");
        log.wait_for("handling b");
    }
    drop(log);
    at_most_twice(name, || project.tandem(&["destroy", "--yes", "--force"]));
}

#[test]
fn a_full_disk_at_any_write_of_the_cloud_is_survived() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    assert!(serving.terminate().success());
    for (n, point) in CLOUD_WRITES.iter().enumerate() {
        let met = Met::new(cloud.scratch(), point);
        let armed = format!("{point}:enospc");
        let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &armed), met.variable()]);
        let log_is_full = *point == "log.segment.writing";
        whole_way(&cloud, &format!("full{n}"), log_is_full);
        assert!(met.count(point) > 1, "{point}: it was not met, or not tried again");
        cloud.observe();
        assert!(serving.terminate().success(), "{point}");
    }
}

/// The store's commits are those of everything: resources, objects, attempts of deliveries, runs. Each in turn fails.
#[test]
fn a_full_disk_under_any_commit_is_survived() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    assert!(serving.terminate().success());
    let dry = Met::new(cloud.scratch(), "dry");
    let serving = cloud.serve_with(&[dry.variable()]);
    whole_way(&cloud, "dry", false);
    assert!(serving.terminate().success());
    let commits = dry.count("store.commit.judged");
    assert!(commits > 10, "{commits}: an up, a put, a delivery, a run and a destroy are more");
    for turn in 1..=commits {
        let armed = format!("store.commit.judged@{turn}:enospc");
        let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &armed)]);
        whole_way(&cloud, &format!("commit{turn}"), false);
        cloud.observe();
        assert!(serving.terminate().success(), "{armed}");
    }
}

/// Where the client writes: its lock and state, and the build folder that it packs.
const CLIENT_WRITES: &[&str] = &[
    "engine.folder.making",
    "engine.lock.writing",
    "engine.state.writing",
    "engine.state.written",
    "engine.journal.opening",
    "engine.journal.writing",
    "engine.journal.clearing",
    "program.context.writing",
];

#[test]
fn a_full_disk_at_any_write_of_an_up_is_said_with_its_place_and_the_next_up_goes_on() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    for (n, point) in CLIENT_WRITES.iter().enumerate() {
        let project = project(&cloud, &format!("client{n}"));
        let armed = format!("{point}:enospc");
        let mut command = project.command();
        let full = Ran::run(command.args(["up", "--yes"]).env("TANDEM_FAILPOINT", &armed)).refused();
        // What a program's own line is the place of is told without the system's words.
        let told = ["No space left on device", "to a temporary file in"];
        assert!(told.iter().any(|words| full.stderr.contains(words)), "{point}:\n{}", full.all());
        assert!(full.stderr.contains("space"), "{point}: no remedy:\n{}", full.all());
        project.up();
        assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"), "{point}");
        let armed =
            Ran::run(project.command().args(["destroy", "--yes", "--force"]).env("TANDEM_FAILPOINT", &armed));
        if armed.code != Some(0) {
            armed.refused().says("space");
        }
        project.destroy();
    }
}

/// A cloud that cannot write its first files does not start, says why, and starts when there is room.
#[test]
fn a_first_start_on_a_full_disk_says_so_and_the_next_one_succeeds() {
    for point in ["credential.root.written", "gateway.address.writing", "store.commit.judged"] {
        let cloud = Cloud::new();
        let armed = format!("{point}:enospc");
        let full = Ran::run(cloud.command().arg("serve").env("TANDEM_FAILPOINT", &armed)).refused();
        assert!(full.stderr.contains("space") || full.stderr.contains("full"), "{point}:\n{}", full.all());
        let _serving = cloud.serve();
        let project = cloud.project("first", &[("index.js", "exports.a = 1;\n")]);
        project.up();
        assert!(fs::exists(cloud.home().join("address")).unwrap());
    }
}

/// A real disk: below the cloud's reserve, and then without a single free block.
#[test]
fn a_disk_that_is_really_full_loses_nothing_and_needs_no_restart_when_there_is_room() {
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "real");
    project.up();
    let (client, bucket) = (cloud.client(&project), project.output("bucket"));
    client.boto3(PUT_LARGE, &[&bucket, "kept"]).ok();
    cloud.log(&project).wait_for("ended real kept");
    let program = fs::read_to_string(project.folder().join("index.js")).unwrap();

    // 32 MiB are less than the reserve, and 0 are nothing.
    for (round, free) in [32 << 20, 0].into_iter().enumerate() {
        project.edit("index.js", &program.replace("handling", &format!("round {round} handles")));
        disk.fill_up_to(free);
        let refused = project.tandem(&["up", "--yes"]).refused();
        assert!(refused.stderr.contains("full") || refused.stderr.contains("No space"), "{}", refused.all());
        assert!(refused.stderr.contains("space"), "no remedy: {}", refused.all());
        let put = client.boto3(PUT_LARGE, &[&bucket, "new"]);
        assert!(put.code != Some(0), "an object was acknowledged on a full disk");
        // What is there is served.
        assert_eq!(client.boto3(SIZE, &[&bucket, "kept"]).ok().value(), (1 << 20).to_string());
        project.tandem(&["ps"]).ok();
        disk.free();
        project.up();
        client.boto3(PUT_LARGE, &[&bucket, "new"]).ok();
        let mut log = cloud.log(&project);
        log.wait_for(&format!("round {round} handles new"));
        log.wait_for_times("ended real new", round + 1);
    }
    project.destroy();
}

/// Deleting is how room is made: it works below the reserve.
#[test]
fn a_destroy_makes_room_on_a_disk_that_is_nearly_full() {
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "room");
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    client.boto3(PUT_LARGE, &[&bucket, "a"]).ok();
    client.boto3(PUT_LARGE, &[&bucket, "b"]).ok();
    disk.fill_up_to(32 << 20);
    assert_ne!(client.boto3(PUT_LARGE, &[&bucket, "c"]).code, Some(0));
    client.boto3("s3.delete_object(Bucket=arguments[0], Key='a')", &[&bucket]).ok();
    project.destroy();
    disk.free();
    project.up();
    project.destroy();
}

/// Buildah writes by itself; what it says of a full disk is passed on, and it leaves the room that it took.
#[test]
fn a_build_that_fills_the_disk_says_so_and_leaves_room_for_the_next() {
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = project(&cloud, "build");
    project.up();
    let good = fs::read_to_string(project.folder().join("job/Dockerfile")).unwrap();
    let large = format!("{good}RUN dd if=/dev/zero of=/large bs=1M count=300\n");
    project.edit("job/Dockerfile", &large);
    let refused = project.tandem(&["up", "--yes"]).refused();
    assert!(refused.stderr.contains("No space left on device"), "{}", refused.all());
    project.edit("job/Dockerfile", &format!("{good}RUN echo small > /small\n"));
    project.up();
    let (client, bucket) = (cloud.client(&project), project.output("bucket"));
    client.boto3(PUT_LARGE, &[&bucket, "a"]).ok();
    cloud.log(&project).wait_for("ended build a");
    project.destroy();
}
