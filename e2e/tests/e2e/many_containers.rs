//! Many containers at once, and a cloud that is killed under them: all are accounted for, and nothing is left.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{Cloud, Gate, PATIENCE, Project, Visit};

const RUNS: usize = 100;
/// Of a debug build, which keeps more than a release.
const MEMORY_BOUND: u64 = 192 << 20;

/// What containers are made of, on this whole machine: other tests run beside this one, so a difference is looked for by
/// what names this cloud.
#[derive(Debug, Default, PartialEq, Eq)]
struct Traces {
    mounts: usize,
    groups: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    monitors: usize,
}

impl Traces {
    fn of(cloud: &Cloud, ids: &[String]) -> Self {
        let ours = |name: &String| ids.iter().any(|id| name.contains(id.as_str()));
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let mut groups = BTreeSet::new();
        for tree in names("/sys/fs/cgroup").iter().map(|tree| format!("/sys/fs/cgroup/{tree}")) {
            groups.extend(names(&tree).into_iter().filter(ours).map(|name| format!("{tree}/{name}")));
        }
        groups.extend(names("/sys/fs/cgroup").into_iter().filter(ours));
        Self {
            mounts: cloud.mounts().iter().filter(|mount| ours(mount)).count(),
            groups,
            namespaces: names("/run/netns").into_iter().filter(ours).collect(),
            monitors: cloud.processes().iter().filter(|process| process.contains("conmon")).count(),
        }
    }
}

fn interfaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}

#[track_caller]
fn until<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 4 * PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not come");
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn shown(project: &Project<'_>, id: &str) -> Value {
    let ran = project.tandem(&["runs", "show", id, "--json"]).ok();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.all()))
}

#[test]
fn a_hundred_runs_at_once_end_and_leave_nothing() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         const job = new cloud.Task('job', {{ image: 'docker.io/library/busybox', memoryReservation: 16,\n\
             command: ['sh', '-c', 'echo run $N; exit $((N % 3))'] }});\n\
         new cloud.Function('all', async () => {{\n\
             const started = Array.from({{ length: {RUNS} }}, (_, n) => job.run({{ environment: {{ N: String(n) }} }}));\n\
             return (await Promise.all(started)).map((run) => run.id);\n\
         }}, {{ timeout: 120 }});\n"
    );
    let project = cloud.project("hundred", &[("index.js", &program)]);
    project.up();
    // Once before, so that what is made only once is there.
    project.tandem(&["run", "job", "--env", "N=0"]).ok();
    let memory_before = resident(serving.pid().as_raw());

    let begun = Instant::now();
    let ids: Vec<String> = serde_json::from_str(&project.tandem(&["invoke", "all"]).ok().stdout).unwrap();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), RUNS);
    let mut most = 0;
    until("the end of all runs", || {
        most = most.max(Traces::of(&cloud, &ids).monitors);
        let seen: Value =
            serde_json::from_str(&project.tandem(&["ps", "--capacity", "--json"]).ok().stdout).unwrap();
        (seen["held"]["memoryBytes"] == 0 && seen["waiting"].as_array().unwrap().is_empty()).then_some(())
    });
    let taken = begun.elapsed();
    for (n, id) in ids.iter().enumerate() {
        let run = shown(&project, id);
        assert_eq!(run["exitCode"], n % 3, "run {n}: {run:#}");
    }
    let log = project.tandem(&["logs", "--json"]).ok().stdout;
    for n in 0..RUNS {
        let line = format!("\"run {n}\"");
        // Run 0 was there before, too.
        assert_eq!(log.matches(&line).count(), 1 + usize::from(n == 0), "the log of run {n}");
    }
    // The last containers are removed behind the end of their runs.
    let after = until("the end of what containers are made of", || {
        let now = Traces::of(&cloud, &ids);
        (now == Traces::default()).then_some(now)
    });
    let memory = resident(serving.pid().as_raw());
    eprintln!(
        "{RUNS} runs in {taken:.1?}, at most {most} monitors seen at once; memory {} MiB before, {} MiB after; {after:?}",
        memory_before >> 20,
        memory >> 20
    );
    assert!(memory < MEMORY_BOUND, "the cloud's own memory is {} MiB", memory >> 20);

    // The same once more: what stays behind of each run would show.
    let once = project.tandem(&["invoke", "all"]).ok().stdout;
    let again: Vec<String> = serde_json::from_str(&once).unwrap();
    until("the end of all further runs", || {
        let seen: Value =
            serde_json::from_str(&project.tandem(&["ps", "--capacity", "--json"]).ok().stdout).unwrap();
        (seen["held"]["memoryBytes"] == 0 && seen["waiting"].as_array().unwrap().is_empty()).then_some(())
    });
    let grown = resident(serving.pid().as_raw()).saturating_sub(memory);
    assert!(grown < 16 << 20, "another {RUNS} runs made the cloud larger by {} KiB", grown >> 10);
    until("the end of what further containers are made of", || {
        (Traces::of(&cloud, &again) == Traces::default()).then_some(())
    });
    project.destroy();
}

