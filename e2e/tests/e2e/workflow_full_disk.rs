//! Workflows and entities on a full disk: what is refused can be asked for again, and what goes on loses nothing.

use std::{thread::sleep, time::Duration};

use serde_json::json;

use crate::{
    harness::{Cloud, Disk, Met, Project},
    workflows::{ended, until},
};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const df = require("durable-functions");
new cloud.Function("add", async ([a, b]) => a + b);
new cloud.Workflow("child", df.orchestrator(function* (ctx) {
    return yield ctx.df.callActivity("add", [ctx.df.getInput(), 100]);
}));
new cloud.Entity("sum", (ctx) => {
    const sum = ctx.df.getState(() => 0) + ctx.df.getInput();
    ctx.df.setState(sum);
    ctx.df.return(sum);
});
new cloud.Workflow("all", df.orchestrator(function* (ctx) {
    const one = yield ctx.df.callActivity("add", [1, 1]);
    const more = yield ctx.df.Task.all([1, 2].map((n) => ctx.df.callActivity("add", [one, n])));
    const child = yield ctx.df.callSubOrchestrator("child", more[0] + more[1], `${ctx.df.instanceId}-child`);
    yield ctx.df.createTimer(new Date(ctx.df.currentUtcDateTime.getTime() + 200));
    const entity = new df.EntityId("sum", ctx.df.instanceId);
    const sum = yield ctx.df.callEntity(entity, "add", child);
    const told = yield ctx.df.waitForExternalEvent("go");
    return yield ctx.df.callEntity(entity, "add", sum + told);
}));
"#;

/// Does it until it is not refused for want of space, which may happen once.
#[track_caller]
fn at_most_twice(project: &Project<'_>, arguments: &[&str]) -> bool {
    let first = project.tandem(arguments);
    if first.code == Some(0) {
        return true;
    }
    assert!(
        first.all().contains("space"),
        "{arguments:?}: a full disk must be called that:\n{}",
        first.all()
    );
    project.tandem(arguments).ok();
    false
}

/// An instance from its start to its end. 1 + 1, then + 1 and + 2, is 7; + 100 is 107; twice that and 1000 is 1214 for the sum, and
/// the sum before it.
fn whole_way(project: &Project<'_>, id: &str) -> bool {
    let started = at_most_twice(project, &["workflow", "start", "all", "--id", id]);
    let raised = at_most_twice(project, &["workflow", "raise", id, "go", "1000"]);
    let done = ended(project, id);
    assert_eq!(
        (&done["runtimeStatus"], &done["output"]),
        (&json!("Completed"), &json!(1214)),
        "{id}: {done}"
    );
    started && raised
}

#[test]
fn a_full_disk_under_any_commit_of_an_instance_changes_no_result() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project("full", &[("index.js", PROGRAM)]);
    project.up();
    assert!(serving.terminate().success());
    let dry = Met::new(cloud.scratch(), "dry");
    let serving = cloud.serve_with(&[dry.variable()]);
    assert!(whole_way(&project, "dry"), "nothing was full");
    assert!(serving.terminate().success());
    let commits = dry.count("store.commit.judged");
    assert!(commits > 12, "{commits}: so many turns, calls and operations are more");
    let mut refused = 0;
    for turn in 1..=commits {
        let armed = format!("store.commit.judged@{turn}:enospc");
        let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &armed)]);
        refused += usize::from(!whole_way(&project, &format!("full{turn}")));
        assert!(serving.terminate().success(), "{armed}");
    }
    assert!((1..=4).contains(&refused), "{refused}: what nobody asked for just now is tried again by itself");
    let _serving = cloud.serve();
    project.tandem(&["destroy", "--yes", "--force"]).ok();
}

#[test]
fn an_instance_on_a_disk_that_is_really_full_goes_on_when_there_is_room() {
    let disk = Disk::of_mebibytes(256);
    let cloud = Cloud::new_in(disk.path());
    let _serving = cloud.serve();
    let project = cloud.project("full", &[("index.js", PROGRAM)]);
    project.up();
    project.tandem(&["workflow", "start", "all", "--id", "one"]).ok();
    until(&project, "one", "Running");
    disk.fill_up_to(0);
    let refused = project.tandem(&["workflow", "start", "all", "--id", "two"]);
    assert!(refused.code != Some(0) && refused.all().contains("space"), "{}", refused.all());
    let refused = project.tandem(&["workflow", "raise", "one", "go", "1000"]);
    assert!(refused.code != Some(0) && refused.all().contains("space"), "{}", refused.all());
    // Its timer is due meanwhile.
    sleep(Duration::from_secs(2));
    project.tandem(&["workflow", "show", "one"]).ok();
    disk.free();
    project.tandem(&["workflow", "raise", "one", "go", "1000"]).ok();
    assert_eq!(ended(&project, "one")["output"], 1214);
    assert!(whole_way(&project, "two"));
    project.tandem(&["destroy", "--yes", "--force"]).ok();
}
