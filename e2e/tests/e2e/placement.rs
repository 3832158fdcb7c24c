//! Where containers are put: what they set aside, who waits for whom and why, and what would fit.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::harness::{Cloud, Gate, Project};

const PROGRAM: &str = r#"
const cloud = require('@tandem/cloud');
const image = 'docker.io/library/busybox';
const shell = (script) => ['sh', '-c', script];
new cloud.Service('web', { image, command: shell('trap exit TERM; sleep 1000 & wait'), replicas: 2, memoryReservation: 64, cpuSet: '0',
    devices: ['/dev/full'], dockerLabels: { team: 'shop' }, ephemeralStorage: 16 });
new cloud.Task('one', { image, command: shell('GATE'), concurrency: 1, memoryReservation: 32 });
new cloud.Task('pinned', { image, command: shell('grep Cpus_allowed_list /proc/self/status'), cpuSet: '0' });
new cloud.Task('device', { image, command: shell('exec 3<>DEVICE && GATE'), devices: ['DEVICE'] });
new cloud.Task('without', { image, command: shell('test ! -e DEVICE') });
"#;

/// A device that containers do not have of their own, and that may be opened without any further right.
fn device() -> &'static str {
    let known = ["/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/hwrng"];
    known.into_iter().find(|path| Path::new(path).exists()).expect("this machine has one of the devices")
}

fn deployed<'a>(cloud: &'a Cloud, gate: &Gate) -> Project<'a> {
    cloud.import_busybox();
    let program = PROGRAM.replace("GATE", &gate.command("gate")).replace("DEVICE", device());
    let project = cloud.project("placement", &[("index.js", &program)]);
    project.up();
    project
}

fn capacity(project: &Project<'_>) -> Value {
    serde_json::from_str(&project.tandem(&["ps", "--capacity", "--json"]).ok().stdout).unwrap()
}

/// Why a run waits, as everybody is told.
fn waits(project: &Project<'_>, id: &str) -> String {
    let ps: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    let run = ps["runs"].as_array().unwrap().iter().find(|run| run["id"] == id).unwrap().clone();
    run["waits"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn runs_wait_for_their_like_and_for_devices_and_it_is_told_why_and_what_would_fit() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let mut gate = Gate::shut();
    let project = deployed(&cloud, &gate);
    let start = |task: &str| project.tandem(&["run", task, "--detach"]).ok().value().to_owned();

    let ran = project.tandem(&["run", "pinned"]).ok();
    assert_eq!(ran.stdout.split_whitespace().last(), Some("0"), "{}", ran.all());
    project.tandem(&["run", "without"]).ok();
    let ps: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    let replica = ps["services"][0]["replicas"][0]["id"].as_str().unwrap().to_owned();
    let bundle = cloud.home().join("containers/bundles").join(replica);
    let config: Value = serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["annotations"], json!({ "team": "shop" }));
    let devices = config["linux"]["devices"].as_array().unwrap();
    assert!(devices.iter().any(|given| given["path"] == "/dev/full"), "{devices:?}");

    let first = start("one");
    let inside = gate.wait_for("gate");
    let second = start("one");
    assert_eq!(waits(&project, &second), "1 run of its task at once");
    let user = start("device");
    let using = gate.wait_for("gate");
    let other = start("device");
    assert_eq!(waits(&project, &other), format!("`{}` is used by task/device", device()));

    let seen = capacity(&project);
    let mebibytes = |n: u64| n << 20;
    let held = |of: &str| {
        let holders = seen["holders"].as_array().unwrap();
        let of = holders.iter().find(|holder| holder["of"].as_str().unwrap().ends_with(of)).unwrap();
        (of["count"].clone(), of["holds"]["memoryBytes"].clone())
    };
    assert_eq!(held("service:web"), (json!(2), json!(mebibytes(128))), "{seen:#}");
    assert_eq!(held("task:one"), (json!(1), json!(mebibytes(32))), "{seen:#}");
    assert_eq!(seen["held"]["memoryBytes"], json!(mebibytes(128 + 32 + 128)), "{seen:#}");
    let used = |path: &str| {
        let all = seen["devices"].as_array().unwrap();
        all.iter().find(|one| one["path"] == path).unwrap()["usedBy"].as_array().unwrap().len()
    };
    assert_eq!((used(device()), used("/dev/full")), (1, 2), "both replicas share it: {seen:#}");
    let waiting: Vec<&str> =
        seen["waiting"].as_array().unwrap().iter().filter_map(|w| w["id"].as_str()).collect();
    assert_eq!(waiting, [second.as_str(), other.as_str()]);
    let fits = |of: &str| {
        let all = seen["fits"].as_array().unwrap();
        let fit = all.iter().find(|fit| fit["of"].as_str().unwrap().ends_with(of)).unwrap();
        (fit["now"].as_u64().unwrap(), fit["atMost"].as_u64().unwrap())
    };
    assert_eq!((fits("task:one"), fits("task:device")), ((0, 1), (0, 1)), "{seen:#}");
    assert!(fits("task:without").0 > 0, "{seen:#}");
    let shown = project.tandem(&["ps", "--capacity"]).ok().stdout;
    for word in ["CAPACITY", "service/web", device(), "1 run of its task at once", "WOULD FIT"] {
        assert!(shown.contains(word), "`{word}` is missing:\n{shown}");
    }

    cloud.observe();
    inside.release();
    using.release();
    gate.wait_for("gate").release();
    gate.wait_for("gate").release();
    for id in [first, second, user, other] {
        project.tandem(&["runs", "wait", &id]).ok();
    }
    assert_eq!(capacity(&project)["waiting"], json!([]));
    project.destroy();
    assert_eq!(capacity(&project)["held"]["memoryBytes"], json!(0));
}

