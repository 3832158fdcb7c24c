//! Instances that failed, and go on from before their last step.

use serde_json::{Value, json};

use crate::{
    harness::{Cloud, Project},
    workflows::{ended, status, until},
};

/// `second` fails until there is the object `ready`.
const PROGRAM: &str = r#"
const cloud = require('@tandem/cloud');
const df = require('durable-functions');
const bucket = new cloud.Bucket('b', { forceDestroy: true });
new cloud.Function('first', async (id) => {
    console.log(`first of ${id}`);
    return 1;
});
new cloud.Function('second', async (id) => {
    const keys = (await bucket.list()).map((one) => one.key);
    if (!keys.includes('ready')) throw new Error('not ready');
    return 2;
});
new cloud.Function('make', async () => bucket.put('ready', 'yes'));
new cloud.Workflow('steps', df.orchestrator(function* (ctx) {
    const id = ctx.df.instanceId;
    const one = yield ctx.df.callActivity('first', id);
    const said = yield ctx.df.waitForExternalEvent('go');
    const both = yield ctx.df.Task.all([ctx.df.callActivity('first', id), ctx.df.callActivity('second', id)]);
    return [one, said, ...both];
}));
new cloud.Workflow('outer', df.orchestrator(function* (ctx) {
    return yield ctx.df.callSubOrchestrator('steps', null, 'inner');
}));
"#;

/// Starts an instance that fails at its second step, and says what it then has.
fn fails(project: &Project, workflow: &str, id: &str, waits: &str) -> Value {
    project.tandem(&["workflow", "start", workflow, "--id", id]).ok();
    while project.tandem(&["workflow", "raise", waits, "go", "\"now\""]).code != Some(0) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let failed = ended(project, id);
    assert_eq!(failed["runtimeStatus"], "Failed", "{failed}");
    assert!(failed["output"].as_str().expect("a reason").contains("not ready"), "{failed}");
    failed
}

#[test]
fn an_instance_that_failed_goes_on_from_before_its_last_step_also_if_it_is_killed() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    project.up();
    fails(&project, "steps", "one", "one");
    let twice = fails(&project, "steps", "one-more", "one-more");
    // It still fails as long as what it needs is not there, and can be rewound again.
    project.tandem(&["workflow", "rewind", "one-more"]).ok();
    assert_eq!(ended(&project, "one-more")["output"], twice["output"]);
    serving.kill();

    let serving = cloud.serve_until("workflow.rewind.committed");
    project.tandem(&["invoke", "make"]).ok();
    project.tandem(&["workflow", "rewind", "one"]);
    serving.died("workflow.rewind.committed");
    let _serving = cloud.serve();
    project.tandem(&["workflow", "rewind", "one-more"]).ok();
    for id in ["one", "one-more"] {
        let done = until(&project, id, "Completed");
        assert_eq!(done["output"], json!([1, "now", 1, 2]), "{done}");
        let failures = done["historyEvents"].as_array().expect("events").iter();
        assert_eq!(failures.filter(|event| event["EventType"] == "TaskFailed").count(), 0, "{done}");
    }
    // What had a result is not called again: twice each, and no third time.
    let mut log = cloud.log(&project);
    log.wait_for_times("first of one-more", 2);
    let firsts = log.texts().iter().filter(|text| **text == "first of one-more").count();
    assert_eq!(firsts, 2, "{:?}", log.texts());
    project.tandem(&["workflow", "rewind", "one"]).failed("E0873").says("has not failed");
    project.tandem(&["workflow", "rewind", "none"]).failed("E0871");
    project.destroy();
}

#[test]
fn a_rewound_instance_takes_its_failed_child_with_it() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    project.up();
    fails(&project, "outer", "whole", "inner");
    assert_eq!(status(&project, "inner")["runtimeStatus"], "Failed");
    project.tandem(&["invoke", "make"]).ok();
    project.tandem(&["workflow", "rewind", "whole"]).ok();
    assert_eq!(until(&project, "whole", "Completed")["output"], json!([1, "now", 1, 2]));
    assert_eq!(until(&project, "inner", "Completed")["output"], json!([1, "now", 1, 2]));
    project.destroy();
}
