use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
};

use tandem_model::{Kind, PhysicalId, plan::Op};

use super::*;
use crate::project::Project;

mod programs;

/// The child process of the tests below: this binary, called with the name of this test.
#[test]
#[ignore = "it is the child process of other tests"]
fn child() -> ExitCode {
    // The test runner leaves its own line open.
    println!();
    child::child_main()
}

fn host() -> DeployHost {
    let args = ["host::tests::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
    DeployHost::new(std::env::current_exe().unwrap(), args.map(OsString::from).to_vec())
}

/// Makes nothing, and remembers what it was asked for.
#[derive(Default)]
struct Recorder {
    dry_run: bool,
    refuse: Option<&'static str>,
    desired: Mutex<Vec<Desired>>,
}

impl Recorder {
    fn desired(&self) -> Vec<Desired> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn names(&self) -> Vec<String> {
        self.desired().iter().map(|d| d.urn.short()).collect()
    }
}

#[async_trait]
impl Registrar for Recorder {
    async fn register(&self, desired: Desired) -> Result<Registered, Report> {
        self.desired.lock().unwrap_or_else(PoisonError::into_inner).push(desired.clone());
        let name = desired.urn.name.to_string();
        if self.refuse == Some(name.as_str()) {
            let message = format!("{} is refused", desired.urn.short());
            return Err(Report {
                code: "E0302".into(),
                message,
                help: "ask again".into(),
                causes: Vec::new(),
            });
        }
        let outputs = match desired.urn.kind {
            _ if self.dry_run => value::unknown(),
            Kind::Bucket => json!({ "arn": format!("arn:{name}"), "url": format!("http://x/{name}") }),
            Kind::Function => json!({ "arn": format!("arn:{name}") }),
            Kind::Task => json!({ "image": "sha256:1" }),
            Kind::Service => {
                let endpoint = json!({ "hostname": "127.0.0.1", "port": 8080 });
                json!({ "images": { "web": "sha256:1" }, "endpoints": { "8080": endpoint } })
            }
            Kind::Queue => {
                json!({ "arn": format!("arn:{name}"), "url": format!("http://x/{name}"), "name": name })
            }
            Kind::Stream => json!({ "arn": format!("arn:{name}"), "name": name }),
            Kind::Volume | Kind::Topic | Kind::Timer | Kind::Workflow | Kind::Entity | Kind::Subscription => {
                json!({})
            }
        };
        let id = (!self.dry_run).then(|| PhysicalId(format!("{name}-1")));
        Ok(Registered { urn: desired.urn, op: Op::Create, id, outputs })
    }
}

struct Program {
    _folder: tempfile::TempDir,
    deployment: Deployment,
    console: Mutex<Vec<String>>,
}

fn program(files: &[(&str, &str)]) -> Program {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in [("Tandem.yaml", "name: shop\nruntime: js\n")].iter().chain(files) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let deployment = Deployment::new(Project::find(folder.path()).unwrap()).unwrap();
    Program { _folder: folder, deployment, console: Mutex::default() }
}

impl Program {
    async fn run(&self, recorder: &Recorder) -> Result<Properties, RunError> {
        let environment = BTreeMap::from([("LEVEL".to_owned(), "high".to_owned())]);
        let run = Run { stack: "dev".parse().unwrap(), dry_run: recorder.dry_run, environment };
        let console =
            |line: &str| self.console.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        host().run(&self.deployment, run, recorder, &console).await
    }

    fn printed(&self, line: &str) -> bool {
        self.console.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|l| l == line)
    }
}

const THUMBNAILER: &[(&str, &str)] = &[
    (
        "index.js",
        "const cloud = require('@pulumi/cloud');\n\
         const bucket = new cloud.Bucket('bucket');\n\
         const task = new cloud.Task('task', { build: './docker', environment: { B: bucket.id } });\n\
         bucket.onPut('onVideo', async ({ key }) => { await task.run(); }, { keySuffix: '.mp4' });\n\
         exports.bucket = bucket.id;\n\
         exports.level = process.env.LEVEL;\n",
    ),
    ("docker/Dockerfile", "FROM scratch\n"),
];

