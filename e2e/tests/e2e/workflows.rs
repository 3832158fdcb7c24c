//! Workflows: the examples, as they stand, and a cloud that is killed while they run.

use std::{fmt::Write as _, thread::sleep, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Cloud, Project};

pub(crate) fn status(project: &Project, id: &str) -> Value {
    serde_json::from_str(&project.tandem(&["workflow", "show", id, "--json"]).ok().stdout)
        .expect("the status is JSON")
}

/// Waits until an instance has ended, however it does.
pub(crate) fn ended(project: &Project, id: &str) -> Value {
    for _ in 0..600 {
        let now = status(project, id);
        if !matches!(now["runtimeStatus"].as_str(), Some("Pending" | "Running" | "Suspended")) {
            return now;
        }
        sleep(Duration::from_millis(50));
    }
    panic!("{id} does not end: {}", status(project, id));
}

/// Waits until an instance is as it should be.
pub(crate) fn until(project: &Project, id: &str, wanted: &str) -> Value {
    for _ in 0..600 {
        let now = status(project, id);
        if now["runtimeStatus"] == wanted {
            return now;
        }
        assert_ne!(now["runtimeStatus"], "Failed", "{now}");
        sleep(Duration::from_millis(50));
    }
    panic!("{id} is not {wanted}: {}", status(project, id));
}

#[test]
fn the_slides_chain_runs_as_it_stands_and_shows_each_step() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "function-chaining");
    let _serving = cloud.serve();
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    let done = project.tandem(&["workflow", "start", "chain", "--wait", "--id", "one"]).ok();
    assert_eq!(done.stdout.trim(), "\"the work is done\"");
    let shown = project.tandem(&["workflow", "show", "one"]).ok().stdout;
    for line in ["chain", "Completed", "F1", "F4", "the work is done"] {
        assert!(shown.contains(line), "{shown}");
    }
    let why = project.tandem(&["why", "one"]).ok().stdout;
    for line in ["instance one of workflow/chain completed", "function/F1 answered", "function/F4 answered"] {
        assert!(why.contains(line), "{why}");
    }
    let told = status(&project, "one");
    assert_eq!(told["instanceId"], "one");
    assert_eq!(told["output"], "the work is done");
    assert_eq!(told["input"], Value::Null);
    let names: Vec<_> = told["historyEvents"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["EventType"] == "TaskCompleted")
        .map(|event| event["FunctionName"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["F1", "F2", "F3", "F4"]);
    // Wrong things say what to do.
    project.tandem(&["workflow", "start", "chains"]).failed("E0870").says("there is no workflow/chains");
    project.tandem(&["workflow", "show", "two"]).failed("E0871");
    project.tandem(&["workflow", "raise", "one", "late"]).failed("E0873").says("has ended");
    for id in ["..", "a/b", "ä", &"x".repeat(101)] {
        project.tandem(&["workflow", "start", "chain", "--id", id]).failed("E0872").says("cannot be the id");
    }
    project.edit("large.json", &format!("\"{}\"", "x".repeat(2 << 20)));
    project.tandem(&["workflow", "start", "chain", "@large.json"]).failed("E0874").says("1 MiB is the most");
    project.tandem(&["workflow", "ls", "--status", "sleeping"]).says("[possible values: pending, running");
    let listed = project.tandem(&["workflow", "ls", "--status", "Completed"]).ok().stdout;
    assert!(listed.contains("one"), "{listed}");
    project.tandem(&["workflow", "purge", "one"]).ok();
    project.tandem(&["workflow", "show", "one"]).failed("E0871");
    project.destroy();
}

