//! Two things at once: a process is held at a failpoint while the test does something else to its world.

use std::time::Instant;

use crate::harness::{Beside, Cloud, Hold, Met, PATIENCE, Project};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
exports.bucket = bucket.id;
"#;

fn project<'a>(cloud: &'a Cloud, name: &str) -> Project<'a> {
    cloud.project(name, &[("index.js", PROGRAM)])
}

fn up(project: &Project<'_>) -> Beside {
    Beside::start(project.command().args(["up", "--yes"]))
}

#[track_caller]
fn settled(project: &Project<'_>) {
    let preview = project.tandem(&["preview"]).ok();
    assert!(preview.stdout.contains("Nothing to do"), "{}", preview.all());
}

#[test]
fn a_second_command_on_a_stack_is_told_who_holds_it_and_a_dead_holder_holds_nothing() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud, "held");
    let hold = Hold::new(cloud.scratch(), "begun");
    let mut command = project.command();
    let first =
        Beside::start(command.args(["up", "--yes"]).env("TANDEM_FAILPOINT", hold.at("engine.journal.begun")));
    hold.reached();
    let holder = format!("`tandem up` (process {})", first.pid());
    for arguments in
        [&["up", "--yes"][..], &["destroy", "--yes"], &["refresh", "--yes"], &["stack", "unlock"]]
    {
        project.tandem(arguments).failed("E0201").says(&holder);
    }
    // Looking needs no lock.
    project.tandem(&["stack", "show"]).ok();
    first.kill();
    project.tandem(&["stack", "unlock"]).ok().says("not locked");
    project.up();
    settled(&project);
    project.destroy();
}

/// No cloud runs: both start one, and one of the two finds that the other has.
#[test]
fn commands_that_begin_at_the_same_moment_without_a_cloud_end_as_if_one_had_waited() {
    for round in 0..3 {
        let cloud = Cloud::new();
        let one = project(&cloud, "one");
        let other = project(&cloud, "other");
        // Two stacks: both succeed.
        for beside in [up(&one), up(&other)] {
            beside.ran().ok();
        }
        settled(&one);
        settled(&other);
        cloud.tandem(&["serve", "--stop"]).ok();
        // One stack: each is done, or is told that the other one does it.
        let both = match round {
            0 => [up(&one), up(&one)],
            1 => [up(&one), Beside::start(one.command().args(["destroy", "--yes"]))],
            _ => [Beside::start(one.command().args(["destroy", "--yes"])), up(&one)],
        };
        let ended = both.map(|beside| beside.ran());
        assert!(ended.iter().any(|ran| ran.code == Some(0)), "{}\n{}", ended[0].all(), ended[1].all());
        for ran in ended {
            if ran.code != Some(0) {
                ran.failed("E0201");
            }
        }
        one.up();
        settled(&one);
        one.destroy();
        other.destroy();
    }
}

#[test]
fn an_up_that_meets_a_cloud_which_is_closing_waits_for_its_end_and_starts_the_next() {
    let cloud = Cloud::new();
    let hold = Hold::new(cloud.scratch(), "closing");
    let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &hold.at("cloud.close.drained"))]);
    let project = project(&cloud, "closing");
    project.up();
    let stopping = Beside::start(cloud.command().args(["serve", "--stop"]));
    hold.reached();
    project.edit("index.js", &PROGRAM.replace("saw", "has seen"));
    let mut next = up(&project);
    // It tries to start a cloud, which finds the folder taken.
    let deadline = Instant::now() + PATIENCE;
    while !cloud.processes().iter().any(|process| process.contains("serve --background")) {
        assert!(Instant::now() < deadline && !next.has_ended(), "it did not try to start a cloud");
        std::thread::yield_now();
    }
    hold.release();
    next.ran().ok();
    stopping.ran().ok();
    drop(serving);
    settled(&project);
    let bucket = project.output("bucket");
    cloud.client(&project).boto3("s3.put_object(Bucket=arguments[0], Key='k', Body=b'x')", &[&bucket]).ok();
    cloud.log(&project).wait_for("has seen k");
    project.destroy();
}

/// The object and its event are on disk, and whoever put it has gone before the dispatcher was told.
#[test]
fn a_client_that_goes_away_between_commit_and_handover_does_not_leave_its_event_behind() {
    const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x')";
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = project(&cloud, "gone");
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    assert!(serving.terminate().success());
    // How many commits a start makes by itself.
    let dry = Met::new(cloud.scratch(), "start");
    let serving = cloud.serve_with(&[dry.variable()]);
    let commits = dry.count("store.commit.synced");
    assert!(serving.terminate().success());

    let hold = Hold::new(cloud.scratch(), "committed");
    let held = hold.at(&format!("store.commit.synced@{}", commits + 1));
    let _serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &held)]);
    let putting = client.boto3_beside(PUT, &[&bucket, "lost"]);
    hold.reached();
    putting.kill();
    // The cloud hears of the end of a connection as it hears of another's request: after this it has.
    client.boto3("s3.list_buckets()", &[]).ok();
    hold.release();
    cloud.log(&project).wait_for("saw lost");
    project.destroy();
}

/// A cloud that is started anew while an `up` is under way: in its preview, between the plan and the first change,
/// between two changes.
#[test]
fn an_up_goes_on_with_a_cloud_that_was_restarted_under_it() {
    for point in ["program.context.writing", "engine.state.writing", "engine.journal.begun"] {
        let cloud = Cloud::new();
        let serving = cloud.serve();
        cloud.import_busybox();
        let program = format!("{PROGRAM}\nnew cloud.Task('job', {{ build: './job' }});\n");
        let files = [("index.js", &*program), ("job/Dockerfile", "FROM docker.io/library/busybox\n")];
        let project = cloud.project("restarted", &files);
        let hold = Hold::new(cloud.scratch(), "up");
        let mut command = project.command();
        let going = Beside::start(command.args(["up", "--yes"]).env("TANDEM_FAILPOINT", hold.at(point)));
        hold.reached();
        serving.kill();
        let _serving = cloud.serve();
        hold.release();
        going.ran().ok();
        settled(&project);
        project.destroy();
    }
}

/// The cloud's data is wiped between an `up`'s plan and its changes: what would be made in another cloud than the plan
/// was made for is refused.
#[test]
fn an_up_does_not_go_on_with_another_cloud_than_the_one_it_planned_for() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = project(&cloud, "wiped");
    let hold = Hold::new(cloud.scratch(), "up");
    let mut command = project.command();
    let held = hold.at("engine.journal.begun@2");
    let going = Beside::start(command.args(["up", "--yes"]).env("TANDEM_FAILPOINT", held));
    hold.reached();
    serving.kill();
    std::fs::remove_dir_all(cloud.home().join("data")).unwrap();
    let _serving = cloud.serve();
    hold.release();
    let stopped = going.ran();
    assert!(stopped.code == Some(1) && stopped.stderr.contains("another cloud"), "{}", stopped.all());
    project.tandem(&["up", "--yes"]).failed("E0207").says("tandem refresh");
    project.tandem(&["refresh", "--yes"]).ok();
    project.up();
    settled(&project);
    project.destroy();
}
