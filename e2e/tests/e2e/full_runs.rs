//! The disk fills under runs: before the monitor starts, while a container prints, and when it ends.

use std::{thread, time::Instant};

use serde_json::Value;

use crate::harness::{Beside, Cloud, Disk, Gate, Hold, Met, PATIENCE, Project};

/// Says what it does, and stops at the gate in between.
fn project<'a>(cloud: &'a Cloud, gate: &Gate) -> Project<'a> {
    cloud.import_busybox();
    let script = format!(
        "{}; echo while the disk is full; {}; echo when there is room; {}; echo at the end; exit 7",
        gate.command("begun"),
        gate.command("full"),
        gate.command("room"),
    );
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         new cloud.Task('job', {{ image: 'docker.io/library/busybox', command: ['sh', '-c', {script:?}] }});\n"
    );
    cloud.project("runs", &[("index.js", &program)])
}

/// What `ps` says of the one run.
fn run(project: &Project<'_>) -> Value {
    let ps: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    ps["runs"][0].clone()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::yield_now();
    }
}

#[test]
fn a_run_that_finds_the_disk_full_waits_says_so_and_runs_when_there_is_room() {
    let elsewhere = tempfile::tempdir().unwrap();
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let hold = Hold::new(elsewhere.path(), "prepared");
    let _serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &hold.at("container.start.prepared"))]);
    let mut gate = Gate::open();
    let project = project(&cloud, &gate);
    project.up();
    let running = Beside::start(project.command().args(["run", "job"]));
    hold.reached();
    disk.fill_up_to(0);
    hold.release();
    until("a run that waits", || {
        let run = run(&project);
        assert!(run["outcome"].is_null(), "{run}");
        run["waits"] == "the disk is full"
    });
    disk.free();
    let ran = running.ran();
    assert_eq!(ran.code, Some(7), "{}", ran.all());
    assert!(ran.stdout.contains("at the end"), "{}", ran.all());
    assert_eq!(gate.count("begun"), 1, "it ran more than once");
    cloud.observe();
    project.destroy();
}

#[test]
fn lines_that_a_full_disk_cost_a_container_are_not_lost_without_a_word() {
    let elsewhere = tempfile::tempdir().unwrap();
    let met = Met::new(elsewhere.path(), "met");
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let _serving = cloud.serve_with(&[met.variable()]);
    let mut gate = Gate::shut();
    let project = project(&cloud, &gate);
    project.up();
    let running = Beside::start(project.command().args(["run", "job"]));
    let begun = gate.wait_for("begun");
    disk.fill_up_to(0);
    begun.release();
    let full = gate.wait_for("full");
    until("a look at the disk", || met.count("task.disk.seen-full") > 0);
    disk.free();
    full.release();
    let mut log = cloud.log(&project);
    log.wait_for("when there is room");
    let said = log.wait_for("lines that the container printed meanwhile may be missing");
    assert_eq!(said.stream, "system");
    gate.wait_for("room").release();
    let ran = running.ran();
    assert_eq!(ran.code, Some(7), "{}", ran.all());
    log.wait_for("at the end");
    drop(log);
    cloud.observe();
    project.destroy();
}

/// The monitor cannot write the exit code, which nobody else knows. The outcome says that, and so does the log.
#[test]
fn a_container_that_ends_on_a_full_disk_is_lost_for_that_reason_and_its_log_says_what_may_be_missing() {
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let _serving = cloud.serve();
    let mut gate = Gate::shut();
    let project = project(&cloud, &gate);
    project.up();
    let running = Beside::start(project.command().args(["run", "job"]));
    gate.wait_for("begun").release();
    gate.wait_for("full").release();
    let last = gate.wait_for("room");
    disk.fill_up_to(0);
    last.release();
    until("the end of the monitor", || !cloud.processes().iter().any(|process| process.contains("conmon")));
    // Its outcome cannot be recorded yet; that is tried until there is room.
    assert!(run(&project)["outcome"].is_null());
    disk.free();
    let ran = running.ran();
    assert_eq!(ran.code, Some(125), "{}", ran.all());
    assert!(ran.stderr.contains("was lost: the disk was full when it ended"), "{}", ran.all());
    assert_eq!(run(&project)["outcome"]["fullDisk"], true);
    let mut log = cloud.log(&project);
    log.wait_for("when there is room");
    log.wait_for("lines that the container printed meanwhile may be missing");
    drop(log);
    cloud.observe();
    project.destroy();
}
