//! Ctrl-C once finishes what runs, twice stops; SIGTERM and SIGHUP are heard, too. After each the next command works.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{Cloud, Gate, Hold, PATIENCE, Project};

const TASK: &str = r#"
const cloud = require("@tandem/cloud");
new cloud.Bucket("photos");
new cloud.Task("job", { build: "./image" });
"#;

fn building<'a>(cloud: &'a Cloud, gate: &Gate) -> Project<'a> {
    cloud.import_busybox();
    let dockerfile = format!("FROM busybox\nRUN {}\nCMD [\"true\"]\n", gate.command("building"));
    cloud.project("stopped", &[("index.js", TASK), ("image/Dockerfile", &dockerfile)])
}

/// A command whose words are waited for.
struct Running {
    child: Child,
    stderr: std::process::ChildStderr,
    said: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        Self { child, stderr, said: String::new() }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits until it has said this. Ends with the command's output; a command that hangs is ended by the test runner.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.said.contains(text) {
            let count = self.stderr.read(&mut piece).unwrap();
            assert!(count > 0, "`{text}` was not said: {}", self.said);
            self.said.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    /// The exit code, and everything said.
    fn end(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), self.said + &rest)
    }
}

/// Waits until no process of the cloud has this in its command line.
#[track_caller]
fn gone(cloud: &Cloud, name: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left: Vec<String> =
            cloud.processes().into_iter().filter(|process| process.contains(name)).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still there: {left:#?}");
        // No event tells of the end of somebody else's processes.
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn up_asked_once_finishes_the_build_that_runs_and_the_next_one_has_nothing_to_build() {
    let cloud = Cloud::new();
    let mut gate = Gate::shut();
    let project = building(&cloud, &gate);
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut up = Running::start(project.command().args(["up", "--yes"]));
        let visit = gate.wait_for("building");
        up.signal(signal);
        up.wait_for("Stopping after what runs: create task/job");
        visit.release();
        let (exit, said) = up.end();
        // All that was to be done was under way, so the update is complete; or it was not, and is said to be stopped.
        assert!(exit == Some(code) || exit == Some(0), "{exit:?}: {said}");
        project.up();
        assert_eq!(gate.count("building"), 1, "the image was built again");
        project.destroy();
        // The next round builds other content, which no step before has made.
        gate = Gate::shut();
        let dockerfile = format!("FROM busybox\nRUN {}\nCMD [\"true\"]\n", gate.command("building"));
        project.edit("image/Dockerfile", &dockerfile);
    }
}

#[test]
fn up_asked_twice_ends_the_build_and_the_next_one_begins_it_anew() {
    let cloud = Cloud::new();
    let mut gate = Gate::shut();
    let project = building(&cloud, &gate);
    let mut up = Running::start(project.command().args(["up", "--yes"]));
    let visit = gate.wait_for("building");
    up.signal(Signal::SIGINT);
    up.wait_for("Stopping");
    up.signal(Signal::SIGINT);
    let (code, said) = up.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("error[E0210]"), "{said}");
    gone(&cloud, "buildah");
    gone(&cloud, "runc");
    drop(visit);
    let again = Running::start(project.command().args(["up", "--yes"]));
    gate.wait_for("building").release();
    let (code, said) = again.end();
    assert_eq!(code, Some(0), "{said}");
    cloud.observe();
    project.destroy();
}

/// A bucket with something in it, whose deletion is held, one that the program no longer reaches because of that, and one
/// that a client made.
const FILLED: &str = r#"
const cloud = require("@tandem/cloud");
const photos = new cloud.Bucket("photos");
photos.onPut("onPhoto", async (args) => console.log(`saw ${args.key}`));
exports.photos = photos.id;
"#;

const FILL: &str = "
s3.create_bucket(Bucket='made')
for bucket in [arguments[0], 'made']:
    s3.put_object(Bucket=bucket, Key='k', Body=b'x' * 100000)