#[test]
fn an_approval_waits_for_a_person_or_its_deadline_also_while_the_cloud_is_killed() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "human-approval");
    let serving = cloud.serve();
    project.up();
    let start = |id: &str, seconds: u32| {
        let input = json!({ "who": "Ada", "amount": 12, "seconds": seconds }).to_string();
        project.tandem(&["workflow", "start", "approval", &input, "--id", id]).ok();
    };
    start("yes", 3600);
    start("no", 3600);
    start("late", 1);
    let refused = project.tandem(&["workflow", "start", "approval", "1", "--id", "yes"]);
    refused.failed("E0872").says("exists already");
    project.tandem(&["workflow", "raise", "yes", &"x".repeat(257)]).failed("E0872").says("256 bytes");
    cloud.log(&project).wait_for_times("*** Ada asks for 12", 3);
    let shown = project.tandem(&["workflow", "show", "yes"]).ok().stdout;
    assert!(shown.contains("event approval") && shown.contains("waits for it"), "{shown}");
    serving.kill();
    let _serving = cloud.serve();
    project.tandem(&["workflow", "raise", "yes", "approval", r#"{"approved":true}"#]).ok();
    project.tandem(&["workflow", "raise", "no", "approval", r#"{"approved":false}"#]).ok();
    assert_eq!(until(&project, "yes", "Completed")["output"], "paid 12");
    assert_eq!(until(&project, "no", "Completed")["output"], "refused");
    assert_eq!(until(&project, "late", "Completed")["output"], "asked somebody else about 12");
    start("ended", 3600);
    project.tandem(&["workflow", "suspend", "ended"]).ok();
    project.tandem(&["workflow", "terminate", "ended", "--reason", "enough"]).ok();
    assert_eq!(until(&project, "ended", "Terminated")["output"], "enough");
    project.destroy();
}

#[test]
fn a_fan_out_adds_up_what_all_answer() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "fan-out");
    let _serving = cloud.serve();
    project.up();
    let texts: Vec<_> = (0..100).map(|n| "word ".repeat(n % 7)).collect();
    let sum: usize = (0..100).map(|n| n % 7).sum();
    let done = project.tandem(&["workflow", "start", "words", &json!(texts).to_string(), "--wait"]).ok();
    assert_eq!(done.stdout.trim(), sum.to_string());
    project.destroy();
}

#[test]
fn chains_end_with_the_right_result_though_the_cloud_is_killed_again_and_again() {
    const INSTANCES: usize = 60;
    const KILLS: usize = 5;
    let cloud = Cloud::new();
    let mut program = String::from(
        "const cloud = require('@tandem/cloud');\nconst df = require('durable-functions');\n\
         new cloud.Workflow('chain', df(function* (ctx) {\n    let x = ctx.df.getInput();\n",
    );
    for n in 1..=4 {
        let _ = writeln!(program, "    x = yield ctx.df.callActivity('F{n}', x);");
    }
    program.push_str("    return x;\n}));\n");
    for n in 1..=4 {
        let _ = writeln!(program, "new cloud.Function('F{n}', async (x) => x * 10 + {n});");
    }
    let project = cloud.project("shop", &[("index.js", &program)]);
    let mut serving = cloud.serve();
    project.up();
    for n in 0..INSTANCES {
        let (id, input) = (format!("i{n}"), n.to_string());
        project.tandem(&["workflow", "start", "chain", &input, "--id", &id]).ok();
        if n % (INSTANCES / KILLS) == INSTANCES / KILLS - 1 {
            serving.kill();
            serving = cloud.serve();
        }
    }
    for n in 0..INSTANCES {
        let ended = until(&project, &format!("i{n}"), "Completed");
        assert_eq!(ended["output"], json!(n * 10_000 + 1234), "{ended}");
        let done: Vec<_> = ended["historyEvents"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["EventType"] == "TaskCompleted")
            .map(|event| event["FunctionName"].clone())
            .collect();
        assert_eq!(done, ["F1", "F2", "F3", "F4"], "each is recorded once: {ended}");
    }
    project.destroy();
    drop(serving);
}

/// Where a workflow's commits are, and what lies between them.
const POINTS: &[&str] = &[
    "workflow.message.committed",
    "workflow.turn.answered",
    "workflow.turn.answered@3",
    "workflow.turn.committed",
    "workflow.turn.committed@2",
    "workflow.turn.committed@5",
    "workflow.activity.done",
    "workflow.activity.done@4",
];

#[test]
fn a_kill_at_any_commit_point_changes_no_result() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "function-chaining");
    let serving = cloud.serve();
    project.up();
    serving.kill();
    for point in POINTS {
        let id = point.replace('@', "-");
        let serving = cloud.serve_until(point);
        let started = project.tandem(&["workflow", "start", "chain", "--id", &id]);
        serving.died(point);

        let serving = cloud.serve();
        if project.tandem(&["workflow", "show", &id]).code != Some(0) {
            assert_ne!(started.code, Some(0), "{point}: what was acknowledged is gone");
            project.tandem(&["workflow", "start", "chain", "--id", &id]).ok();
        }
        let ended = until(&project, &id, "Completed");
        assert_eq!(ended["output"], "the work is done", "{point}: {ended}");
        let done = ended["historyEvents"].as_array().unwrap().iter();
        let done = done.filter(|event| event["EventType"] == "TaskCompleted").count();
        assert_eq!(done, 4, "{point}: {ended}");
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    project.destroy();
}