#[test]
fn what_this_machine_does_not_have_is_named() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let project = cloud.project("wishes", &[]);
    let refused = |what: &str, code: &str, says: &str| {
        let program = format!(
            "const cloud = require('@tandem/cloud');\nconst image = 'docker.io/library/busybox';\n{what};\n"
        );
        project.edit("index.js", &program);
        project.tandem(&["up", "--yes"]).failed(code).says(says);
    };
    let task = |options: &str| format!("new cloud.Task('t', {{ image, {options} }})");
    refused(&task("devices: ['/dev/no-such']"), "E0707", "this machine has no device `/dev/no-such`");
    refused(&task("devices: ['/etc/passwd']"), "E0707", "`/etc/passwd` is not below `/dev`");
    refused(&task("cpuSet: '0-9999'"), "E0707", "this machine has no processor");
    refused(&task("cpuSet: 'all'"), "E0707", "write a list such as");
    refused(&task("priority: 1001"), "E0707", "it is -1000 to 1000");
    refused(&task("concurrency: 0"), "E0506", "`concurrency` of task/t is a whole number from 1 on, not 0");
    let many = "new cloud.Service('s', { image, command: ['sleep', '1000'], replicas: 250, memoryReservation: '1000GiB' })";
    refused(many, "E0703", "250 replicas of service/s set aside");
    let service = |options: &str| format!("new cloud.Service('s', {{ image, {options} }})");
    let alone = service("devices: [{ path: '/dev/null', shared: false }]");
    refused(&alone, "E0707", "`/dev/null` must be `shared: true`");
    refused(&service("ephemeralStorage: 1"), "E0707", "cannot start with less than 16 MiB");
    refused(&service("memory: 1"), "E0707", "cannot start with less than 4 MiB");
    let scaled = |target: &str| service(&format!("autoscale: {{ max: 2, target: {target} }}"));
    refused(&scaled("{}"), "E0531", "has `requests`, `cpu`, or both");
    refused(&scaled("{ cpu: 101 }"), "E0531", "it is above 0 and up to 100");
    refused(&scaled("{ requests: 1 }"), "E0531", "and there are none");
    let fair = "new cloud.Service('s', { image, command: ['sleep', '1000'], replicas: 250, cpu: 1 })";
    refused(fair, "E0703", "would fit");
}

/// What was set aside before a crash is set aside after it: by the containers that are there, whoever asks first.
#[test]
fn what_runs_and_waits_holds_and_waits_after_a_crash() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let mut gate = Gate::shut();
    let project = deployed(&cloud, &gate);
    let start = |task: &str| project.tandem(&["run", task, "--detach"]).ok().value().to_owned();
    let first = start("one");
    let inside = gate.wait_for("gate");
    let second = start("one");
    cloud.observe();
    serving.kill();

    let _serving = cloud.serve();
    // The containers are looked at beside the start: until then their runs hold nothing.
    while capacity(&project)["held"]["memoryBytes"] != json!((128 + 32) << 20) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    while waits(&project, &second) != "1 run of its task at once" {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    inside.release();
    gate.wait_for("gate").release();
    for id in [first, second] {
        project.tandem(&["runs", "wait", &id]).ok();
    }
    project.destroy();
}