";

#[test]
fn destroy_asked_once_finishes_the_deletion_that_runs_and_the_next_one_the_rest() {
    for (round, signal, code) in
        [(1, Signal::SIGINT, 130), (2, Signal::SIGTERM, 143), (3, Signal::SIGHUP, 129)]
    {
        let cloud = Cloud::new();
        let hold = Hold::new(cloud.scratch(), "emptying");
        let _serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &hold.at("bucket.emptying.committed"))]);
        let project = cloud.project("stopped", &[("index.js", FILLED)]);
        project.up();
        let bucket = project.output("photos");
        let client = cloud.client(&project);
        client.boto3(FILL, &[&bucket]).ok();
        let mut destroy = Running::start(project.command().args(["destroy", "--yes", "--force"]));
        hold.reached();
        destroy.signal(signal);
        destroy.wait_for("Stopping after what runs: delete");
        hold.release();
        let (exit, said) = destroy.end();
        // All that is left may have been under way.
        assert!(exit == Some(code) || exit == Some(0), "{exit:?}: {said}");
        if exit == Some(code) {
            assert!(said.contains("error[E0210]") && said.contains("again"), "{said}");
        }
        match round {
            // Going on in either direction.
            1 => {
                project.up();
                let bucket = project.output("photos");
                client.boto3("s3.put_object(Bucket=arguments[0], Key='new', Body=b'')", &[&bucket]).ok();
                cloud.log(&project).wait_for("saw new");
            }
            _ => drop(project.tandem(&["refresh", "--yes"]).ok()),
        }
        project.destroy();
        project.tandem(&["destroy", "--yes"]).ok().says("nothing to destroy");
    }
}

#[test]
fn destroy_asked_twice_does_not_wait_for_the_deletion_and_up_and_destroy_go_on() {
    for forwards in [false, true] {
        let cloud = Cloud::new();
        let hold = Hold::new(cloud.scratch(), "emptying");
        let _serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &hold.at("bucket.closing.committed"))]);
        let project = cloud.project("stopped", &[("index.js", FILLED)]);
        project.up();
        let bucket = project.output("photos");
        let client = cloud.client(&project);
        client.boto3(FILL, &[&bucket]).ok();
        let mut destroy = Running::start(project.command().args(["destroy", "--yes", "--force"]));
        hold.reached();
        destroy.signal(Signal::SIGINT);
        destroy.wait_for("Stopping");
        destroy.signal(Signal::SIGINT);
        let (code, said) = destroy.end();
        assert_eq!(code, Some(130), "{said}");
        assert!(said.contains("error[E0210]"), "{said}");
        hold.release();
        if forwards {
            project.up();
            assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
            // Whether it was kept or is another one, it takes objects.
            let bucket = project.output("photos");
            client.boto3("s3.put_object(Bucket=arguments[0], Key='new', Body=b'')", &[&bucket]).ok();
            cloud.log(&project).wait_for("saw new");
        }
        project.destroy();
        project.tandem(&["destroy", "--yes"]).ok().says("nothing to destroy");
    }
}

#[test]
fn a_program_that_hangs_is_not_waited_for_after_the_second_request() {
    let cloud = Cloud::new();
    let program = r#"
const cloud = require("@tandem/cloud");
const pulumi = require("@pulumi/pulumi");
new cloud.Bucket("photos");
if (!pulumi.runtime.isDryRun()) {
    console.log("hanging");
    for (;;) {}
}
"#;
    let project = cloud.project("hangs", &[("index.js", program)]);
    let mut up = Running::start(project.command().args(["up", "--yes"]));
    up.wait_for("hanging");
    up.signal(Signal::SIGINT);
    up.wait_for("Ctrl-C again stops at once");
    up.signal(Signal::SIGINT);
    assert_eq!(up.end().0, Some(130));
    gone(&cloud, "__program");
    project.destroy();
}