#[test]
fn a_workflow_waits_for_a_container_through_a_restart_and_runs_it_once() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let project = cloud.project(
        "shop",
        &[(
            "index.js",
            "const cloud = require('@tandem/cloud');\nconst df = require('durable-functions');\n\
             new cloud.Task('render', { image: 'docker.io/library/busybox', memoryReservation: 16,\n\
                 command: ['sh', '-c', 'echo rendering $WHAT; sleep 2; echo 7 > $TANDEM_RESULT'] });\n\
             new cloud.Task('broken', { image: 'docker.io/library/busybox', memoryReservation: 16,\n\
                 command: ['sh', '-c', 'echo oh no; exit 3'] });\n\
             new cloud.Workflow('rendering', df.orchestrator(function* (ctx) {\n\
                 const name = yield ctx.df.callTask('render', { environment: { WHAT: ctx.df.getInput() } });\n\
                 try { yield ctx.df.callTask('broken', {}); } catch (error) { return [name, String(error.message)]; }\n\
             }));\n",
        )],
    );
    project.up();
    project.tandem(&["workflow", "start", "rendering", "\"cat\"", "--id", "one"]).ok();
    cloud.log(&project).wait_for("rendering cat");
    serving.kill();
    let _serving = cloud.serve();
    let output = until(&project, "one", "Completed")["output"].clone();
    assert_eq!(output[0], 7);
    let shown = project.tandem(&["workflow", "show", "one"]).ok().stdout;
    let runs = project.tandem(&["runs", "ls"]).ok().stdout;
    let run =
        shown.split("render (run ").nth(1).and_then(|rest| rest.split(')').next()).expect("the run is named");
    assert!(runs.contains(&run[run.len() - 12..]), "{run}: {runs}");
    let error = output[1].as_str().unwrap();
    assert!(error.contains("broken") && error.contains("oh no"), "{error}");
    // All that came before this line is there by then.
    let mut log = cloud.log(&project);
    log.wait_for("oh no");
    assert_eq!(log.texts().iter().filter(|text| **text == "rendering cat").count(), 1);
    project.destroy();
}

