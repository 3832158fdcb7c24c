//! The command line as scripts use it: exit codes, JSON, filters, pipes.

use serde_json::Value;

use crate::harness::{Cloud, Project, Ran};

/// Each class of failure that needs no cloud: the arguments, the exit code, the error's code where there is one.
const FAILURES: &[(&[&str], i32, Option<&str>)] = &[
    (&[], 2, None),
    (&["preveiw"], 2, None),
    (&["ps", "--nonsense"], 2, None),
    (&["invoke"], 2, None),
    (&["logs", "--since", "soon"], 2, None),
    (&["logs", "-f", "--until", "1m"], 2, None),
    (&["logs", "--run", "a", "--request", "b"], 2, None),
    (&["completions", "tcsh"], 2, None),
    (&["--color", "pink", "ps"], 2, None),
    (&["explain", "E9999"], 1, Some("E0123")),
    (&["preview", "-C", "/nonexistent"], 1, Some("E0121")),
    (&["preview", "-C", "/"], 1, Some("E0101")),
    (&["up", "-C", "/"], 1, Some("E0101")),
    (&["run", "job", "-C", "/"], 125, Some("E0101")),
    (&["preview"], 1, Some("E0521")),
    (&["stack", "show"], 1, Some("E0131")),
    (&["stack", "output", "x"], 1, Some("E0131")),
    (&["logs"], 1, Some("E0131")),
    (&["invoke", "f", "{a: 1}"], 1, Some("E0140")),
    (&["invoke", "f"], 1, Some("E0310")),
    (&["run", "job"], 125, Some("E0310")),
    (&["ps"], 1, Some("E0310")),
    (&["env"], 1, Some("E0310")),
    (&["image", "ls"], 1, Some("E0310")),
    (&["image", "import", "x", "/nonexistent"], 1, Some("E0141")),
    (&["config", "get", "size"], 1, Some("E0142")),
    (&["config", "rm", "size"], 1, Some("E0142")),
    (&["config", "set", "a b", "1"], 1, Some("E0105")),
    (&["new", "taken"], 1, Some("E0106")),
];

/// A folder with a project whose program cannot be read.
fn broken(cloud: &Cloud) -> Project<'_> {
    cloud.project("broken", &[("index.js", "const = 1;\n"), ("taken/file", "mine\n")])
}

#[test]
fn each_class_of_failure_has_its_exit_code() {
    let cloud = Cloud::new();
    let project = broken(&cloud);
    for (arguments, exit, code) in FAILURES {
        let ran = project.tandem(arguments);
        assert_eq!(ran.code, Some(*exit), "{}", ran.all());
        assert_eq!(ran.stdout, "", "{}", ran.all());
        if let Some(code) = code {
            assert!(ran.stderr.contains(&format!("error[{code}]")), "{code}: {}", ran.all());
            assert!(ran.stderr.contains("help: "), "{}", ran.all());
        }
    }
    for arguments in [&["serve", "--stop"][..], &["destroy", "--yes"], &["explain"], &["explain", "402"]] {
        project.tandem(arguments).ok();
    }
}

#[test]
fn with_json_every_error_is_one_object_on_stderr_with_its_exit_code() {
    let cloud = Cloud::new();
    let project = broken(&cloud);
    for (arguments, exit, code) in FAILURES {
        let ran = project.tandem(&[&["--json"], *arguments].concat());
        assert_eq!(ran.code, Some(*exit), "{}", ran.all());
        let last = ran.stderr.lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", ran.all()));
        assert_eq!(error["error"]["code"], code.unwrap_or("E0107"), "{}", ran.all());
        assert_eq!(error["exitCode"], *exit, "{}", ran.all());
        assert!(error["error"]["message"].is_string() && error["error"]["help"].is_string(), "{}", ran.all());
        records(&ran);
    }
    let declined = project.tandem(&["--json", "up", "--yes"]);
    let events = records(&declined);
    assert_eq!(events.last().unwrap()["event"], "failed", "{}", declined.all());
}