#[tokio::test]
async fn a_program_registers_what_it_declares_with_the_parents_knowledge_filled_in() {
    let program = program(THUMBNAILER);
    let recorder = Recorder::default();
    let exports = program.run(&recorder).await.unwrap();
    assert_eq!(Value::Object(exports), json!({ "bucket": "bucket-1", "level": "high" }));
    assert_eq!(recorder.names(), ["bucket/bucket", "task/task", "function/onVideo", "subscription/onVideo"]);
    let desired = recorder.desired();
    assert_eq!(desired[0].declared_at.as_deref(), Some("index.js:2:20"));
    assert_eq!(desired[1].inputs["environment"], json!({ "B": "bucket-1" }));
    let context = desired[1].inputs["build"]["context"].as_str().unwrap();
    assert!(context.starts_with("sha256:") && context.len() == 71, "{context}");
    assert_eq!(desired[2].inputs["code"], json!(program.deployment.packed().hash));
    assert_eq!(desired[3].inputs["filter"], json!({ "suffix": ".mp4" }));
    assert!(desired[3].depends_on.contains(&desired[2].urn));
}

#[tokio::test]
async fn a_preview_has_unknown_outputs_and_the_same_inputs() {
    let program = program(THUMBNAILER);
    let preview = Recorder { dry_run: true, ..Recorder::default() };
    let exports = program.run(&preview).await.unwrap();
    assert_eq!(exports["bucket"], value::unknown());
    let live = Recorder::default();
    program.run(&live).await.unwrap();
    let hash = |recorder: &Recorder| recorder.desired()[1].inputs["build"]["context"].clone();
    assert_eq!(hash(&preview), hash(&live));
}

#[tokio::test]
async fn an_edit_between_the_runs_changes_nothing() {
    let program = program(THUMBNAILER);
    let preview = Recorder { dry_run: true, ..Recorder::default() };
    program.run(&preview).await.unwrap();
    let folder = &program.deployment.project().folder;
    fs::write(folder.join("index.js"), "throw new Error('edited')").unwrap();
    fs::write(folder.join("docker/Dockerfile"), "FROM other\n").unwrap();
    let live = Recorder::default();
    program.run(&live).await.unwrap();
    assert_eq!(preview.desired()[1].inputs["build"], live.desired()[1].inputs["build"]);
}

#[tokio::test]
async fn what_the_registrar_refuses_fails_the_program_at_the_place_of_the_declaration() {
    let program = program(THUMBNAILER);
    let recorder = Recorder { refuse: Some("task"), ..Recorder::default() };
    let RunError::Program { error, .. } = program.run(&recorder).await.unwrap_err() else {
        panic!("it is refused")
    };
    assert_eq!((error.code.as_str(), error.help.as_str()), ("E0302", "ask again"));
    assert_eq!(error.to_string(), "task/task is refused (index.js:3:18)");
    assert!(!recorder.names().contains(&"function/onVideo".to_owned()));
}

#[tokio::test]
async fn wrong_inputs_are_found_before_the_registrar_sees_them() {
    let index = "const cloud = require('@tandem/cloud');\n\
                 const late = cloud.output(Promise.resolve(7));\n\
                 new cloud.Task('t', { image: 'x', command: late });\n";
    let program = program(&[("index.js", index)]);
    let recorder = Recorder::default();
    let RunError::Program { error, .. } = program.run(&recorder).await.unwrap_err() else {
        panic!("it is wrong")
    };
    assert_eq!(error.code, "E0531");
    assert!(error.to_string().starts_with("task/t: `command`: invalid type: integer `7`"), "{error}");
    assert!(error.to_string().ends_with("(index.js:3:5)"), "{error}");
    assert!(recorder.names().is_empty());
}

#[tokio::test]
async fn a_missing_build_folder_is_an_error_of_the_task_that_names_it() {
    let index = "const cloud = require('@tandem/cloud');\nnew cloud.Task('t', { build: './none' });\n";
    let program = program(&[("index.js", index)]);
    let RunError::Program { error, .. } = program.run(&Recorder::default()).await.unwrap_err() else {
        panic!("none is there")
    };
    assert_eq!(error.code, "E0540");
    assert!(error.to_string().contains("none` to build from (index.js:2:5)"), "{error}");
}

