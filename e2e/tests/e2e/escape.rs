//! Hostile programs, really deployed, beside a stack that is none of theirs: what handlers and containers reach.
//!
//! What native code could do in their place is tried closer to the sandboxes, in `crates/cloud/tests/functions/escape`
//! and `crates/container/src/runtime/escape`.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Client, Cloud, Project};

const VICTIM: &str = r#"
    const cloud = require("@tandem/cloud");
    const bucket = new cloud.Bucket("private");
    const job = new cloud.Task("job", { image: "docker.io/library/busybox", command: ["sh", "-c", "echo of the victim; sleep 600"] });
    new cloud.Function("put", async () => { await bucket.put("key", "of the victim"); });
    new cloud.Function("get", async () => (await bucket.get("key")).toString());
    new cloud.Function("start", async () => (await job.run()).id);
    exports.bucket = bucket.id;
    exports.job = job.id;
"#;

const HOSTILE: &str = r#"
    const cloud = require("@tandem/cloud"), fs = require("fs"), net = require("net");
    const own = new cloud.Bucket("own");
    const job = new cloud.Task("job", {
        image: "docker.io/library/busybox",
        command: ["sh", "-c", "env | grep AWS_; echo done"],
    });

    const connects = (options) => new Promise((resolve, reject) => {
        const socket = net.connect(options);
        socket.on("connect", () => resolve("connected"));
        socket.on("error", reject);
        setTimeout(() => reject(new Error("silence")), 2000);
    });
    const attempts = (e) => ({
        "read the control socket's folder": () => fs.readdirSync(e.home),
        "read the root key": () => fs.readFileSync(e.home + "/root-key.json"),
        "read its parent's environment": () => fs.readFileSync("/proc/1/environ"),
        "read the password file": () => fs.readFileSync("/etc/passwd"),
        "climb out of its folder": () => fs.readFileSync("/tmp/../../../.." + e.home + "/root-key.json"),
        "write to the root": () => fs.writeFileSync("/x", "x"),
        "connect to the control socket": () => connects({ path: e.home + "/control.sock" }),
        "run a program": () => new Promise((resolve, reject) => {
            const child = require("child_process").spawn("/bin/sh", ["-c", "id"]);
            child.on("error", reject);
            child.on("exit", (code) => code === 0 ? resolve(code) : reject(new Error(`exit ${code}`)));
        }),
        "kill another process": () => { process.kill(e.victim, 9); },
        "read the victim's bucket": () => { other(e.bucket); return own.get("key"); },
        "write to the victim's bucket": () => { other(e.bucket); return own.put("key", "forged"); },
        "list the victim's bucket": () => { other(e.bucket); return own.list(); },
        "empty the victim's bucket": () => { other(e.bucket); return own.delete("key"); },
        "read the victim's run": async () => (await theirs(e.run)).status(),
        "read the log of the victim's run": async () => (await theirs(e.run)).logs(),
        "stop the victim's run": async () => (await theirs(e.run)).stop(),
    });
    // The SDK asks these objects for names; the cloud must not believe them.
    const other = (name) => Object.defineProperty(own, "id", { configurable: true, value: { get: () => name } });
    const theirs = async (id) => Object.assign(await job.run(), { id });

    new cloud.Function("attack", async (e) => {
        const got = {};
        for (const [name, attempt] of Object.entries(attempts(e))) {
            try { got[name] = "ESCAPED " + JSON.stringify(await attempt()); }
            catch (error) { got[name] = "refused: " + (error.message || error); }
        }
        return got;
    }, { timeout: 60 });
    new cloud.Function("credentials", async () => process.env);
    new cloud.Function("start", async () => (await (await job.run()).wait(), (await job.run()).id));
    new cloud.Function("shout", async () => { const line = "x".repeat(1000); for (;;) console.log(line); }, { timeout: 3 });
    new cloud.Function("spin", async () => { for (;;); }, { timeout: 2 });
"#;

