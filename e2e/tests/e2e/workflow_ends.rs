//! How instances end that do not end well: terminated, deleted, too large, in a chain without an end.

use std::{thread::sleep, time::Duration};

use serde_json::Value;

use crate::{
    harness::{Cloud, Project},
    workflows::{ended, until},
};

const PROGRAM: &str = r#"const cloud = require('@tandem/cloud');
const df = require('durable-functions');
new cloud.Function('F', async (x) => x + 1);
cloud.workflow('async', async function* (ctx) {
    let x = yield ctx.df.callActivity('F', 1);
    x = yield ctx.df.callActivity('F', x);
    return x;
});
new cloud.Workflow('throws', df.orchestrator(function* () {
    throw new Error('on purpose');
}));
new cloud.Function('slow', async () => new Promise((done) => setTimeout(done, 60_000)), { timeout: 1 });
new cloud.Workflow('patient', df.orchestrator(function* (ctx) {
    try {
        yield ctx.df.callActivityWithRetry('slow', new df.RetryOptions(10, 2));
    } catch (error) {
        return error.message;
    }
}));
new cloud.Workflow('large', df.orchestrator(function* () { return 'x'.repeat(2 << 20); }));
new cloud.Workflow('endless', df.orchestrator(function* () { for (;;); }), { timeout: 600 });
const again = new cloud.Workflow('again', df.orchestrator(function* (ctx) {
    return yield ctx.df.callActivity('next', ctx.df.getInput());
}));
new cloud.Workflow('deep', df.orchestrator(function* (ctx) {
    return yield ctx.df.callSubOrchestrator('deep', ctx.df.getInput() + 1, `d${ctx.df.getInput() + 1}`);
}));
new cloud.Function('next', async (n) => {
    await again.start(n + 1, { id: `n${n + 1}` });
    return n;
});
"#;

#[test]
fn instances_end_as_they_should() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    project.up();
    let done = project.tandem(&["workflow", "start", "async", "--wait"]).ok();
    assert_eq!(done.stdout.trim(), "3");

    project.tandem(&["workflow", "start", "throws", "--id", "thrown", "--wait"]).failed("E0876");
    let shown = project.tandem(&["workflow", "show", "thrown"]).ok().stdout;
    assert!(shown.contains("index.js:10:"), "the place of the throw is told: {shown}");
    project.tandem(&["workflow", "start", "large", "--wait"]).failed("E0876").says("E0874");

    // An activity that never returns ends at its timeout, and is tried again.
    let slow = project.tandem(&["workflow", "start", "patient", "--id", "patient", "--wait"]).ok();
    assert!(slow.stdout.contains("slow") && slow.stdout.contains("timed out"), "{}", slow.stdout);
    let shown = project.tandem(&["workflow", "show", "patient"]).ok().stdout;
    assert_eq!(shown.matches("failed: Activity function 'slow'").count(), 2, "{shown}");
    let ps = project.tandem(&["ps"]).ok().stdout;
    let counted =
        ps.lines().skip_while(|line| !line.starts_with("WORKFLOW")).find(|line| line.starts_with("patient"));
    assert_eq!(
        counted.map(|line| line.split_whitespace().collect()),
        Some(vec!["patient", "0", "0", "1", "0", "0"])
    );

    // An orchestrator that never answers holds nobody up who ends it.
    project.tandem(&["workflow", "start", "endless", "--id", "endless"]).ok();
    sleep(Duration::from_millis(300));
    project.tandem(&["workflow", "terminate", "endless", "--reason", "enough"]).ok();
    assert_eq!(until(&project, "endless", "Terminated")["output"], "enough");

    // A chain that starts itself ends by itself.
    project.tandem(&["workflow", "start", "again", "0", "--id", "n0"]).ok();
    let last = (0..150).map(|n| format!("n{n}")).map(|id| ended(&project, &id)).find(is_failed);
    let last = last.expect("it ends before it is out of sight");
    assert!(last["output"].as_str().expect("a reason").contains("chain of 100 steps"), "{last}");
    assert!(last["input"].as_u64().is_some_and(|n| (40..=100).contains(&n)), "{last}");
    // And so does one that waits for itself.
    project.tandem(&["workflow", "start", "deep", "0", "--id", "d0"]).ok();
    let first = ended(&project, "d0");
    assert!(is_failed(&first) && first["output"].to_string().contains("E0652"), "{first}");
    project.tandem(&["workflow", "show", "d98"]).ok();
    project.tandem(&["workflow", "show", "d101"]).failed("E0871");
    project.destroy();
}

fn is_failed(status: &Value) -> bool {
    status["runtimeStatus"] == "Failed"
}

const WAITING: &str = "
new cloud.Function('used', async () => 1);
new cloud.Function('other', async () => 1);
new cloud.Workflow('parent', df.orchestrator(function* (ctx) {
    yield ctx.df.callActivity('used');
    try { yield ctx.df.callSubOrchestrator('child', null, 'c'); } catch (error) { return error.message; }
}));
";
const CHILD: &str = "
new cloud.Workflow('child', df.orchestrator(function* (ctx) {
    yield ctx.df.waitForExternalEvent('never');
}));
";

fn waiting(cloud: &Cloud) -> (Project<'_>, impl Fn(&[&str]) -> String) {
    let source = |parts: &[&str]| {
        let head = "const cloud = require('@tandem/cloud');\nconst df = require('durable-functions');\n";
        format!("{head}{}", parts.concat())
    };
    (cloud.project("shop", &[("index.js", &source(&[WAITING, CHILD]))]), source)
}

#[test]
fn a_deleted_workflow_takes_its_instances_with_it_and_says_so_before() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let (project, source) = waiting(&cloud);
    project.up();
    project.tandem(&["workflow", "start", "parent", "--id", "p"]).ok();
    while project.tandem(&["workflow", "show", "c"]).code != Some(0) {
        sleep(Duration::from_millis(20));
    }
    // What is called is needed as long as somebody may call it.
    project.edit("index.js", &source(&[&WAITING.replace("'used', async", "'unused', async"), CHILD]));
    let told = project.tandem(&["preview"]).ok().all();
    assert!(told.contains("E0877") && told.contains("function/used"), "{told}");
    assert!(!told.contains("function/other, which"), "{told}");

    project.edit("index.js", &source(&[WAITING]));
    let told = project.tandem(&["preview"]).ok().all();
    assert!(told.contains("1 instance of workflow/child has not ended"), "{told}");
    serving.kill();
    let serving = cloud.serve_until("workflow.instances.erased");
    project.tandem(&["up", "--yes"]);
    serving.died("workflow.instances.erased");
    let _serving = cloud.serve();
    project.up();
    project.tandem(&["workflow", "show", "c"]).failed("E0871");
    let parent = until(&project, "p", "Completed");
    assert!(parent["output"].as_str().expect("a reason").contains("was deleted"), "{parent}");
    project.destroy();
    assert_ne!(project.tandem(&["workflow", "show", "p"]).code, Some(0));
}