#[test]
fn what_was_meant_is_offered() {
    let cloud = Cloud::new();
    assert!(cloud.tandem(&["preveiw"]).stderr.contains("'preview'"));
    assert!(cloud.tandem(&[]).stderr.contains("Usage: tandem"));
    let other = cloud.project("other", &[("Tandem.yaml", "name: other\nruntime: python\n")]);
    other.tandem(&["preview"]).failed("E0103").says("there is no runtime `python`; write `js` or `nodejs`");
}

/// Standard output: JSON and nothing else, one value or one a line.
#[track_caller]
fn records(ran: &Ran) -> Vec<Value> {
    let records = serde_json::Deserializer::from_str(&ran.stdout).into_iter().collect::<Result<_, _>>();
    records.unwrap_or_else(|error| panic!("{error}: {}", ran.all()))
}

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const pulumi = require("@pulumi/pulumi");
console.log("declared");
new cloud.Function("resize", async (event) => {
    console.log(`resizing ${event}`);
    return { done: event };
});
new cloud.Function("shrink", async () => { throw new Error("too small"); });
new cloud.Task("job", { image: "busybox", command: ["sh", "-c", "echo working; echo loudly >&2; exit 3"] });
exports.word = "here";
exports.token = pulumi.secret("s3cret");
"#;

fn deployed(cloud: &Cloud) -> Project<'_> {
    cloud.import_busybox();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    project.up();
    project
}

#[test]
fn up_and_destroy_tell_what_happens_as_json_lines() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let project = cloud.project("shop", &[("index.js", PROGRAM)]);
    let preview = project.tandem(&["preview", "--json"]).ok();
    let plan = &records(&preview)[0];
    assert_eq!((plan["stack"].as_str(), plan["changes"].as_bool()), (Some("shop/dev"), Some(true)), "{plan}");
    let up = project.tandem(&["up", "--yes", "--json"]).ok();
    let events = records(&up);
    let named = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!(events.first().unwrap()["event"], "plan", "{}", up.all());
    assert_eq!(events.last().unwrap()["event"], "finished", "{}", up.all());
    assert_eq!(events.last().unwrap()["outputs"]["word"], "here", "{}", up.all());
    assert_eq!((named("stepPlanned"), named("stepStarted"), named("stepDone")), (3, 3, 3), "{}", up.all());
    assert_eq!(named("printed"), 1, "{}", up.all());
    assert!(events.iter().all(|event| event["time"].is_string()), "{}", up.all());
    assert!(up.stderr.is_empty() && !up.stdout.contains("s3cret"), "{}", up.all());

    // A step that fails has its error's code and help, and so has the end.
    project.edit("index.js", &PROGRAM.replace("busybox", "localhost:1/nobody/nothing:none"));
    let failed = project.tandem(&["up", "--yes", "--json"]);
    let events = records(&failed);
    let step = events.iter().find(|event| event["event"] == "stepFailed").unwrap();
    assert_eq!(step["report"]["code"], "E0403", "{}", failed.all());
    let last = events.last().unwrap();
    assert_eq!((last["event"].as_str(), last["exitCode"].as_i64()), (Some("failed"), Some(1)));
    assert!(last["error"]["help"].as_str().unwrap().contains("tandem image import"), "{last}");

    let destroyed = project.tandem(&["destroy", "--yes", "--json"]).ok();
    let events = records(&destroyed);
    assert_eq!(events.last().unwrap()["event"], "finished", "{}", destroyed.all());
    let nothing = project.tandem(&["destroy", "--yes", "--json"]).ok();
    assert_eq!(records(&nothing)[0]["changes"], false, "{}", nothing.all());
}

