//! Services: replicas behind a port, one version after another, and what kills do to them.

mod rebooted;
mod scaling;
mod stock;
mod together;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Cloud, PATIENCE, Project};

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A web server that tells its version and which replica it is.
fn program(port: u16, replicas: u32, version: &str) -> String {
    let script = format!(
        "mkdir /www; echo {version} $TANDEM_REPLICA > /www/index.html; \
         trap 'kill $!; exit' TERM; echo serving {version}; busybox httpd -f -p 80 -h /www & wait"
    );
    service(port, replicas, &script)
}

fn service(port: u16, replicas: u32, script: &str) -> String {
    format!(
        "const cloud = require('@tandem/cloud');\n\
         const web = new cloud.Service('web', {{\n\
             containers: {{ httpd: {{\n\
                 image: 'docker.io/library/busybox',\n\
                 command: ['sh', '-c', {script:?}],\n\
                 ports: [{{ port: {port}, targetPort: 80, protocol: 'http' }}],\n\
                 healthCheck: {{ path: '/index.html', interval: 0.2 }},\n\
             }} }},\n\
             replicas: {replicas},\n\
         }});\n\
         exports.port = web.defaultEndpoint.apply((endpoint) => endpoint.port);\n"
    )
}

fn get(port: u16) -> Result<String, String> {
    get_path(port, "/index.html")
}

fn get_path(port: u16, path: &str) -> Result<String, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(told)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(told)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.trim().to_owned()),
        _ => Err(text),
    }
}

fn replicas(project: &Project<'_>) -> Vec<Value> {
    let ps: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    ps["services"][0]["replicas"].as_array().cloned().unwrap_or_default()
}

fn replicas_of(project: &Project<'_>, service: &str) -> Vec<Value> {
    let ps: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    let all = ps["services"].as_array().unwrap();
    let urn = format!(":{service}");
    let found = all.iter().find(|one| one["urn"].as_str().unwrap().ends_with(&urn)).unwrap();
    found["replicas"].as_array().unwrap().clone()
}

#[track_caller]
fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::yield_now();
    }
}

fn ids(replicas: &[Value]) -> Vec<String> {
    replicas.iter().filter_map(|replica| replica["id"].as_str().map(str::to_owned)).collect()
}

/// Asks all the time, from two threads, and counts.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    asking: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn on(port: u16) -> Self {
        let (stop, asked) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ask = || {
            let (stop, asked) = (stop.clone(), asked.clone());
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = get(port) {
                        failures.push(error);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2));
                }
                failures
            })
        };
        let asking = vec![ask(), ask()];
        Self { stop, asked, asking }
    }

    /// Waits until some more were answered.
    fn go_on(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        until("an answer", || (self.asked.load(Ordering::Relaxed) > before + 20).then_some(()));
    }

    #[track_caller]
    fn none_failed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures: Vec<String> =
            self.asking.into_iter().flat_map(|asking| asking.join().unwrap()).collect();
        let asked = self.asked.load(Ordering::Relaxed);
        assert!(failures.is_empty(), "{} of {asked} failed: {:?}", failures.len(), failures.first());
    }
}