/// Ports that nobody listens on at this moment.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\nhost: web\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| body.trim().to_owned())
}

fn replicas(project: &Project<'_>) -> BTreeSet<String> {
    let ps: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    let services = ps["services"].as_array().unwrap();
    let all = services.iter().flat_map(|service| service["replicas"].as_array().unwrap());
    let healthy = all.filter(|replica| replica["healthy"] == true);
    healthy.filter_map(|replica| replica["id"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_killed_cloud_finds_ten_runs_and_three_services_again() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let mut gate = Gate::shut();
    let ports: [u16; 3] = free_ports();
    let mut program =
        "const cloud = require('@tandem/cloud');\nconst image = 'docker.io/library/busybox';\n".to_owned();
    for (n, port) in ports.iter().enumerate() {
        program += &format!(
            "new cloud.Service('web{n}', {{ image, replicas: 2, memoryReservation: 32, healthCheck: {{ path: '/index.html', interval: 0.2 }},\n\
                 ports: [{{ port: {port}, targetPort: 80, protocol: 'http' }}],\n\
                 command: ['sh', '-c', 'mkdir /www; echo service {n} > /www/index.html; exec busybox httpd -f -p 80 -h /www'] }});\n"
        );
    }
    program += &format!(
        "new cloud.Task('job', {{ image, memoryReservation: 16,\n\
             command: ['sh', '-c', 'echo before $N; {}; echo after $N; exit $N'] }});\n",
        gate.command("job")
    );
    let project = cloud.project("accounted", &[("index.js", &program)]);
    project.up();
    let start = |n: usize| {
        project.tandem(&["run", "job", "--detach", "--env", &format!("N={n}")]).ok().value().to_owned()
    };
    let ids: Vec<String> = (0..10).map(start).collect();
    let mut inside: Vec<_> = (0..10).map(|_| gate.wait_for("job")).collect();
    let served = replicas(&project);
    assert_eq!(served.len(), 6);
    cloud.observe();
    // Half of them end while there is no cloud.
    serving.kill();
    inside.drain(..5).for_each(Visit::release);

    let serving = cloud.serve();
    for (n, port) in ports.iter().enumerate() {
        let answer = until("an answer of a service", || get(*port));
        assert_eq!(answer, format!("service {n}"));
    }
    until("the same replicas", || (replicas(&project) == served).then_some(()));
    // And once more, while the others run.
    serving.kill();
    let _serving = cloud.serve();
    inside.into_iter().for_each(Visit::release);
    for (n, id) in ids.iter().enumerate() {
        let waited = project.tandem(&["runs", "wait", id]);
        assert_eq!(waited.code, Some(i32::try_from(n).unwrap()), "{}", waited.all());
        let log = project.tandem(&["logs", "--run", id]).ok().stdout;
        for line in [format!("before {n}"), format!("after {n}")] {
            assert_eq!(log.lines().filter(|l| l.ends_with(&line)).count(), 1, "`{line}` in\n{log}");
        }
    }
    assert_eq!(gate.count("job"), 10, "a container ran more than once");
    for port in ports {
        until("an answer of a service", || get(port));
    }
    assert_eq!(replicas(&project), served);
    cloud.observe();
    project.destroy();
    let bridges = interfaces().into_iter().filter(|name| cloud.networks().contains(name));
    assert_eq!(bridges.collect::<Vec<_>>(), Vec::<String>::new());
}
