//! Runs as calls into containers: from a handler, from the command line, and over a crash of the cloud.

use serde_json::{Value, json};

use crate::harness::{Beside, Cloud, Gate, Project, Ran};

const PROGRAM: &str = r#"
const cloud = require('@tandem/cloud');
const image = 'docker.io/library/busybox';
const shell = (name, script) => new cloud.Task(name, { image, command: ['sh', '-c', script] });
const double = shell('double', 'n=$(sed "s/[^0-9]//g" "$TANDEM_INPUT"); echo working; echo {\\"doubled\\": $((n * 2))} > "$TANDEM_RESULT"');
shell('silent', 'echo nothing to say');
shell('babbler', 'echo hello > "$TANDEM_RESULT"');
shell('liar', 'ln -s /etc/passwd "$TANDEM_RESULT"');
shell('patient', 'trap "exit 0" TERM; SLEEPY; sleep 1000 & wait');
shell('slow', 'GATE; cp "$TANDEM_INPUT" "$TANDEM_RESULT"');
new cloud.Function('caller', async (n) => {
    const out = await (await double.run({ input: { n } })).wait();
    return { ...out.result, outcome: out.outcome };
});
"#;

fn deployed<'a>(cloud: &'a Cloud, gate: &Gate) -> Project<'a> {
    cloud.import_busybox();
    let program = PROGRAM.replace("GATE", &gate.command("slow")).replace("SLEEPY", &gate.command("patient"));
    let project = cloud.project("results", &[("index.js", &program)]);
    project.up();
    project
}

fn json_of(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.all()))
}

#[test]
fn a_handler_calls_a_container_and_gets_what_it_answers() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = deployed(&cloud, &Gate::open());
    let answer = json_of(&project.tandem(&["invoke", "caller", "21"]).ok());
    assert_eq!(answer, json!({ "doubled": 42, "outcome": "exited" }));
    cloud.observe();
    project.destroy();
}

#[test]
fn the_command_line_gives_an_input_and_prints_the_result() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = deployed(&cloud, &Gate::open());
    let ran = project.tandem(&["run", "double", "--input", r#"{"n": 4}"#]).ok();
    assert_eq!(ran.stdout, "working\n{\"doubled\":8}\n");
    let ran = project.tandem(&["run", "double", "--input", "5", "--result"]).ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.trim()), ("{\"doubled\":10}\n", "working"));
    let ran = project.tandem(&["run", "double", "--input", "6", "--json"]).ok();
    let last: Value = serde_json::from_str(ran.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["result"]), (&json!("ended"), &json!({ "doubled": 12 })));
    let ran = project.tandem(&["run", "silent"]).ok();
    assert_eq!(ran.stdout, "nothing to say\n");

    for (task, why) in [("babbler", "it is not JSON"), ("liar", "it is no file")] {
        let ran = project.tandem(&["run", task]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(125), ""), "{}", ran.all());
        let said = format!("left a result that cannot be used: {why}");
        assert!(ran.stderr.contains("run ") && ran.stderr.contains(&said), "{}", ran.all());
    }
    let id = project.tandem(&["run", "babbler", "--detach"]).ok().value().to_owned();
    let ran = project.tandem(&["runs", "wait", &id, "--json"]);
    let error = json_of(&ran)["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.starts_with(&format!("run `{id}` of task/babbler left a result")), "{}", ran.all());
    let ran = project.tandem(&["run", "double", "--input", "{n: 1}"]);
    assert!(ran.stderr.contains("E0140") && ran.stderr.contains("the input is not JSON"), "{}", ran.all());
    std::fs::write(cloud.scratch().join("large.json"), format!("\"{}\"", "x".repeat(3 << 20))).unwrap();
    let large = format!("@{}", cloud.scratch().join("large.json").display());
    let ran = project.tandem(&["run", "double", "--input", &large]);
    assert!(ran.stderr.contains("E0710") && ran.stderr.contains("more than 256 KiB"), "{}", ran.all());
    cloud.observe();
    project.destroy();
}