#[tokio::test]
async fn everything_the_program_prints_arrives_before_the_run_ends() {
    let index = "console.log('out'); console.error('err');\n\
                 for (let i = 0; i < 3000; i++) console.log('line ' + i);\nthrow new TypeError('enough');";
    let program = program(&[("index.js", index)]);
    let error = program.run(&Recorder::default()).await.unwrap_err();
    let shown = "TypeError: enough (index.js:3:11)\n  3 | throw new TypeError('enough');\n    |           ^";
    assert_eq!(error.report().message, shown);
    for line in ["out", "err", "line 0", "line 2999"] {
        assert!(program.printed(line), "{line}");
    }
}

#[tokio::test]
async fn user_code_is_not_root_and_sees_the_file_system_from_its_top() {
    let index = "const { execSync, spawn } = require('child_process');\n\
                 const id = spawn('id', ['-u']); id.stdout.on('data', d => console.log('uid ' + String(d).trim()));\n\
                 const pwd = spawn('pwd'); pwd.stdout.on('data', d => console.log('in ' + String(d).trim()));\n\
                 exports.done = Promise.all([id, pwd].map(p => new Promise(resolve => p.on('close', () => resolve(1)))));\n";
    let program = program(&[("index.js", index)]);
    program.run(&Recorder::default()).await.unwrap();
    let uid = format!(
        "uid {}",
        if nix::unistd::Uid::effective().is_root() { 65_534 } else { nix::unistd::getuid().as_raw() }
    );
    assert!(program.printed(&uid), "{:?}", program.console);
    assert!(program.printed("in /"), "{:?}", program.console);
}

#[tokio::test]
async fn a_process_that_ends_without_a_word_says_how() {
    let index = "const { spawn } = require('child_process');\n\
                 spawn('sh', ['-c', 'kill -KILL ' + process.pid]);\nexports.never = new Promise(r => setTimeout(r, 60000));";
    let program = program(&[("index.js", index)]);
    let error = program.run(&Recorder::default()).await.unwrap_err();
    assert_eq!(error.code(), "E0530");
    assert_eq!(error.to_string(), "the program's process was ended by signal 9 before the program was done");
}

#[tokio::test]
async fn dropping_a_run_kills_the_process_and_what_it_started() {
    // The program and its own child hold a pipe open; it closes when both are gone.
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&fifo, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let index = format!(
        "const {{ spawn }} = require('child_process');\nspawn('sh', ['-c', 'exec >{}; echo started; sleep 600']);\n\
         while (true) {{}}",
        fifo.display()
    );
    let program = program(&[("index.js", &index)]);
    let reader = tokio::task::spawn_blocking(move || {
        let mut reader = BufReader::new(fs::File::open(fifo).unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "started\n");
        reader
    });
    let recorder = Recorder::default();
    let mut reader = tokio::select! {
        _ = program.run(&recorder) => panic!("it never ends"),
        reader = reader => reader.unwrap(),
    };
    let rest = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).map(|_| text)
    });
    // It is read to its end: nobody holds it open.
    assert_eq!(rest.await.unwrap().unwrap(), "");
}

#[test]
fn the_child_ends_when_its_parent_is_gone_though_the_program_never_rests() {
    let program = program(&[("index.js", "console.log('busy'); while (true) {}")]);
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let host = host();
    let mut child = Command::new(&host.program)
        .args(&host.args)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let setup = Setup {
        phase: Phase::Deploy,
        project: "shop".into(),
        stack: "dev".into(),
        config: BTreeMap::new(),
        dry_run: false,
        environment: BTreeMap::new(),
        resources: BTreeMap::new(),
    };
    let start = Start { setup, archive: program.deployment.packed().archive.clone() };
    ours.write_all(&wire::line(&start)).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "busy"));
    drop(ours);
    assert!(!child.wait().unwrap().success());
}