/// The management URLs, by a client that knows nothing of us.
const OVER_HTTP: &str = r#"
import os, time, urllib.request, urllib.error
code = os.environ['AWS_ACCESS_KEY_ID'] + '.' + os.environ['AWS_SECRET_ACCESS_KEY']
root = os.environ['AWS_ENDPOINT_URL'] + '/runtime/webhooks/durabletask'
def ask(method, url, body=None):
    request = urllib.request.Request(url, method=method, data=None if body is None else json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read() or 'null')
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or 'null')
status, links = ask('POST', f'{root}/orchestrators/approval?code={code}', {'who': 'Ada', 'amount': 3, 'seconds': 600})
assert status == 202, links
status, now = ask('GET', links['statusQueryGetUri'])
assert (status, now['instanceId']) == (202, links['id']), now
status, _ = ask('POST', links['sendEventPostUri'].replace('{eventName}', 'approval'), {'approved': True})
assert status == 202
status, now = ask('GET', links['statusQueryGetUri'] + '&wait=60&showHistory=true')
assert (status, now['runtimeStatus'], now['output']) == (200, 'Completed', 'paid 3'), now
assert [event['FunctionName'] for event in now['historyEvents'] if event['EventType'] == 'TaskCompleted'] == ['request', 'pay']
assert ask('POST', links['terminatePostUri'].replace('{text}', 'late'))[0] == 410
status, again = ask('POST', links['restartPostUri'] + '&restartWithNewInstanceId=false', {})
assert (status, again['id']) == (202, links['id']), again
assert ask('POST', links['rewindPostUri'].replace('{text}', ''))[0] == 400
assert ask('POST', links['suspendPostUri'].replace('{text}', ''))[0] == 202
while ask('GET', links['statusQueryGetUri'])[1]['runtimeStatus'] != 'Suspended': time.sleep(0.02)
assert ask('POST', links['resumePostUri'].replace('{text}', ''))[0] == 202
assert ask('POST', links['sendEventPostUri'].replace('{eventName}', 'approval'), {'approved': False})[0] == 202
status, now = ask('GET', links['statusQueryGetUri'] + '&wait=60')
assert (status, now['output']) == (200, 'refused'), now
assert ask('POST', f"{root}/instances/{links['id']}/dance?code={code}", {})[0] == 404
assert ask('GET', f'{root}/nothing?code={code}')[0] == 404
status, wrong = ask('GET', f'{root}/instances?top=many&code={code}')
assert status == 400 and 'top' in wrong['Message'], wrong
assert ask('GET', f'{root}/instances?runtimeStatus=Completed&code={code}')[1][0]['instanceId'] == links['id']
assert ask('DELETE', links['purgeHistoryDeleteUri']) == (200, {'instancesDeleted': 1})
assert ask('GET', links['statusQueryGetUri'])[0] == 404
assert ask('POST', f'{root}/orchestrators/nothing?code={code}', 1)[0] == 404
assert ask('GET', f'{root}/instances?code={code}x')[0] == 401
print('all as documented')
"#;

#[test]
fn the_management_urls_of_durable_functions_start_tell_and_purge() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "human-approval");
    let _serving = cloud.serve();
    project.up();
    let said = cloud.client(&project).boto3(OVER_HTTP, &[]).ok().stdout;
    assert_eq!(said.trim(), "all as documented");
    project.destroy();
}

#[test]
fn an_instance_ends_on_the_code_that_it_began_with() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let program = |says: &str| {
        format!(
            "const cloud = require('@tandem/cloud');\nconst df = require('durable-functions');\n\
             new cloud.Workflow('waiting', df.orchestrator(function* (ctx) {{\n\
                 const name = yield ctx.df.waitForExternalEvent('name');\n\
                 return `{says} ${{name}}`;\n}}));\n"
        )
    };
    let project = cloud.project("shop", &[("index.js", &program("hello"))]);
    project.up();
    project.tandem(&["workflow", "start", "waiting", "--id", "old"]).ok();
    until(&project, "old", "Running");
    project.edit("index.js", &program("goodbye"));
    project.up();
    project.tandem(&["workflow", "start", "waiting", "--id", "new"]).ok();
    until(&project, "new", "Running");
    serving.kill();
    let _serving = cloud.serve();
    for id in ["old", "new"] {
        project.tandem(&["workflow", "raise", id, "name", "\"Ada\""]).ok();
    }
    assert_eq!(until(&project, "old", "Completed")["output"], "hello Ada");
    assert_eq!(until(&project, "new", "Completed")["output"], "goodbye Ada");
    project.destroy();
}

