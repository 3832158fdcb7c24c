//! Functions under load, in the whole product: many events at once, workers that die, and what `tandem ps` says meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Instant,
};

use serde_json::Value;

use crate::harness::{Cloud, PATIENCE, Project};

/// Puts objects named `0000`, `0001`, … from 16 threads.
const PUT_MANY: &str = "
from concurrent.futures import ThreadPoolExecutor
put = lambda n: s3.put_object(Bucket=arguments[0], Key='%04d' % n, Body=b'x')
with ThreadPoolExecutor(16) as threads:
    list(threads.map(put, range(int(arguments[1]))))
";

fn ps(project: &Project<'_>) -> Value {
    serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap()
}

/// The processes of workers that `ps` tells of, and how many it tells of without a process.
fn told(ps: &Value) -> (BTreeSet<i32>, usize) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut workers: Vec<Value> = list(&ps["functions"]).iter().flat_map(|f| list(&f["workers"])).collect();
    workers.extend(list(&ps["spares"]));
    let pids: BTreeSet<_> = workers.iter().filter_map(|w| w["pid"].as_i64()).map(|pid| pid as i32).collect();
    let without = workers.len() - pids.len();
    (pids, without)
}

/// The workers of this cloud, as the kernel knows them: the children of its spawner.
fn workers(cloud: &Cloud) -> BTreeSet<i32> {
    let pids = cloud.processes().into_iter().filter_map(|process| process.split(' ').next()?.parse().ok());
    // By their parent, because one that was just born has not named itself yet.
    pids.filter(|pid: &i32| parent(*pid).is_some_and(|parent| comm(parent) == "tandem-spawner")).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn comm(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// What is there before and after `ps` was there meanwhile, so it must have been told of.
#[track_caller]
fn agree(cloud: &Cloud, project: &Project<'_>) -> Value {
    let before = workers(cloud);
    let ps = ps(project);
    let after = workers(cloud);
    let (pids, without) = told(&ps);
    let untold: Vec<_> = before.intersection(&after).filter(|pid| !pids.contains(pid)).collect();
    assert!(untold.len() <= without, "{untold:?} are there; told was {ps:#}");
    for pid in &pids {
        // One that has ended is there until its parent has noticed.
        let alive = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        assert!(before.contains(pid) || after.contains(pid) || !alive, "{pid} is no worker; told was {ps:#}");
    }
    ps
}

/// Looks at `ps` until this holds.
#[track_caller]
fn until(cloud: &Cloud, project: &Project<'_>, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let ps = agree(cloud, project);
        if holds(&ps) {
            return ps;
        }
        assert!(Instant::now() < deadline, "{what} does not come: {ps:#}");
    }
}

/// How often nothing was answered for so long that the pool may have started one worker more (0051), as seen from
/// outside: never too few, and none while every look sees more answers than the one before it.
struct Stalls {
    answered: u64,
    seen: u128,
    /// No answer was given between this moment and the first look that told the present number of them.
    since: Instant,
    /// When the last look began.
    looked: Instant,
}

impl Stalls {
    fn new() -> Self {
        let now = Instant::now();
        Self { answered: 0, seen: 0, since: now, looked: now }
    }

    /// After a look that began at `asked` and saw this.
    fn at_most(&mut self, asked: Instant, ps: &Value) -> usize {
        let functions = ps["functions"].as_array().unwrap();
        let answered = functions.iter().map(|f| f["invocations"].as_u64().unwrap()).sum();
        let most = self.seen + self.since.elapsed().as_millis() / 200;
        if answered > self.answered {
            (self.answered, self.seen, self.since) = (answered, most, self.looked);
        }
        self.looked = asked;
        usize::try_from(most).unwrap()
    }
}

fn is_quiet(ps: &Value) -> bool {
    ps["backlog"].as_object().is_none_or(|backlog| backlog.values().all(|n| *n == 0))
}

#[test]
fn a_thousand_events_at_once_are_handled_once_each_by_as_many_workers_as_the_machine_bears() {
    const MANY: usize = 1000;
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let mut program = "const cloud = require('@tandem/cloud');\nconst bucket = new cloud.Bucket('b');\n\
                       exports.bucket = bucket.id;\n"
        .to_owned();
    for concurrency in [1, 10, 100] {
        program += &format!(
            "const f{concurrency} = new cloud.Function('f{concurrency}', async ({{ data }}) => {{\n\
                console.log('f{concurrency} handles', data.key);\n\
             }}, {{ concurrency: {concurrency} }});\n\
             bucket.onPut('on{concurrency}', f{concurrency});\n"
        );
    }
    let project = cloud.project("many", &[("index.js", &program)]);
    project.up();
    let mut log = cloud.log(&project);
    let client = cloud.client(&project);
    client.boto3(PUT_MANY, &[&project.output("bucket"), &MANY.to_string()]).ok();

    let processors = std::thread::available_parallelism().unwrap().get();
    // Of f1 one; the others have as many as may start at once each, for what is idle takes no place (0159).
    let bound = 1 + 2 * (2 * processors).max(4);
    let mut stalls = Stalls::new();
    let done = loop {
        let asked = Instant::now();
        let ps = agree(&cloud, &project);
        for function in ps["functions"].as_array().unwrap() {
            let name = function["urn"].as_str().unwrap().rsplit(":f").next().unwrap().to_owned();
            let busy =
                function["workers"].as_array().unwrap().iter().filter(|w| w["state"] == "busy").count();
            assert!(busy <= name.parse().unwrap(), "{busy} handlers of f{name} at once");
        }
        let (pids, _) = told(&ps);
        // Two spares beside those that have a function, and one more whenever nothing moves for a moment.
        let most = bound + 2 + stalls.at_most(asked, &ps);
        assert!(pids.len() <= most, "{} workers, and {most} at most: {ps:#}", pids.len());
        if is_quiet(&ps) {
            break ps;
        }
    };
    for function in done["functions"].as_array().unwrap() {
        assert_eq!(
            (&function["invocations"], &function["errors"]),
            (&MANY.into(), &0.into()),
            "{function:#}"
        );
    }
    assert_eq!(done["deadLetters"], 0);
    log.wait_for_times("handles", 3 * MANY);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for text in log.texts().into_iter().filter(|text| text.contains("handles")) {
        *counts.entry(text.to_owned()).or_default() += 1;
    }
    assert_eq!((counts.len(), counts.values().max()), (3 * MANY, Some(&1)), "once each");
    drop(log);
    project.destroy();
}

#[test]
fn events_of_a_function_that_dies_at_every_third_end_handled_or_in_the_dead_letters() {
    const MANY: usize = 60;
    let cloud = Cloud::new();
    let mut serving = cloud.serve();
    let program = "
        const cloud = require('@tandem/cloud');
        const bucket = new cloud.Bucket('b');
        exports.bucket = bucket.id;
        const dying = new cloud.Function('dying', async ({ data }) => {
            const n = Number(data.key);
            if (n % 3 === 2 && n % 2 === 0) process.exit(3);
            if (n % 3 === 2) throw new Error(`no good ${data.key}`);
            console.log('dying handles', data.key);
        });
        bucket.onPut('onDying', dying);
        const healthy = new cloud.Function('healthy', async ({ data }) => console.log('healthy handles', data.key));
        bucket.onPut('onHealthy', healthy);
    ";
    let project = cloud.project("dying", &[("index.js", program)]);
    project.up();
    let mut log = cloud.log(&project);
    let client = cloud.client(&project);
    client.boto3(PUT_MANY, &[&project.output("bucket"), &MANY.to_string()]).ok();
    log.wait_for_times("healthy handles", MANY);
    drop(log);
    // In the middle of retries; what workers there are go with it, and none is told of afterwards.
    let before = workers(&cloud);
    serving.kill();
    serving = cloud.serve();
    let (pids, _) = told(&agree(&cloud, &project));
    assert!(pids.is_disjoint(&before), "workers of before: {before:?}, told of now: {pids:?}");
    let mut log = cloud.log(&project);
    let done = until(&cloud, &project, "the end of all events", is_quiet);
    assert_eq!(done["deadLetters"], MANY / 3);
    log.wait_for_times("gave up", MANY / 3);
    let given_up: Vec<_> = log.texts().into_iter().filter(|text| text.contains("gave up")).collect();
    for n in (0..MANY).filter(|n| n % 3 == 2) {
        let reason = if n % 2 == 0 { "exited with status 3".to_owned() } else { format!("no good {n:04}") };
        let told = given_up.iter().find(|text| text.contains(&format!("gave up `{n:04}` after 3 attempts")));
        let told = told.unwrap_or_else(|| panic!("{n:04} is not among {given_up:#?}"));
        // An attempt that the kill of the cloud cut off may have been its last.
        assert!(told.contains(&reason) || told.contains("the cloud stopped"), "{told}");
    }
    for n in (0..MANY).filter(|n| n % 3 != 2) {
        log.wait_for(&format!("dying handles {n:04}"));
    }
    cloud.observe();
    drop(log);
    project.destroy();
    assert!(serving.terminate().success());
}
