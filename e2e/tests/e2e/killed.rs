//! A stack's whole life (an `up`, an update with a replacement and deletes, a `destroy` that also deletes a bucket which
//! a client made) is killed at every failpoint
//! that it meets, in the client and in the cloud, the first and the last time that it is met.
//!
//! The failpoints are not listed here but found: a first life is only watched. [`CLIENT`] and [`CLOUD`] say which must
//! at least be among them, so that a loop that has become empty does not pass. Afterwards the same command goes on and
//! ends, a preview has nothing to do, the cloud has nothing that the state does not know (a preview checks that, too),
//! and a `destroy` leaves nothing.

use std::{collections::BTreeMap, fs, os::unix::process::ExitStatusExt, process::ExitStatus, time::Instant};

use crate::harness::{Cloud, Met, PATIENCE, Project, Ran};

const CLIENT: &[&str] = &[
    "engine.folder.making",
    "engine.lock.writing",
    "engine.journal.opening",
    "engine.journal.writing",
    "engine.journal.begun",
    "engine.target.applied",
    "engine.journal.done",
    "engine.state.writing",
    "engine.state.written",
    "engine.state.saved",
    "engine.state.acknowledged",
    "engine.journal.clearing",
    "program.context.writing",
];

const CLOUD: &[&str] = &[
    "archive.file.writing",
    "archive.file.synced",
    "task.context.unpacking",
    "container.image.built",
    "container.image.pinned",
    "target.change.prepared",
    "target.change.committed",
    "store.commit.judged",
    "store.commit.synced",
    "bucket.closing.committed",
    "bucket.emptying.committed",
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Create,
    Change,
    Destroy,
}

const PHASES: [Phase; 3] = [Phase::Create, Phase::Change, Phase::Destroy];

/// One stack, from nothing to nothing.
struct Life<'a> {
    cloud: &'a Cloud,
    project: Project<'a>,
    name: String,
    /// Whether buckets that will go hold something.
    filled: bool,
}

impl<'a> Life<'a> {
    fn new(cloud: &'a Cloud, name: &str) -> Self {
        // Each life builds an image of its own.
        let dockerfile = format!("FROM docker.io/library/busybox\nCMD echo {name}\n");
        let project = cloud.project(name, &[("job/Dockerfile", &dockerfile)]);
        Self { cloud, project, name: name.to_owned(), filled: false }
    }

    fn program(&self, phase: Phase) -> String {
        let changed = phase != Phase::Create;
        let (answer, half) = if changed { ("two", "b") } else { ("one", "a") };
        let dropped = r#"
const dropped = new cloud.Bucket("dropped", { forceDestroy: true });
dropped.onPut("onDropped", async () => {});
"#;
        let added = r#"new cloud.Bucket("added");"#;
        format!(
            r#"
const cloud = require("@tandem/cloud");
const kept = new cloud.Bucket("kept");
const moved = new cloud.Bucket("moved", {{ bucketName: "{name}-{half}", forceDestroy: true }});
const job = new cloud.Task("job", {{ build: "./job", environment: {{ HALF: "{half}" }} }});
new cloud.Function("answer", async () => "{answer}");
kept.onPut("onPut", async (args) => {{ await job.run(); }});
{rest}
exports.moved = moved.id;
"#,
            name = self.name,
            rest = if changed { added } else { dropped },
        )
    }

    fn declare(&self, phase: Phase) {
        self.project.edit("index.js", &self.program(phase));
    }

    fn arguments(phase: Phase) -> &'static [&'static str] {
        match phase {
            Phase::Destroy => &["destroy", "--yes", "--force"],
            _ => &["up", "--yes"],
        }
    }

    /// Runs the phase's command with this in its environment.
    fn run_with(&self, phase: Phase, variable: (&str, &str)) -> ExitStatus {
        let mut command = self.project.command();
        let output = command.args(Self::arguments(phase)).env(variable.0, variable.1).output().unwrap();
        eprintln!("[{phase:?} {variable:?}] {}", String::from_utf8_lossy(&output.stderr));
        output.status
    }

    fn run(&self, phase: Phase) -> Ran {
        self.project.tandem(Self::arguments(phase))
    }

    /// Ends the phase, and shows that it has ended.
    #[track_caller]
    fn finish(&mut self, phase: Phase, why: &str) {
        let ended = self.run(phase);
        assert_eq!(ended.code, Some(0), "{why} in {phase:?}:\n{}", ended.all());
        if phase == Phase::Destroy {
            // It asks the cloud, also when the state has nothing.
            let again = self.run(phase).ok();
            assert!(again.stderr.contains("nothing to destroy"), "{why}:\n{}", again.all());
            return;
        }
        let preview = self.project.tandem(&["preview"]);
        let settled = preview.code == Some(0) && preview.stdout.contains("Nothing to do");
        assert!(settled, "{why} in {phase:?}:\n{}", preview.all());
        assert_eq!(
            self.project.output("moved"),
            format!("{}-{}", self.name, if phase == Phase::Create { "a" } else { "b" })
        );
        if phase == Phase::Create && self.filled {
            self.fill();
        }
        if phase == Phase::Change {
            self.make();
        }
    }

    /// A client makes a bucket, which only a `destroy` concerns itself with.
    fn make(&self) {
        const MAKE: &str = "
s3.create_bucket(Bucket=arguments[0])
s3.put_object(Bucket=arguments[0], Key='k', Body=b'x' * 100000)
";
        self.cloud.client(&self.project).boto3(MAKE, &[&format!("{}-made", self.name)]).ok();
    }

    /// Not the bucket that stays: its objects would start containers.
    fn fill(&self) {
        const PUT: &str = "
for bucket in s3.list_buckets()['Buckets']:
    if not bucket['Name'].startswith('kept'):
        s3.put_object(Bucket=bucket['Name'], Key='k', Body=b'x' * 100000)
";
        self.cloud.client(&self.project).boto3(PUT, &[]).ok();
    }
}