#[test]
fn invoke_and_run_wait_at_the_first_request_and_stop_at_the_second() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let mut gate = Gate::shut();
    let program = format!(
        r#"
const cloud = require("@tandem/cloud");
new cloud.Function("slow", async () => {{
    console.log("at work");
    await new Promise((resolve) => setTimeout(resolve, 3600000));
}}, {{ timeout: 900 }});
new cloud.Task("job", {{ image: "busybox", command: ["sh", "-c", "{}; echo over"] }});
"#,
        gate.command("running"),
    );
    let project = cloud.project("waits", &[("index.js", &program)]);
    project.up();

    let mut invoke = Running::start(project.command().args(["invoke", "slow"]));
    let mut log = cloud.log(&project);
    log.wait_for("at work");
    invoke.signal(Signal::SIGINT);
    invoke.wait_for("Waiting for the answer of function/slow");
    invoke.signal(Signal::SIGINT);
    assert_eq!(invoke.end().0, Some(130));
    drop(log);

    let mut run = Running::start(project.command().args(["run", "job"]));
    let visit = gate.wait_for("running");
    run.signal(Signal::SIGINT);
    run.wait_for("to end. Ctrl-C again stops it");
    visit.release();
    assert_eq!(run.end().0, Some(0), "the first request lets the run end");

    let mut run = Running::start(project.command().args(["run", "job"]));
    // Held, or the container ends by itself.
    let _visit = gate.wait_for("running");
    run.signal(Signal::SIGINT);
    run.wait_for("to end. Ctrl-C again stops it");
    run.signal(Signal::SIGINT);
    let (code, said) = run.end();
    assert!(matches!(code, Some(137 | 143)), "{code:?}: {said}");
    assert!(said.contains("Stopping the container"), "{said}");
    cloud.observe();
    project.destroy();
}

#[test]
fn a_followed_log_ends_at_once_and_a_reader_that_goes_away_ends_it_quietly() {
    let cloud = Cloud::new();
    let program = r#"
const cloud = require("@tandem/cloud");
new cloud.Function("talk", async () => { for (let i = 0; i < 2000; i++) console.log(`line ${i}`); });
"#;
    let project = cloud.project("talks", &[("index.js", program)]);
    project.up();
    project.tandem(&["invoke", "talk"]).ok();
    let mut follow = project.command();
    let mut follow = follow.args(["logs", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    follow.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    kill(Pid::from_raw(follow.id().cast_signed()), Signal::SIGINT).unwrap();
    assert!(!follow.wait().unwrap().success());

    for command in ["logs", "logs -f", "explain", "up --yes --json", "--help"] {
        let ran = project.shell(&format!("set -o pipefail; \"$TANDEM\" {command} | head -n 1 > /dev/null"));
        assert!(!ran.stderr.contains("panicked"), "{command}: {}", ran.all());
        assert_eq!(ran.code, Some(0), "{command}: {}", ran.all());
    }
    project.destroy();
}

#[test]
fn a_cloud_in_the_foreground_ends_what_it_builds_and_leaves_nothing() {
    let cloud = Cloud::new();
    let mut gate = Gate::shut();
    let mut serve = Running::start(cloud.command().arg("serve"));
    serve.wait_for("ready at");
    let project = building(&cloud, &gate);
    let up = Running::start(project.command().args(["up", "--yes"]));
    let visit = gate.wait_for("building");
    serve.signal(Signal::SIGHUP);
    serve.wait_for("Ctrl-C again stops at once");
    let (code, said) = serve.end();
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = up.end();
    assert_eq!(code, Some(1), "{said}");
    gone(&cloud, "buildah");
    drop(visit);
    // The next one starts a cloud by itself and goes on.
    let again = Running::start(project.command().args(["up", "--yes"]));
    gate.wait_for("building").release();
    let (code, said) = again.end();
    assert_eq!(code, Some(0), "{said}");
    cloud.observe();
    project.destroy();
}