/// I3: the container goes on, and its result is there for whoever comes next.
#[test]
fn a_result_outlives_a_cloud_that_is_killed_at_each_gap() {
    let cloud = Cloud::new();
    let mut serving = cloud.serve();
    let mut gate = Gate::shut();
    let project = deployed(&cloud, &gate);
    let gaps =
        ["task.container.created", "task.exit.observed", "task.result.read", "task.run.ended-committed"];
    for (before, failpoint) in gaps.into_iter().enumerate() {
        serving.terminate();
        serving = cloud.serve_until(failpoint);
        let input = format!("{{\"at\":\"{failpoint}\"}}");
        let id = project.tandem(&["run", "slow", "--detach", "--input", &input]).ok().value().to_owned();
        gate.wait_for("slow").release();
        serving.died(failpoint);
        serving = cloud.serve();
        // As often as one likes.
        for _ in 0..2 {
            let ran = project.tandem(&["runs", "wait", &id]).ok();
            assert_eq!(ran.value(), input, "{failpoint}: {}", ran.all());
        }
        assert_eq!(gate.count("slow"), before + 1, "{failpoint}: the container ran more than once");
    }
    cloud.observe();
    project.destroy();
}

#[test]
fn a_run_is_listed_shown_waited_for_and_stopped_by_a_part_of_its_id() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let mut gate = Gate::shut();
    let project = deployed(&cloud, &gate);
    let id = project.tandem(&["run", "slow", "--detach", "--input", "[1]"]).ok().value().to_owned();
    let part = &id[id.len() - 8..];
    let visit = gate.wait_for("slow");
    let listed = json_of(&project.tandem(&["runs", "ls", "slow", "--json"]).ok());
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!(id)));
    assert_eq!(json_of(&project.tandem(&["runs", "ls", "silent", "--json"]).ok()), json!([]));
    assert!(project.tandem(&["runs", "ls"]).ok().stdout.contains(&id));
    let waiting = Beside::start(project.command().args(["runs", "wait", part, "--json"]));
    visit.release();
    let status = json_of(&waiting.ran().ok());
    assert_eq!((&status["result"], &status["exitCode"]), (&json!([1]), &json!(0)));
    assert_eq!(json_of(&project.tandem(&["runs", "show", part, "--json"]).ok()), status);
    assert!(project.tandem(&["runs", "show", part]).ok().stdout.contains("exited with code 0"));

    let id = project.tandem(&["run", "patient", "--detach"]).ok().value().to_owned();
    gate.wait_for("patient").release();
    project.tandem(&["runs", "stop", &id]).ok().says("was stopped");
    assert_eq!(project.tandem(&["runs", "wait", &id]).code, Some(143));
    project.tandem(&["runs", "show", "nobody"]).failed("E0704");
    cloud.observe();
    project.destroy();
}

/// The attempts are containers of one run, whose log is one.
#[test]
fn a_run_that_fails_is_tried_again_also_after_the_cloud_was_killed() {
    let cloud = Cloud::new();
    cloud.serve().terminate();
    let serving = cloud.serve_until("task.run.retry-committed");
    cloud.import_busybox();
    let program = "\
const cloud = require('@tandem/cloud');
const script = 'echo this is attempt $TANDEM_ATTEMPT; [ $TANDEM_ATTEMPT = 3 ] && cp $TANDEM_INPUT $TANDEM_RESULT';
new cloud.Task('shaky', {
    image: 'docker.io/library/busybox', command: ['sh', '-c', script], retries: { attempts: 4, backoff: 0.1 },
});
";
    let project = cloud.project("shaky", &[("index.js", program)]);
    project.up();
    let id = project.tandem(&["run", "shaky", "--detach", "--input", "[7]"]).ok().value().to_owned();
    serving.died("task.run.retry-committed");
    let _serving = cloud.serve();
    assert_eq!(project.tandem(&["runs", "wait", &id]).ok().value(), "[7]");
    let status = json_of(&project.tandem(&["runs", "show", &id, "--json"]).ok());
    assert_eq!(
        (&status["attempt"], status["attempts"].as_array().unwrap().len()),
        (&json!(3), 2),
        "{status}"
    );
    let log = project.tandem(&["logs", "--run", &id]).ok().stdout;
    for attempt in 1..=3 {
        assert_eq!(log.matches(&format!("this is attempt {attempt}")).count(), 1, "{log}");
    }
    for stage in ["accepted", "admitted", "mounted", "created", "started", "ended"] {
        assert!(status[stage].is_string(), "{stage}: {status}");
    }
    // Who watches from the beginning sees all of them, and gets the code of the last.
    let ran = project.tandem(&["run", "shaky", "--input", "8"]).ok();
    assert_eq!(ran.stdout, "this is attempt 1\nthis is attempt 2\nthis is attempt 3\n8\n", "{}", ran.all());
    cloud.observe();
    project.destroy();
}