fn value(project: &Project<'_>, function: &str, payload: &str) -> Value {
    let said = project.tandem(&["invoke", function, payload]).ok();
    serde_json::from_str(said.value()).unwrap_or_else(|e| panic!("{e}: {}", said.all()))
}

struct Stage<'a> {
    victim: Project<'a>,
    hostile: Project<'a>,
    bucket: String,
    run: String,
}

impl<'a> Stage<'a> {
    fn set(cloud: &'a Cloud) -> Self {
        let victim = cloud.project("victim", &[("index.js", VICTIM)]);
        let hostile = cloud.project("hostile", &[("index.js", HOSTILE)]);
        cloud.import_busybox();
        victim.up();
        hostile.up();
        value(&victim, "put", "null");
        let run = value(&victim, "start", "null").as_str().expect("the id of a run is a text").to_owned();
        cloud.log(&victim).wait_for("of the victim");
        let bucket = victim.output("bucket");
        cloud.observe();
        Self { victim, hostile, bucket, run }
    }

    /// The victim has what it had, and the hostile stack's own functions are still served.
    fn all_is_well(&self) {
        assert_eq!(value(&self.victim, "get", "null"), "of the victim");
        let status = self.victim.tandem(&["ps"]).ok();
        assert!(status.stdout.contains("running"), "{}", status.all());
        assert!(value(&self.hostile, "credentials", "null").is_object());
    }
}

/// The process that serves, by the file in which it notes it, or by its command line.
fn server(cloud: &Cloud) -> i32 {
    let all = cloud.processes();
    let line = all.iter().find(|line| line.contains("tandem") && line.contains(" serve"));
    let line = line.unwrap_or_else(|| panic!("{all:#?}"));
    line.split(' ').next().and_then(|pid| pid.parse().ok()).expect("a line begins with the process's id")
}

/// The helper that starts workers.
pub(crate) fn spawner_of(server: i32) -> Option<i32> {
    let parent = format!("PPid:\t{server}\n");
    let mut pids = fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.find(|pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.starts_with("Name:\ttandem-spawner\n") && status.contains(&parent)
    })
}

fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("kibibytes") / 1024
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) })
        .sum()
}

#[test]
fn a_hostile_handler_reaches_neither_the_host_nor_another_stack() {
    let cloud = Cloud::new();
    let stage = Stage::set(&cloud);
    let event = serde_json::json!({
        "home": cloud.home(), "bucket": stage.bucket, "run": stage.run, "victim": server(&cloud),
    });
    let got: BTreeMap<String, String> =
        serde_json::from_value(value(&stage.hostile, "attack", &event.to_string())).unwrap();
    assert_eq!(got.len(), 16, "{got:#?}");
    for (attempt, outcome) in &got {
        assert!(outcome.starts_with("refused: "), "{attempt}: {outcome}");
    }
    for theirs in ["bucket", "run"] {
        let named = got.iter().filter(|(attempt, _)| attempt.contains(&format!("victim's {theirs}")));
        for (attempt, outcome) in named {
            assert!(outcome.contains("belongs to another stack"), "{attempt}: {outcome}");
        }
    }
    stage.all_is_well();
    stage.victim.destroy();
    stage.hostile.destroy();
}