#[test]
fn an_orchestrator_that_takes_other_steps_than_before_fails_with_the_first_of_them() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project(
        "shop",
        &[(
            "index.js",
            "const cloud = require('@tandem/cloud');\nconst df = require('durable-functions');\n\
             const loaded = Date.now();\n\
             new cloud.Workflow('unsteady', df.orchestrator(function* (ctx) {\n\
                 try { yield ctx.df.callActivity(`F${loaded}`); } catch {}\n\
                 yield ctx.df.waitForExternalEvent('go');\n}));\n\
             new cloud.Workflow('throws', df.orchestrator(function* () { throw new Error('on purpose'); }));\n\
             new cloud.Workflow('endless', df.orchestrator(function* () { for (;;); }), { timeout: 1 });\n",
        )],
    );
    project.up();
    project.tandem(&["workflow", "start", "unsteady", "--id", "one"]).ok();
    // Its activity is not there, which is an error that it takes for what it is.
    let failed = |told: &Value| told["historyEvents"].to_string().contains("TaskFailed");
    while !failed(&until(&project, "one", "Running")) {
        sleep(Duration::from_millis(50));
    }
    serving.kill();
    let _serving = cloud.serve();
    project.tandem(&["workflow", "raise", "one", "go"]).ok();
    let failed = ended(&project, "one");
    assert_eq!(failed["runtimeStatus"], "Failed", "{failed}");
    assert!(failed["output"].as_str().unwrap().contains("activity \"F"), "{failed}");

    // What it was told in its last turn is told, too.
    let shown = project.tandem(&["workflow", "show", "one"]).ok().stdout;
    assert!(shown.lines().any(|line| line.contains("event go") && line.ends_with("raised")), "{shown}");

    project.tandem(&["workflow", "start", "throws", "--wait"]).failed("E0876").says("on purpose");
    project.tandem(&["workflow", "start", "endless", "--wait"]).failed("E0876");
    project.destroy();
}

/// Workflows that call others, try again, and go on as new; and a function that starts one.
const OTHERS: &str = r#"
const cloud = require('@tandem/cloud');
const df = require('durable-functions');
const bucket = new cloud.Bucket('b', { forceDestroy: true });
new cloud.Function('flaky', async (key) => {
    const tries = (await bucket.list()).filter((one) => one.key.startsWith(key)).length;
    await bucket.put(`${key}${tries}`, 'x');
    if (tries < 2) throw new Error(`try ${tries} failed`);
    return tries;
});
new cloud.Workflow('inner', df.orchestrator(function* (ctx) {
    const input = ctx.df.getInput();
    if (input === 'bad') throw new Error('inner is bad');
    return yield ctx.df.callActivityWithRetry('flaky', new df.RetryOptions(10, 3), input);
}));
new cloud.Workflow('outer', df.orchestrator(function* (ctx) {
    const tries = yield ctx.df.callSubOrchestrator('inner', 'k', 'child');
    let said = '';
    try {
        yield ctx.df.callSubOrchestrator('inner', 'bad');
    } catch (error) {
        said = error.message;
    }
    ctx.df.setCustomStatus({ tries });
    return [tries, said];
}));
const counter = new cloud.Workflow('counter', df.orchestrator(function* (ctx) {
    const n = ctx.df.getInput();
    if (n === 20) return n;
    yield ctx.df.createTimer(ctx.df.currentUtcDateTime);
    ctx.df.continueAsNew(n + 1);
}));
new cloud.Function('starter', async (from) => counter.start(from));
"#;

#[test]
fn workflows_call_workflows_try_again_and_go_on_as_new() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = cloud.project("shop", &[("index.js", OTHERS)]);
    project.up();
    project.tandem(&["workflow", "start", "outer", "--id", "one"]).ok();
    let done = until(&project, "one", "Completed");
    assert_eq!(done["output"][0], 2, "{done}");
    assert!(done["output"][1].as_str().unwrap().contains("inner is bad"), "{done}");
    assert_eq!(done["customStatus"], json!({ "tries": 2 }));
    assert_eq!(status(&project, "child")["output"], 2);
    let started = project.tandem(&["invoke", "starter", "5"]).ok().stdout;
    let id = started.trim().trim_matches('"');
    assert_eq!(until(&project, id, "Completed")["output"], 20);
    project.destroy();
}
