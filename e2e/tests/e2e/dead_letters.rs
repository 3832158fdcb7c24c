//! Events that were given up: seen, delivered again, dropped, and gone with their stack.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Cloud, Project};

const FAILS: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket", { forceDestroy: true });
exports.bucket = bucket.id;
const kept = new cloud.Bucket("kept", { forceDestroy: true });
exports.kept = kept.id;
bucket.onPut("each", async ({ key }) => {
    console.log(`at ${key}`);
    throw new Error(`cannot handle ${key}`);
});
"#;
const FAILING: &str = "throw new Error(`cannot handle ${key}`);";
const MENDED: &str = "await kept.put(key, `kept ${key}`);";

const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'hello')";
const WAIT: &str = "
s3.get_waiter('object_exists').wait(Bucket=arguments[0], Key=arguments[1], WaiterConfig={'Delay': 1, 'MaxAttempts': 60})
print(s3.get_object(Bucket=arguments[0], Key=arguments[1])['Body'].read().decode())
";
const EXISTS: &str = "s3.head_object(Bucket=arguments[0], Key=arguments[1])";

fn listed(project: &Project<'_>) -> Vec<Value> {
    let ran = project.tandem(&["dead-letters", "ls", "--json"]).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn id(letter: &Value) -> &str {
    letter["delivery"]["id"].as_str().unwrap()
}

/// A project whose handler has given up these keys.
fn given_up<'a>(cloud: &'a Cloud, name: &str, keys: &[&str]) -> (Project<'a>, Client, String) {
    let project = cloud.project(name, &[("index.js", FAILS)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    let mut log = cloud.log(&project);
    for key in keys {
        client.boto3(PUT, &[&bucket, key]).ok();
    }
    for key in keys {
        log.wait_for(&format!("gave up `{key}` after 3 attempts"));
    }
    while listed(&project).len() < keys.len() {
        std::thread::sleep(Duration::from_millis(20));
    }
    (project, client, bucket)
}

#[test]
fn what_was_given_up_is_listed_shown_redriven_when_it_is_mended_and_dropped() {
    let cloud = Cloud::new();
    let (project, client, _) = given_up(&cloud, "letters", &["a", "b", "c"]);
    let shown = project.tandem(&["dead-letters", "ls"]).ok();
    let rows: Vec<_> = shown.stdout.lines().collect();
    assert!(rows.len() == 4 && rows[0].starts_with("ID "), "{}", shown.stdout);
    assert!(rows[1].contains("put a  subscription/each  3         E0602 "), "{}", shown.stdout);
    let letters = listed(&project);
    assert_eq!(letters.len(), 3);
    assert_eq!(letters[0]["delivery"]["event"]["data"], Value::Null, "only `show` tells the data");

    let (a, b, c) = (id(&letters[0]), id(&letters[1]), id(&letters[2]));
    let last = &a[a.len() - 12..];
    let one = project.tandem(&["dead-letters", "show", last]).ok().stdout;
    for told in ["| at a\n", "cannot handle a", "3 of 3", "dev.tandem.bucket.object.put", "\"key\":\"a\""] {
        assert!(one.contains(told), "{told}: {one}");
    }
    let json = project.tandem(&["dead-letters", "show", last, "--json"]).ok();
    let told: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&told["origin"], &told["delivery"]["event"]["data"]["key"]),
        (&json!("subscription"), &json!("a"))
    );
    project.tandem(&["dead-letters", "show", "nothing"]).failed("E0653");
    // The first digits are of the time.
    project.tandem(&["dead-letters", "show", ""]).failed("E0654");
    assert!(project.tandem(&["ps"]).ok().all().contains("3 events in the dead letters"));

    let kept = project.output("kept");
    project.edit("index.js", &FAILS.replace(FAILING, MENDED));
    project.up();
    project.tandem(&["dead-letters", "redrive", last]).ok().says("redrove 1 event");
    assert_eq!(client.boto3(WAIT, &[&kept, "a"]).ok().value(), "kept a");
    // One that is not there any more stops the others.
    project.tandem(&["dead-letters", "redrive", b, a]).failed("E0653");
    assert_eq!(listed(&project).len(), 2);

    project.tandem(&["dead-letters", "drop", c]).ok().says("dropped 1 event");
    project.tandem(&["dead-letters", "drop", "--all"]).failed("E0130");
    let done = project.tandem(&["dead-letters", "redrive", "--all", "--subscription", "each", "--json"]).ok();
    let moved: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    assert_eq!(moved["id"], b);
    client.boto3(WAIT, &[&kept, "b"]).ok();
    assert_ne!(client.boto3(EXISTS, &[&kept, "c"]).code, Some(0));
    project.tandem(&["dead-letters", "ls"]).ok().says("There are no dead letters");
    project.tandem(&["dead-letters", "drop", "--all", "--yes"]).ok().says("dropped 0 events");
    project.destroy();
}