#[test]
fn the_credentials_of_a_function_or_a_container_open_nothing_of_another_stack() {
    let cloud = Cloud::new();
    let stage = Stage::set(&cloud);
    let of_function = value(&stage.hostile, "credentials", "null");
    let mut log = cloud.log(&stage.hostile);
    stage.hostile.tandem(&["run", "job"]).ok();
    log.wait_for("done");
    let printed = log.texts();
    let of_container =
        |name: &str| printed.iter().find_map(|l| l.strip_prefix(&format!("{name}="))).unwrap().to_owned();

    let operator = cloud.client(&stage.hostile);
    let key = |of: &dyn Fn(&str) -> String| -> Client {
        let client = operator.with("AWS_ACCESS_KEY_ID", &of("AWS_ACCESS_KEY_ID"));
        client.with("AWS_SECRET_ACCESS_KEY", &of("AWS_SECRET_ACCESS_KEY"))
    };
    let function = key(&|name| of_function[name].as_str().unwrap().to_owned());
    let container = key(&of_container);
    assert_ne!(of_container("AWS_ACCESS_KEY_ID"), of_function["AWS_ACCESS_KEY_ID"].as_str().unwrap());

    let functions = stage.victim.tandem(&["ps", "--json"]).ok().stdout;
    let victims: Vec<String> = functions
        .split('"')
        .filter(|word| word.starts_with("get-") || word.starts_with("put-"))
        .map(str::to_owned)
        .collect();
    for client in [&operator, &function, &container] {
        let object = format!("s3://{}/key", stage.bucket);
        for arguments in [
            vec!["s3", "cp", &object, "-"],
            vec!["s3", "ls", object.trim_end_matches("key")],
            vec!["s3", "rm", &object],
            vec!["s3api", "put-object", "--bucket", &stage.bucket, "--key", "key"],
            vec!["s3api", "list-multipart-uploads", "--bucket", &stage.bucket],
            vec!["s3api", "delete-bucket", "--bucket", &stage.bucket],
        ] {
            let ran = client.aws(&arguments);
            assert_ne!(ran.code, Some(0), "{}", ran.all());
            assert!(ran.stderr.contains("AccessDenied") || ran.stderr.contains("403"), "{}", ran.all());
        }
        let listed = client.aws(&["s3", "ls"]).ok();
        assert!(!listed.stdout.contains(&stage.bucket), "{}", listed.all());
        for name in victims.iter().chain(["get", "put"].map(str::to_owned).iter()) {
            let ran = client.aws(&["lambda", "invoke", "--function-name", name, "/dev/null"]);
            assert_ne!(ran.code, Some(0), "{}", ran.all());
        }
    }
    drop(log);
    stage.all_is_well();
    stage.victim.destroy();
    stage.hostile.destroy();
}

#[test]
fn handlers_that_shout_or_spin_leave_the_cloud_answering_and_its_memory_and_disk_alone() {
    let cloud = Cloud::new();
    let stage = Stage::set(&cloud);
    let server = server(&cloud);
    let before = resident(server);
    let mut running = ["shout", "shout", "spin", "spin"].map(|name| {
        let mut invoke = stage.hostile.command();
        invoke.args(["invoke", name, "null"]).stdout(Stdio::null()).stderr(Stdio::piped());
        invoke.spawn().unwrap()
    });
    while running.iter_mut().any(|one| one.try_wait().unwrap().is_none()) {
        stage.all_is_well();
    }
    for one in running {
        // What it shouted is on its standard error, which nobody has read: the end of the handler ends that, too.
        let said = one.wait_with_output().unwrap();
        assert_eq!(said.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&said.stderr).contains("error[E0603]"));
    }
    let after = resident(server);
    println!(
        "resident: {before} MiB, then {after} MiB; logs: {} MiB",
        size(&cloud.home().join("logs")) >> 20
    );
    assert!(after < before + 150, "{before} MiB became {after} MiB");
    assert!(size(&cloud.home().join("logs")) < 100 << 20);
    stage.victim.destroy();
    stage.hostile.destroy();
}

#[test]
fn a_cloud_whose_spawner_is_killed_starts_another() {
    let cloud = Cloud::new();
    let stage = Stage::set(&cloud);
    let server = server(&cloud);
    for _ in 0..2 {
        let spawner = Pid::from_raw(spawner_of(server).unwrap_or_else(|| panic!("{:#?}", cloud.processes())));
        kill(spawner, Signal::SIGKILL).unwrap();
        // Until the cloud has noticed: a worker of the dead spawner would be lost in the middle of a request.
        while kill(spawner, None).is_ok() {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        stage.all_is_well();
        cloud.observe();
    }
    stage.victim.destroy();
    stage.hostile.destroy();
}