#[test]
fn every_command_with_data_gives_it_as_json() {
    let cloud = Cloud::new();
    let project = deployed(&cloud);
    let json = |arguments: &[&str]| {
        let ran = project.tandem(&[arguments, &["--json"]].concat());
        assert!(!ran.stdout.is_empty(), "{}", ran.all());
        (records(&ran), ran.code)
    };
    let (answer, code) = json(&["invoke", "resize", "7"]);
    assert_eq!((&answer[0]["payload"]["done"], code), (&Value::from(7), Some(0)));
    let (events, code) = json(&["run", "job"]);
    let texts: Vec<_> = events.iter().filter(|event| event["event"] == "line").collect();
    assert_eq!((events[0]["event"].as_str(), code), (Some("accepted"), Some(3)), "{events:?}");
    assert!(texts.iter().any(|line| line["stream"] == "stderr" && line["text"] == "loudly"), "{events:?}");
    assert_eq!(events.last().unwrap()["exitCode"], 3, "{events:?}");
    assert!(json(&["ps"]).0[0]["functions"].is_array());
    assert!(json(&["logs"]).0.iter().any(|line| line["text"] == "resizing 7"));
    assert_eq!(json(&["stack", "ls"]).0[0][0]["stack"], "shop/dev");
    assert_eq!(json(&["stack", "show"]).0[0].as_array().unwrap().len(), 3);
    assert_eq!(json(&["stack", "output"]).0[0]["token"], "[secret]");
    assert_eq!(json(&["stack", "output", "word"]).0[0], "here");
    assert!(json(&["image", "ls"]).0[0][0]["digest"].is_string());
    assert!(json(&["env"]).0[0]["AWS_ENDPOINT_URL"].is_string());
    assert_eq!(json(&["explain", "E0402"]).0[0]["code"], "E0402");
    assert!(json(&["new", "fresh"]).0[0]["files"].is_array());
    assert!(json(&["serve", "--detach"]).0[0]["endpoint"].is_string());
    cloud.observe();
    project.destroy();
}