/// Where the cloud can die between the request to redrive and the function's answer.
const COMMIT_POINTS: &[&str] = &[
    "store.commit.judged",
    "store.commit.synced",
    "dispatch.redrive.committed",
    "dispatch.attempt.counted",
    "dispatch.outcome.committed",
];

#[test]
fn killed_anywhere_during_a_redrive_an_event_is_handled_or_still_among_the_dead_letters() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let (project, client, _) = given_up(&cloud, "redriven", COMMIT_POINTS);
    let kept = project.output("kept");
    project.edit("index.js", &FAILS.replace(FAILING, MENDED));
    project.up();
    serving.kill();
    for point in COMMIT_POINTS {
        let serving = cloud.serve_until(point);
        let letters = listed(&project);
        let letter = letters.iter().find(|l| l["delivery"]["event"]["subject"] == *point).unwrap();
        let ran = project.tandem(&["dead-letters", "redrive", id(letter)]);
        serving.died(point);

        let serving = cloud.serve();
        if listed(&project).iter().any(|left| id(left) == id(letter)) {
            assert_ne!(ran.code, Some(0), "{point}: what was acknowledged is undone");
            project.tandem(&["dead-letters", "redrive", id(letter)]).ok();
        }
        assert_eq!(client.boto3(WAIT, &[&kept, point]).ok().value(), format!("kept {point}"));
        assert!(listed(&project).iter().all(|left| id(left) != id(letter)), "{point}: in both");
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    assert_eq!(listed(&project), Vec::<Value>::new());
    project.destroy();
}

const DIRECT: &str = r#"
exports.told = new cloud.Function("told", async () => { throw new Error("no use"); }).arn;
"#;
const INVOKE: &str =
    "boto3.client('lambda').invoke(FunctionName=arguments[0], InvocationType='Event', Payload=b'{}')";

#[test]
fn a_deletion_says_how_many_events_go_with_it_and_nothing_stays() {
    let cloud = Cloud::new();
    let (project, client, _) = given_up(&cloud, "ending", &["a", "b"]);
    let (without, _) = FAILS.split_once("bucket.onPut").unwrap();
    project.edit("index.js", &format!("{without}{DIRECT}"));
    project.up().says("With what is deleted go 2 events in the dead letters");
    assert_eq!(listed(&project), Vec::<Value>::new());

    client.boto3(INVOKE, &[&project.output("told")]).ok();
    while listed(&project).is_empty() {
        std::thread::sleep(Duration::from_millis(100));
    }
    project.edit("index.js", without);
    project.up();
    // Nothing was said of it, and it is there still: a function may come back.
    let ls = project.tandem(&["dead-letters", "ls"]).ok().stdout;
    assert!(ls.contains("function/told (function is gone)"), "{ls}");
    let id = ls.lines().nth(1).unwrap().split(' ').next().unwrap();
    project.tandem(&["dead-letters", "redrive", id]).failed("E0655").says("function/told is gone");
    let all = project.tandem(&["dead-letters", "redrive", "--all"]).failed("E0655");
    all.says("tandem dead-letters drop");
    let destroyed = project.destroy().says("With what is deleted goes 1 event in the dead letters");
    destroyed.says("dropped 1 event of functions that are gone");
    assert_eq!(listed(&project), Vec::<Value>::new());
}