/// Which turns of a failpoint are tried: the first and the last; all of them if `TANDEM_TEST_EVERY_TURN` is set.
fn turns(count: usize) -> Vec<usize> {
    if std::env::var_os("TANDEM_TEST_EVERY_TURN").is_some() {
        return (1..=count).collect();
    }
    if count > 1 { vec![1, count] } else { vec![1] }
}

/// Every failpoint and turn that comes in any of the phases.
fn cases(met: &[BTreeMap<String, usize>; 3]) -> Vec<(String, usize)> {
    let mut cases: Vec<(String, usize)> = met
        .iter()
        .flatten()
        .flat_map(|(name, count)| turns(*count).into_iter().map(|turn| (name.clone(), turn)))
        .collect();
    cases.sort();
    cases.dedup();
    cases
}

#[track_caller]
fn has_all(met: &[BTreeMap<String, usize>; 3], expected: &[&str]) {
    let missing: Vec<_> =
        expected.iter().filter(|name| !met.iter().any(|m| m.contains_key(**name))).collect();
    assert!(missing.is_empty(), "never met: {missing:?}; met were {met:#?}");
}

/// Half of the cases, so that two tests share the time.
fn share(cases: Vec<(String, usize)>, half: usize) -> impl Iterator<Item = (usize, (String, usize))> {
    cases.into_iter().enumerate().filter(move |(n, _)| n % 2 == half)
}

fn client_killed(half: usize) {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let mut dry = Life::new(&cloud, "dry");
    let met = PHASES.map(|phase| {
        dry.declare(phase);
        let met = Met::new(cloud.scratch(), &format!("{phase:?}"));
        assert!(dry.run_with(phase, met.variable()).success());
        dry.finish(phase, "dry");
        met.all()
    });
    has_all(&met, CLIENT);
    for (n, (point, turn)) in share(cases(&met), half) {
        let mut life = Life::new(&cloud, &format!("client{n}"));
        for (phase, met) in PHASES.iter().zip(&met) {
            life.declare(*phase);
            if met.get(&point).is_some_and(|count| *count >= turn) {
                let armed = format!("{point}@{turn}");
                let status = life.run_with(*phase, ("TANDEM_FAILPOINT", &armed));
                // Writes that wait together are written together, so a later turn may not come.
                assert!(
                    status.signal() == Some(9) || (turn > 1 && status.success()),
                    "{armed} in {phase:?}: {status}"
                );
                // The one that goes on may be killed there, too.
                life.run_with(*phase, ("TANDEM_FAILPOINT", &point));
            }
            life.finish(*phase, &format!("{point}@{turn}"));
        }
    }
}

#[test]
fn a_client_killed_at_any_failpoint_is_taken_up_by_the_next() {
    client_killed(0);
}

#[test]
fn a_client_killed_at_any_failpoint_is_taken_up_by_the_next_in_the_other_half() {
    client_killed(1);
}

fn cloud_killed(half: usize) {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    assert!(serving.terminate().success());
    let mut dry = Life::new(&cloud, "dry");
    dry.filled = true;
    let met = PHASES.map(|phase| {
        dry.declare(phase);
        let met = Met::new(cloud.scratch(), &format!("{phase:?}"));
        let serving = cloud.serve_with(&[met.variable()]);
        assert_eq!(dry.run(phase).code, Some(0));
        let met = met.all();
        assert!(serving.terminate().success());
        let serving = cloud.serve();
        dry.finish(phase, "dry");
        assert!(serving.terminate().success());
        met
    });
    has_all(&met, CLOUD);
    for (n, (point, turn)) in share(cases(&met), half) {
        let mut life = Life::new(&cloud, &format!("cloud{n}"));
        life.filled = true;
        for (phase, met) in PHASES.iter().zip(&met) {
            life.declare(*phase);
            if met.get(&point).is_some_and(|count| *count >= turn) {
                let armed = format!("{point}@{turn}");
                let serving = cloud.serve_until(&armed);
                let ran = serving.is_running().then(|| life.run(*phase));
                // Commits that wait together are one, so a later turn may not come.
                if turn > 1 && ran.is_some_and(|ran| ran.code == Some(0)) {
                    serving.kill();
                } else {
                    serving.died(&armed);
                }
            }
            let serving = cloud.serve();
            life.finish(*phase, &format!("{point}@{turn}"));
            cloud.observe();
            assert!(serving.terminate().success());
        }
    }
    // What was emptied, replaced and destroyed on the way has left no body behind.
    let _serving = cloud.serve();
    let deadline = Instant::now() + PATIENCE;
    let blobs = cloud.home().join("data/blobs");
    while fs::read_dir(&blobs).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "bodies are left in {}", blobs.display());
        std::thread::yield_now();
    }
}

#[test]
fn a_cloud_killed_at_any_failpoint_goes_on_when_it_is_started_again() {
    cloud_killed(0);
}

#[test]
fn a_cloud_killed_at_any_failpoint_goes_on_when_it_is_started_again_in_the_other_half() {
    cloud_killed(1);
}