#[test]
fn a_service_goes_from_version_to_version_and_over_a_killed_replica_without_a_failed_request() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let port = free_port();
    let project = cloud.project("shop", &[("index.js", &program(port, 2, "one"))]);
    project.up();
    assert_eq!(project.output("port"), port.to_string());
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..20 {
        *answers.entry(get(port).unwrap()).or_default() += 1;
    }
    assert_eq!(answers, BTreeMap::from([("one 0".to_owned(), 10), ("one 1".to_owned(), 10)]));
    let mut log = cloud.log(&project);
    log.wait_for_times("serving one", 2);

    let load = Load::on(port);
    project.edit("index.js", &program(port, 2, "two"));
    project.up();
    assert!(get(port).unwrap().starts_with("two "), "the new version serves when `up` ends");
    load.go_on();

    // One is killed: another one takes its place, and nobody notices.
    let before = until("two replicas", || Some(replicas(&project)).filter(|replicas| replicas.len() == 2));
    let victim = ids(&before)[0].clone();
    let pid = fs::read_to_string(cloud.home().join("containers/bundles").join(&victim).join("container.pid"));
    kill(Pid::from_raw(pid.unwrap().trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    until("another replica", || {
        let now = replicas(&project);
        let all_well = now.len() == 2 && now.iter().all(|replica| replica["healthy"] == true);
        (all_well && !ids(&now).contains(&victim)).then_some(())
    });
    load.go_on();

    // A version that never becomes well never serves.
    let bad = service(port, 2, "echo cannot find the database; exit 3");
    project.edit("index.js", &bad);
    project
        .tandem(&["up", "--yes"])
        .failed("E0721")
        .says("cannot find the database")
        .says("exited with code 3");
    load.go_on();
    assert!(get(port).unwrap().starts_with("two "));
    load.none_failed();
    drop(log);
    let bridges = cloud.networks();
    let is_there = |bridge: &String| Path::new("/sys/class/net").join(bridge).exists();
    assert!(bridges.len() == 1 && is_there(&bridges[0]), "{bridges:?}");
    project.destroy();
    assert!(get(port).is_err());
    assert!(!is_there(&bridges[0]), "{bridges:?}");
}

#[test]
fn replicas_outlive_the_cloud_and_serve_again_once_it_runs() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let port = free_port();
    let project = cloud.project("shop", &[("index.js", &program(port, 2, "one"))]);
    project.up();
    let before = ids(&replicas(&project));
    serving.kill();
    assert!(get(port).is_err());
    let _serving = cloud.serve();
    until("an answer", || get(port).ok());
    let after = until("both replicas", || {
        let now = replicas(&project);
        (now.len() == 2 && now.iter().all(|replica| replica["healthy"] == true)).then(|| ids(&now))
    });
    assert_eq!(after, before, "the same containers");

    // To more and to fewer the same containers stay.
    project.edit("index.js", &program(port, 3, "one"));
    project.up();
    let more = ids(&replicas(&project));
    assert!(more.len() == 3 && before.iter().all(|id| more.contains(id)), "{before:?}, {more:?}");
    project.edit("index.js", &program(port, 1, "one"));
    project.up();
    until("one replica", || (ids(&replicas(&project)).len() == 1).then_some(()));

    // So do they when a port leads to them in another way, or the only container is called otherwise: and it is still asked
    // whether it is well.
    let last = ids(&replicas(&project));
    let renamed =
        program(port, 1, "one").replace("protocol: 'http'", "protocol: 'tcp'").replace("httpd: {", "www: {");
    project.edit("index.js", &renamed);
    project.up();
    assert_eq!(get(port).unwrap(), "one 0");
    assert_eq!(ids(&replicas(&project)), last);
    let bundle = cloud.home().join("containers/bundles").join(&last[0]);
    let pid = fs::read_to_string(bundle.join("container.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    until("another replica", || {
        let now = replicas(&project);
        (now.len() == 1 && now[0]["healthy"] == true && ids(&now) != last).then_some(())
    });
    project.destroy();
}

#[test]
fn the_cloud_killed_at_each_step_of_a_rollout_serves_a_whole_version_afterwards() {
    for point in [
        "service.replica.recorded",
        "container.start.connected",
        "service.replica.started",
        "service.rollout.begun",
        "target.change.prepared",
        "target.change.committed",
        "service.replica.removed",
    ] {
        let cloud = Cloud::new();
        let serving = cloud.serve();
        cloud.import_busybox();
        let port = free_port();
        let project = cloud.project("shop", &[("index.js", &program(port, 1, "one"))]);
        project.up();
        assert_eq!(serving.terminate().code(), Some(0));

        let doomed = cloud.serve_until(point);
        project.edit("index.js", &program(port, 1, "two"));
        project.tandem(&["up", "--yes"]);
        doomed.died(point);
        let _serving = cloud.serve();
        let answer = until("an answer", || get(port).ok());
        let truth = if matches!(point, "target.change.committed" | "service.replica.removed") {
            "two"
        } else {
            "one"
        };
        assert_eq!(answer, format!("{truth} 0"), "{point}");
        project.up();
        assert_eq!(get(port).unwrap(), "two 0", "{point}");
        until("one replica", || (replicas(&project).len() == 1).then_some(()));
        project.destroy();
    }
}

