//! A cloud whose containers are a Docker engine's, and the stock client `docker` against the registry.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    time::Instant,
};

use serde_json::Value;
use tandem_own_engine::OwnEngine;

use crate::harness::{Cloud, PATIENCE, Ran, prepared};

/// A cloud that has an engine as its backend.
pub(crate) fn cloud_by(engine: &OwnEngine) -> Cloud {
    let cloud = Cloud::new();
    fs::create_dir_all(cloud.home()).unwrap();
    let settings = format!("container:\n  backend: docker\n  host: {}\n", engine.host());
    fs::write(cloud.home().join("config.yaml"), settings).unwrap();
    cloud
}

fn docker(engine: &OwnEngine, arguments: &[&str]) -> Ran {
    Ran::run(engine.client().args(arguments))
}

fn lines(ran: Ran) -> Vec<String> {
    ran.ok().stdout.lines().map(str::to_owned).collect()
}

/// What is left in the engine of our containers and networks.
fn left(engine: &OwnEngine) -> Vec<String> {
    let mut all = lines(docker(engine, &["ps", "--all", "--format", "{{.Names}}"]));
    all.extend(lines(docker(
        engine,
        &["network", "ls", "--filter", "driver=bridge", "--format", "{{.Name}}"],
    )));
    all
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(b"GET /index.html HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.trim().to_owned())
}

#[test]
fn a_task_and_a_service_run_by_docker_and_a_killed_cloud_loses_nothing() {
    let Some(engine) = OwnEngine::for_test() else { return };
    let cloud = cloud_by(&engine);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serve = "mkdir /www; echo replica $TANDEM_REPLICA > /www/index.html; \
                 trap 'kill $!; exit' TERM; busybox httpd -f -p 80 -h /www & wait";
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         new cloud.Task('count', {{ build: './count', memory: 64 }});\n\
         new cloud.Service('web', {{ replicas: 2, containers: {{ httpd: {{\n\
             image: 'docker.io/library/busybox', command: ['sh', '-c', {serve:?}],\n\
             ports: [{{ port: {port}, targetPort: 80, protocol: 'http' }}],\n\
             healthCheck: {{ path: '/index.html', interval: 0.2 }},\n\
         }} }} }});\n"
    );
    let dockerfile = "FROM docker.io/library/busybox\nCOPY count.sh /\nCMD [\"sh\", \"/count.sh\"]\n";
    let count = "for n in $(seq 300); do echo line $n; sleep 0.01; done; exit 7\n";
    let project = cloud.project(
        "docked",
        &[("index.js", &program), ("count/Dockerfile", dockerfile), ("count/count.sh", count)],
    );
    let serving = cloud.serve();
    cloud.import_busybox();
    project.tandem(&["up", "--yes"]).ok();
    let names = lines(docker(&engine, &["ps", "--format", "{{.Names}}"]));
    assert_eq!(names.len(), 2, "two replicas: {names:?}");
    let deadline = Instant::now() + PATIENCE;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        seen.extend(get(port));
        assert!(Instant::now() < deadline, "{seen:?}");
    }

    // Killed in the middle of a run; the containers go on.
    let mut log = cloud.log(&project);
    let id = project.tandem(&["run", "count", "--detach"]).ok().value().to_owned();
    log.wait_for("line 50");
    drop(log);
    serving.kill();
    let _serving = cloud.serve();
    let ended = project.tandem(&["runs", "wait", &id]);
    assert_eq!(ended.code, Some(7), "{}", ended.all());
    let said = project.tandem(&["logs", "--run", &id, "--json"]).ok().stdout;
    let texts = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let texts: Vec<String> = texts.filter_map(|line| Some(line["text"].as_str()?.to_owned())).collect();
    let counted: Vec<&String> = texts.iter().filter(|text| text.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=300).map(|n| format!("line {n}")).collect();
    assert_eq!(counted, expected.iter().collect::<Vec<_>>());
    assert_eq!(lines(docker(&engine, &["ps", "--format", "{{.Names}}"])), names, "the same replicas");
    assert!(get(port).is_some());

    project.tandem(&["destroy", "--yes"]).ok();
    assert_eq!(left(&engine), [""; 0]);
}

#[test]
fn without_its_engine_a_cloud_says_how_to_start_it_and_keeps_what_it_has() {
    let cloud = Cloud::new();
    fs::create_dir_all(cloud.home()).unwrap();
    let settings = "container:\n  backend: docker\n  host: unix:///nowhere/docker.sock\n";
    fs::write(cloud.home().join("config.yaml"), settings).unwrap();
    let _serving = cloud.serve();
    let listed = cloud.tandem(&["image", "ls"]);
    assert!(listed.code != Some(0), "{}", listed.all());
    for said in ["E0420", "unix:///nowhere/docker.sock", "systemctl start docker"] {
        assert!(listed.stderr.contains(said), "{}", listed.stderr);
    }
    drop(_serving);
    fs::write(cloud.home().join("config.yaml"), "container:\n  backend: podman\n").unwrap();
    let refused = cloud.tandem(&["serve", "--detach"]);
    assert!(
        refused.stderr.contains("E0423") && refused.stderr.contains("config.yaml:2"),
        "{}",
        refused.all()
    );
}

#[test]
fn the_stock_client_docker_logs_in_pushes_and_pulls() {
    let Some(engine) = OwnEngine::for_test() else { return };
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let program = "const cloud = require('@tandem/cloud');\n\
                   new cloud.Task('job', { image: 'team/app:v1', command: ['sh', '-c', 'echo runs; cat /made'] });\n";
    let project = cloud.project("pushed", &[("index.js", program)]);
    let client = cloud.client(&project);
    let registry = client.variable("TANDEM_REGISTRY").to_owned();
    let name = format!("{registry}/team/app:v1");

    docker(&engine, &["import", prepared("TANDEM_TEST_BUSYBOX_IMAGE").to_str().unwrap(), "busybox"]).ok();
    let context = cloud.scratch().join("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM busybox\nRUN echo made by docker > /made\nCMD [\"sh\"]\n")
        .unwrap();
    docker(&engine, &["build", "--quiet", "--tag", &name, context.to_str().unwrap()]).ok();
    let refused = docker(&engine, &["push", &name]);
    assert!(
        refused.code != Some(0) && refused.all().contains("no basic auth credentials"),
        "{}",
        refused.all()
    );
    let of = |variable| client.variable(variable);
    let login =
        ["login", "--username", of("TANDEM_REGISTRY_USER"), "--password", of("TANDEM_REGISTRY_PASSWORD")];
    let mut command: Command = engine.client();
    Ran::run(command.args(login).arg(&registry)).ok();
    docker(&engine, &["push", &name]).ok();
    let pushed = docker(&engine, &["image", "inspect", "--format", "{{.Id}}", &name]).ok().value().to_owned();

    project.tandem(&["up", "--yes"]).ok();
    let ran = project.tandem(&["run", "job"]).ok();
    assert_eq!(ran.stdout, "runs\nmade by docker\n");
    docker(&engine, &["image", "rm", &name]).ok();
    docker(&engine, &["pull", "--quiet", &name]).ok();
    assert_eq!(docker(&engine, &["image", "inspect", "--format", "{{.Id}}", &name]).ok().value(), pushed);
}
