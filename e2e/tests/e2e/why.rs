//! What became of something, told after it.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cloud, Project};

const VIDEOS: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("videos", { forceDestroy: true });
exports.bucket = bucket.id;
const quiet = new cloud.Bucket("quiet", { forceDestroy: true });
exports.quiet = quiet.id;
const task = new cloud.Task("ffmpeg", {
    image: "docker.io/library/busybox",
    command: ["sh", "-c", "echo token=$AWS_SESSION_TOKEN; echo at work; sleep 5"],
});
bucket.onPut("onNewVideo", task, { keySuffix: ".mp4" });
bucket.onPut("onNewThumbnail", async ({ key }) => {
    console.log(`*** New thumbnail: file ${key}`);
    await quiet.put(key, "copy");
}, { keySuffix: ".jpg" });
bucket.onPut("onBad", async ({ key }) => { throw new Error(`cannot handle ${key}`); }, { keySuffix: ".bad" });
"#;

const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'hello')";

fn why(project: &Project<'_>, what: &str) -> String {
    project.tandem(&["why", what]).ok().stdout
}

/// Asks until the answer has that.
fn eventually(project: &Project<'_>, what: &str, text: &str) -> String {
    loop {
        let told = why(project, what);
        if told.contains(text) {
            return told;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The lines without their times, which are ordered.
fn lines(told: &str) -> Vec<String> {
    told.lines().map(|line| line.chars().skip(14).collect()).collect()
}

#[test]
fn one_question_tells_the_way_from_a_put_through_a_container_to_the_last_line() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let project = cloud.project("why", &[("index.js", VIDEOS)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    let mut log = cloud.log(&project);
    client.boto3(PUT, &[&bucket, "cat.mp4"]).ok();
    let token = log.wait_for("token=").text.split_once('=').unwrap().1.to_owned();
    log.wait_for("at work");
    let under_way = why(&project, "videos/cat.mp4");
    assert!(
        under_way.contains("attempt 1 of 3 is under way") && under_way.contains(" runs\n"),
        "{under_way}"
    );
    // As the container would, by its credentials.
    client.with("AWS_SESSION_TOKEN", &token).boto3(PUT, &[&bucket, "cat.mp4.jpg"]).ok();
    log.wait_for("*** New thumbnail: file cat.mp4.jpg");

    let told = eventually(&project, &format!("s3://{bucket}/cat.mp4"), "onNewVideo → task/ffmpeg: handled");
    let lines = lines(&told);
    let place = |text: &str| {
        let at = lines.iter().position(|line| line.contains(text));
        let at = at.unwrap_or_else(|| panic!("no `{text}`:\n{told}"));
        (at, lines[at].len() - lines[at].trim_start().len())
    };
    let chain = [
        "cat.mp4 was put into bucket/videos",
        "subscription/onNewVideo → task/ffmpeg: handled",
        "of task/ffmpeg exited with code 0",
        "| at work",
        "cat.mp4.jpg was put into bucket/videos",
        "subscription/onNewThumbnail → function/onNewThumbnail: handled",
        "| *** New thumbnail: file cat.mp4.jpg",
        "cat.mp4.jpg was put into bucket/quiet",
    ];
    let places: Vec<_> = chain.iter().map(|text| place(text)).collect();
    // Of what a handler prints and puts at the same moment, either may come first.
    assert!(places[..7].is_sorted_by_key(|(at, _)| *at) && places[7].0 > places[5].0, "{told}");
    let depths: Vec<_> = places.iter().map(|(_, indent)| indent / 2).collect();
    assert_eq!(depths, [0, 1, 2, 3, 3, 4, 5, 5], "{told}");

    // From its middle, by the id of a run: what led there, and what came of it.
    let (runs, _) = lines[places[2].0].trim().trim_start_matches("run ").split_once(' ').unwrap();
    let of_run = why(&project, &runs[8..]);
    assert!(of_run.lines().next().unwrap().ends_with(chain[0]), "{of_run}");
    assert!(chain[2..].iter().all(|text| of_run.contains(text)), "{of_run}");
    let json = project.tandem(&["why", "quiet/cat.mp4.jpg", "--json"]).ok().stdout;
    let tree: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(tree[0]["text"], "cat.mp4 was put into bucket/videos", "it begins where the chain began");
    drop(log);
    project.destroy();
}

#[test]
fn it_is_said_why_nothing_happened() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let project = cloud.project("whynot", &[("index.js", VIDEOS)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    let quiet = project.output("quiet");
    for (bucket, key) in [(&bucket, "a.txt"), (&quiet, "b"), (&bucket, "c.bad")] {
        client.boto3(PUT, &[bucket, key]).ok();
    }
    let told = why(&project, "videos/a.txt");
    assert!(
        told.contains("subscription/onNewVideo, to task/ffmpeg, wants keys that end with `.mp4` only"),
        "{told}"
    );
    assert!(why(&project, "quiet/b").contains("no subscription listens to bucket/quiet"));
    assert!(why(&project, "videos/no").contains("bucket/videos has no object no"));
    project.tandem(&["why", "nothing"]).failed("E0656");

    eventually(&project, "videos/c.bad", "failed: E0602 the handler of function/onBad failed");
    let told = eventually(&project, "videos/c.bad", "in the dead letters after 3 attempts: E0602");
    assert!(told.contains("attempt 1 failed: E0602") && told.contains("tried again after"), "{told}");
    let id = told.split("dead-letters show ").nth(1).unwrap();
    let id = id.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next().unwrap().to_owned();
    assert!(why(&project, &id).contains("c.bad was put into bucket/videos"));
    project.tandem(&["dead-letters", "redrive", &id]).ok();
    eventually(&project, &id, "was given up, and redriven as");
    let again = eventually(&project, "videos/c.bad", "in the dead letters after 3 attempts");
    assert!(again.contains("redriven as"), "{again}");
    project.tandem(&["dead-letters", "drop", "--all", "--yes"]).ok();
    assert!(why(&project, "videos/c.bad").contains("and dropped from the dead letters"));

    // Two runs take what the first has of the machine: the second waits, and says for what.
    let wide = VIDEOS.replace("command:", "concurrency: 1,\n    command:");
    project.edit("index.js", &wide);
    project.up();
    for key in ["1.mp4", "2.mp4"] {
        client.boto3(PUT, &[&bucket, key]).ok();
    }
    let mut log = cloud.log(&project);
    log.wait_for("at work");
    let waits = |key: &str| why(&project, key).contains("of task/ffmpeg waits");
    assert!(waits("videos/1.mp4") || waits("videos/2.mp4"), "{}", why(&project, "videos/2.mp4"));
    drop(log);
    project.destroy();
}

const MESSAGES: &str = r#"
const cloud = require("@tandem/cloud");
const dead = new cloud.Queue("dead", { forceDestroy: true });
const jobs = new cloud.Queue("jobs", { visibilityTimeout: 1, deadLetter: dead, maxReceiveCount: 2, forceDestroy: true });
const idle = new cloud.Queue("idle", { forceDestroy: true });
exports.idle = idle.url;
const out = new cloud.Bucket("out", { forceDestroy: true });
exports.out = out.id;
jobs.subscribe("work", async ([{ body }]) => {
    console.log(`at ${body}`);
    if (body === "bad") throw new Error("cannot do it");
    await out.put(body, "x");
}, { batchSize: 1 });
new cloud.Function("send", async ({ to, body, delay }) => (await { jobs, idle }[to].send(body, { delay })).id);
"#;

const RECEIVE: &str =
    "boto3.client('sqs').receive_message(QueueUrl=arguments[0], WaitTimeSeconds=20)['Messages'][0]";

#[test]
fn a_message_tells_who_sent_it_who_handled_it_and_where_it_is() {
    let cloud = Cloud::new();
    let project = cloud.project("whymessages", &[("index.js", MESSAGES)]);
    project.up();
    let send = |payload: &str| {
        let sent = project.tandem(&["invoke", "send", payload]).ok();
        sent.value().trim_matches('"').to_owned()
    };
    let good = send(r#"{ "to": "jobs", "body": "good" }"#);
    let told = eventually(&project, &good, "it was deleted after that");
    let lines = lines(&told);
    let place = |text: &str| {
        lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}:\n{told}"))
    };
    let sent = place(&format!("message {good} was sent to queue/jobs"));
    let handled = place("subscription/work → function/work: received, handled");
    assert!(
        sent < handled && handled < place("| at good") && handled < place("good was put into bucket/out"),
        "{told}"
    );
    // From the other end: the chain begins with the message.
    let put = why(&project, "out/good");
    assert!(
        put.lines().next().unwrap().ends_with(&format!("message {good} was received from queue/jobs")),
        "{put}"
    );

    let bad = send(r#"{ "to": "jobs", "body": "bad" }"#);
    let told = eventually(&project, &bad, "was received too often in queue/jobs, and moved to queue/dead");
    for text in [
        "received for the 2. time, failed: E0602",
        "attempt 1 failed: E0602",
        "| at bad",
        "is in queue/dead, after it was received too often in",
        "no subscription listens to queue/dead: a client has to receive it",
    ] {
        assert!(told.contains(text), "{text}:\n{told}");
    }
    project.tandem(&["dead-letters", "redrive", "queue/dead"]).ok();
    eventually(&project, &bad, "was moved from queue/dead to queue/jobs");

    let waits = send(r#"{ "to": "idle", "body": "x" }"#);
    let told = why(&project, &waits[waits.len() - 12..]);
    assert!(told.contains("was sent to queue/idle by function/send"), "{told}");
    assert!(told.contains("is in queue/idle; nobody has received it yet"), "{told}");
    assert!(told.contains("no subscription listens to queue/idle"), "{told}");
    let delayed = send(r#"{ "to": "idle", "body": "x", "delay": 900 }"#);
    assert!(why(&project, &delayed).contains("is in queue/idle, with a delay until"));
    cloud.client(&project).boto3(RECEIVE, &[&project.output("idle")]).ok();
    let told = why(&project, &waits);
    assert!(told.contains("is in flight: received once, last at"), "{told}");
    let json: Value = serde_json::from_str(&project.tandem(&["why", &waits, "--json"]).ok().stdout).unwrap();
    assert_eq!((&json[0]["kind"], &json[0]["asked"]), (&"message".into(), &true.into()));
    project.tandem(&["why", "no-message"]).failed("E0656");
    project.destroy();
}

const BUSY: &str = r#"
const cloud = require("@tandem/cloud");
const [bucket, gate] = ["bucket", "gate"].map((name) => new cloud.Bucket(name, { forceDestroy: true }));
exports.bucket = bucket.id;
exports.gate = gate.id;
const jobs = new cloud.Queue("jobs", { forceDestroy: true });
const slow = new cloud.Function("slow", async () => {
    while ((await gate.list("open")).length === 0) await new Promise((done) => setTimeout(done, 50));
}, { concurrency: 1, timeout: 300 });
exports.slow = slow.arn;
bucket.onPut("put", slow);
jobs.subscribe("job", slow, { batchSize: 1 });
new cloud.Function("send", async () => (await jobs.send("x")).id);
"#;
const INVOKE: &str =
    "boto3.client('lambda').invoke(FunctionName=arguments[0], InvocationType='Event', Payload=b'{}')";

#[test]
fn what_waits_for_a_function_that_is_busy_or_gone_says_so() {
    let cloud = Cloud::new();
    let project = cloud.project("whybusy", &[("index.js", BUSY)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    client.boto3(PUT, &[&bucket, "first"]).ok();
    eventually(&project, "bucket/first", "attempt 1 of 3 is under way");
    // Another event and a message find no room at the function, which is at work on the first.
    client.boto3(PUT, &[&bucket, "second"]).ok();
    let told = eventually(&project, "bucket/second", "waits for function/slow, which has 1 worker and");
    assert!(!told.contains("failed"), "to wait is no attempt: {told}");
    let message = project.tandem(&["invoke", "send"]).ok().value().trim_matches('"').to_owned();
    let told =
        eventually(&project, &message, "subscription/job: waits for function/slow, which has 1 worker and");
    assert!(
        told.contains("is with a subscription of queue/jobs: received once") && !told.contains("failed"),
        "{told}"
    );
    client.boto3(PUT, &[&project.output("gate"), "open"]).ok();
    eventually(&project, "bucket/second", "subscription/put → function/slow: handled");
    eventually(&project, &message, "it was deleted after that");

    // A function that was called directly goes while the call waits for it.
    client.boto3("s3.delete_object(Bucket=arguments[0], Key='open')", &[&project.output("gate")]).ok();
    client.boto3(PUT, &[&bucket, "third"]).ok();
    eventually(&project, "bucket/third", "attempt 1 of 3 is under way");
    client.boto3(INVOKE, &[&project.output("slow")]).ok();
    let (without, _) = BUSY.split_once("const slow").unwrap();
    project.edit("index.js", without);
    project.up();
    let letter = loop {
        let listed = project.tandem(&["dead-letters", "ls", "--json"]).ok().stdout;
        if let Some(line) = listed.lines().next() {
            break serde_json::from_str::<Value>(line).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let told = why(&project, letter["delivery"]["id"].as_str().unwrap());
    assert!(
        told.contains("function/slow: in the dead letters") && told.contains("; function/slow is gone"),
        "{told}"
    );
    project.destroy();
}