#[test]
fn up_killed_amid_a_rollout_leaves_the_former_version_serving_and_nothing_of_the_next() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let port = free_port();
    let built = |version: &str| {
        program(port, 2, version).replace("image: 'docker.io/library/busybox'", "build: './web'")
    };
    let dockerfile = |version: &str| format!("FROM busybox\nENV VERSION={version}\n");
    let project =
        cloud.project("shop", &[("index.js", &built("one")), ("web/Dockerfile", &dockerfile("one"))]);
    project.up();
    let before = ids(&replicas(&project));
    let load = Load::on(port);
    // One that does not become healthy, so that there is time; who began it is gone, and it is given up all the same.
    project.edit("web/Dockerfile", &dockerfile("two"));
    project.edit("index.js", &built("two").replace("path: '/index.html'", "path: '/no', startPeriod: 3"));
    let mut up = project.command().args(["up", "--yes"]).spawn().unwrap();
    until("replicas of both versions", || (ids(&replicas(&project)).len() == 4).then_some(()));
    up.kill().unwrap();
    up.wait().unwrap();
    until("the former ones alone", || (ids(&replicas(&project)) == before).then_some(()));
    // What serves is needed, whatever the program says by now.
    let pruned = cloud.tandem(&["image", "prune", "--all"]).ok();
    load.go_on();
    load.none_failed();
    let bundle = cloud.home().join("containers/bundles").join(&before[0]);
    let pid = fs::read_to_string(bundle.join("container.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    until("another in its place", || {
        let now = replicas(&project);
        (now.len() == 2 && now.iter().all(|one| one["healthy"] == true) && ids(&now) != before).then_some(())
    });
    assert!(get(port).unwrap().starts_with("one "), "{}", pruned.all());
    cloud.import_busybox();
    project.edit("index.js", &built("two"));
    project.up();
    assert!(get(port).unwrap().starts_with("two "));
    project.destroy();
}

#[test]
fn an_update_that_is_not_waited_for_takes_over_when_it_is_healthy_and_the_last_one_stays() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let port = free_port();
    let hasty = |text: String| text.replace("replicas: 1", "replicas: 1, waitForSteadyState: false");
    let project = cloud.project("shop", &[("index.js", &hasty(program(port, 1, "one")))]);
    project.up();
    until("an answer", || get(port).ok());
    let load = Load::on(port);
    // One that never becomes healthy, superseded by one that does: it is not heard of again.
    project.edit("index.js", &hasty(service(port, 1, "sleep 1000")));
    project.up();
    assert_eq!(get(port).unwrap(), "one 0", "the former version serves");
    project.edit("index.js", &hasty(program(port, 1, "three")));
    project.up();
    until("the last version", || get(port).ok().filter(|answer| answer == "three 0"));
    until("one replica", || (replicas(&project).len() == 1).then_some(()));
    load.go_on();
    load.none_failed();
    assert_eq!(get(port).unwrap(), "three 0");
    project.destroy();
}