#[test]
fn logs_are_filtered_by_resource_request_run_and_time() {
    let cloud = Cloud::new();
    let project = deployed(&cloud);
    let request = |event: &str| {
        let ran = project.tandem(&["invoke", "resize", event, "--json"]).ok();
        records(&ran)[0]["requestId"].as_str().unwrap().to_owned()
    };
    let (first, second) = (request("1"), request("2"));
    let run = project.tandem(&["run", "job", "--json"]);
    let run = records(&run)[0]["run"].as_str().unwrap().to_owned();
    let texts = |arguments: &[&str]| -> Vec<String> {
        let ran = project.tandem(&[&["logs", "--json"], arguments].concat()).ok();
        // What the program prints when a worker loads it is of no request.
        let lines = records(&ran).into_iter().filter(|line| line["stream"] != "system" && line["id"] != "");
        lines.map(|line| line["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&["resize"]), ["resizing 1", "resizing 2"]);
    assert_eq!(texts(&["function/resize", "-n", "1"]), ["resizing 2"]);
    assert_eq!(texts(&["--request", &first]), ["resizing 1"]);
    assert_eq!(texts(&["--request", &second[second.len() - 8..]]), ["resizing 2"]);
    assert_eq!(texts(&["--run", &run]).len(), 2);
    assert_eq!(texts(&["--run", &run, "-f"]).len(), 2, "a followed run ends with the run");
    assert_eq!(texts(&["--run", &first]), Vec::<String>::new(), "a request is no run");
    assert_eq!(texts(&["resize", "--since", "10m"]).len(), 2);
    assert_eq!(texts(&["resize", "--until", "10m"]), Vec::<String>::new());
    assert_eq!(texts(&["--since", "2020-01-01", "--until", "2020-01-02"]), Vec::<String>::new());

    project.tandem(&["logs", "resiez"]).failed("E0144").says("did you mean `resize`?");
    project.tandem(&["logs", "task/resize"]).failed("E0144").says("did you mean `resize`?");
    // The first line of a log of which only the end is asked for is whole.
    let shown = project.tandem(&["logs", "job", "-n", "1"]).ok();
    assert!(shown.value().contains(&run[run.len() - 8..]), "{}", shown.all());
    cloud.observe();
    project.destroy();
}

#[test]
fn settings_are_set_listed_and_removed_and_secret_ones_are_hidden() {
    let cloud = Cloud::new();
    let program = r#"
const cloud = require("@tandem/cloud");
const config = new cloud.Config();
new cloud.Function("tell", async () => ({ size: config.requireNumber("size"), token: config.require("token") }));
exports.token = config.requireSecret("token");
exports.formats = config.requireObject("formats");
"#;
    let project = cloud.project("settings", &[("index.js", program)]);
    project.tandem(&["preview"]).failed("E0506").says("tandem config set");
    project.tandem(&["config", "set", "size", "3"]).ok();
    project.tandem(&["config", "set", "formats", r#"["jpg","png"]"#]).ok();
    let set = project.shell("echo s3cret | \"$TANDEM\" config set --secret token").ok();
    assert!(set.stderr.contains("Tandem.dev.secrets"), "{}", set.all());
    let list = project.tandem(&["config", "ls"]).ok();
    assert!(list.stdout.contains("settings:token") && !list.all().contains("s3cret"), "{}", list.all());
    assert_eq!(project.tandem(&["config", "get", "token"]).ok().value(), "s3cret");

    let plan = project.tandem(&["preview"]).ok();
    let up = project.tandem(&["up", "--yes", "--json"]).ok();
    for ran in [&plan, &up] {
        assert!(!ran.all().contains("s3cret"), "{}", ran.all());
    }
    assert_eq!(records(&up).last().unwrap()["outputs"]["formats"][1], "png", "{}", up.all());
    let told = project.tandem(&["invoke", "tell"]).ok();
    assert!(told.stdout.contains("s3cret") && told.stdout.contains('3'), "{}", told.all());
    // A change of a secret is a change, whose values are not shown.
    project.shell("echo other | \"$TANDEM\" config set --secret token").ok();
    let plan = project.tandem(&["preview"]).ok();
    assert!(plan.stdout.contains("1 to update"), "{}", plan.all());
    assert!(!plan.all().contains("s3cret") && !plan.all().contains("other"), "{}", plan.all());
    project.tandem(&["config", "rm", "token"]).ok();
    project.tandem(&["config", "get", "token"]).failed("E0142").says("settings:size");
    project.destroy();
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_no_panic() {
    let cloud = Cloud::new();
    let project = cloud.project("full", &[("index.js", "exports.word = \"here\";\n")]);
    project.up();
    for command in
        ["stack ls", "explain", "explain E0402", "env", "ps", "up --yes --json", "completions bash"]
    {
        let ran = project.shell(&format!("\"$TANDEM\" {command} > /dev/full"));
        assert_eq!(ran.code, Some(1), "{command}: {}", ran.all());
        assert!(ran.stderr.contains("E0143") && !ran.stderr.contains("panicked"), "{command}: {}", ran.all());
    }
    project.destroy();
}

#[test]
fn a_shell_completes_commands_and_the_names_of_the_stack() {
    let cloud = Cloud::new();
    let project = deployed(&cloud);
    let complete = |words: &[&str]| {
        let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        // What bash does when the tab key is pressed.
        let script = format!(
            "PATH=\"$(dirname \"$TANDEM\"):$PATH\"; source <(\"$TANDEM\" completions bash)
             COMP_WORDS=({list}); COMP_CWORD={}; COMP_TYPE=9
             $(complete -p tandem | sed 's/.*-F \\([^ ]*\\).*/\\1/') tandem '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        project.shell(&script).ok().stdout
    };
    assert!(complete(&["tandem", "pre"]).contains("preview"));
    assert!(complete(&["tandem", "invoke", "res"]).contains("resize"));
    assert!(complete(&["tandem", "run", ""]).contains("job"));
    assert!(complete(&["tandem", "up", "--stack", ""]).contains("dev"));
    assert!(complete(&["tandem", "stack", "output", ""]).contains("word"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(project.tandem(&["completions", shell]).ok().stdout.contains("tandem"));
    }
    project.destroy();
}