#[test]
fn what_cannot_be_deployed_is_named_and_leaves_nothing_and_what_serves_goes_on() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    // One that was never well leaves nothing, not even a network.
    let bad = cloud.project("bad", &[("index.js", &service(free_port(), 2, "echo no; exit 3"))]);
    bad.tandem(&["up", "--yes"]).failed("E0721");
    until("nothing", || (cloud.networks().is_empty() && cloud.mounts().is_empty()).then_some(()));

    let tight = program(free_port(), 1, "one").replace("command:", "memory: 1, command:");
    bad.edit("index.js", &tight);
    bad.tandem(&["up", "--yes"]).failed("E0707").says("4 MiB");

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port();
    let project = cloud.project("shop", &[("index.js", &program(taken, 1, "one"))]);
    project
        .tandem(&["up", "--yes"])
        .failed("E0720")
        .says(&format!("on port {taken}, on which"))
        .says(&format!("(process {}) does", std::process::id()));
    drop(other);
    project.up();
    assert_eq!(get(taken).unwrap(), "one 0");
    let second = cloud.project("copy", &[("index.js", &program(taken, 1, "one"))]);
    second.tandem(&["up", "--yes"]).failed("E0720").says("service/web of the stack shop/dev");
    assert_eq!(get(taken).unwrap(), "one 0");
    second.destroy();
    project.destroy();
}

#[test]
fn services_find_each_other_by_name_and_reach_the_cloud_and_no_other_stack() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    cloud.import_ffmpeg();
    let probe = r#"
import datetime, hashlib, hmac, os, time, urllib.request
def ask(host):
    for _ in range(20):
        try:
            return urllib.request.urlopen(f"http://{host}:80/index.html", timeout=2).read().decode().strip()
        except Exception as error:
            time.sleep(0.1)
    return "nothing"
def put(path, body):
    url = os.environ["AWS_ENDPOINT_URL"] + path
    time = datetime.datetime.utcnow().strftime("%Y%m%dT%H%M%SZ")
    scope = [time[:8], os.environ["AWS_REGION"], "s3", "aws4_request"]
    headers = {"host": url.split("/")[2], "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": time}
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "\n".join(["PUT", path, "", lines, ";".join(headers), "UNSIGNED-PAYLOAD"])
    text = "\n".join(["AWS4-HMAC-SHA256", time, "/".join(scope), hashlib.sha256(text.encode()).hexdigest()])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in scope + [text]:
        key = hmac.new(key, part.encode(), "sha256").digest()
    headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{'/'.join(scope)}, SignedHeaders={';'.join(headers)}, Signature={key.hex()}"
    return urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PUT")).status
print("by name:", ask("web"), flush=True)
print("the cloud:", put("/" + os.environ["BUCKET"] + "/hello", b"well"), flush=True)
print("the other stack:", ask("lonely"), flush=True)
time.sleep(600)
"#;
    let (port, other) = (free_port(), free_port());
    let both = program(port, 1, "one")
        + &format!(
            "const bucket = new cloud.Bucket('b', {{ forceDestroy: true }});\n\
             exports.bucket = bucket.id;\n\
             new cloud.Service('probe', {{\n\
                 image: 'docker.io/jrottenberg/ffmpeg',\n\
                 command: ['python3', '-c', {probe:?}],\n\
                 environment: {{ BUCKET: bucket.id }},\n\
             }}, {{ dependsOn: web }});\n"
        );
    let lonely = program(other, 1, "lonely").replace("'web'", "'lonely'");
    let stranger = cloud.project("elsewhere", &[("index.js", &lonely)]);
    stranger.up();
    let project = cloud.project("shop", &[("index.js", &both)]);
    project.up();
    let mut log = cloud.log(&project);
    assert!(log.wait_for("by name:").text.ends_with("one 0"));
    assert!(log.wait_for("the cloud:").text.ends_with("200"));
    assert!(log.wait_for("the other stack:").text.ends_with("nothing"));
    let got =
        cloud.client(&project).aws(&["s3", "cp", &format!("s3://{}/hello", project.output("bucket")), "-"]);
    assert_eq!(got.ok().stdout.trim(), "well");
    drop(log);
    project.destroy();
    stranger.destroy();
}
