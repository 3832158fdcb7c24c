//! Handlers that trigger themselves, and chains that are followed through containers.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Cloud, Project};

const LOOP: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket", { forceDestroy: true });
exports.bucket = bucket.id;
bucket.onPut("again", async ({ key }) => {
    const n = Number(key.split("-")[1]);
    await bucket.put(`k-${n + 1}`, "x");
});
new cloud.Function("well", async () => "well");
"#;

const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'hello')";
const EXISTS: &str = "s3.head_object(Bucket=arguments[0], Key=arguments[1])";

/// The subjects of the dead letters, all of which are ends of chains.
fn ends(project: &Project<'_>) -> Vec<String> {
    let listed = project.tandem(&["dead-letters", "ls", "--json"]).ok().stdout;
    let letters = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let subject = |letter: Value| {
        assert_eq!(letter["error"]["code"], "E0652");
        letter["delivery"]["event"]["subject"].as_str().unwrap().to_owned()
    };
    letters.map(subject).collect()
}

fn wait_for_end(project: &Project<'_>, end: &str) {
    while ends(project) != [end] {
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_handler_that_triggers_itself_is_stopped_and_a_redrive_goes_one_step_further() {
    let cloud = Cloud::new();
    let project = cloud.project("loop", &[("index.js", LOOP)]);
    project.up().says("warning[E0659]: subscription/again triggers itself");
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    client.boto3(PUT, &[&bucket, "k-0"]).ok();
    wait_for_end(&project, "k-100");
    client.boto3(EXISTS, &[&bucket, "k-100"]).ok();
    assert_ne!(client.boto3(EXISTS, &[&bucket, "k-101"]).code, Some(0));
    assert!(project.tandem(&["invoke", "well"]).ok().stdout.contains("well"));
    let shown = project.tandem(&["dead-letters", "show", "", "--subscription", "again"]).ok().stdout;
    assert!(shown.contains("bucket/bucket → subscription/again → function/again → bucket/bucket"), "{shown}");

    project.tandem(&["dead-letters", "redrive", "--all"]).ok().says("redrove 1 event");
    wait_for_end(&project, "k-101");
    assert_ne!(client.boto3(EXISTS, &[&bucket, "k-102"]).code, Some(0));
    project.destroy();
}

#[test]
fn a_preview_warns_of_a_loop_unless_it_is_intended_and_not_of_the_thumbnailer() {
    let cloud = Cloud::new();
    let project = cloud.project("warned", &[("index.js", LOOP)]);
    let warned = project.tandem(&["preview"]).ok().says("warning[E0659]: subscription/again triggers itself");
    let words = warned.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("puts `k-…` into bucket/bucket at index.js:7:11, and gets that object"),
        "{words}"
    );
    assert!(words.contains("`loop: \"intended\"` (index.js:5:8)"), "{words}");
    let plan: Value = serde_json::from_str(&project.tandem(&["preview", "--json"]).ok().stdout).unwrap();
    assert_eq!(plan["warnings"][0]["code"], "E0659");

    let quiet = |program: &str| {
        project.edit("index.js", program);
        let ran = project.tandem(&["preview"]).ok();
        assert!(!ran.all().contains("E0659"), "{}", ran.all());
    };
    quiet(&LOOP.replace("});\nnew", "}, { loop: \"intended\" });\nnew"));
    quiet(&LOOP.replace("});\nnew", "}, { keySuffix: \".jpg\" });\nnew").replace("n + 1}`", "n + 1}.png`"));
    project.edit("index.js", &LOOP.replace("});\nnew", "}, { loop: true });\nnew"));
    project.tandem(&["preview"]).failed("E0506").says("\"intended\" or nothing");
    let stream = "const s = new (require('@tandem/cloud').Stream)('s');\n\
                  s.subscribe('again', async ([{ key }]) => { await s.put(key, 1); });";
    project.edit("index.js", stream);
    project.tandem(&["preview"]).ok().says("warning[E0659]: subscription/again triggers itself");
    quiet(&stream.replace("1); });", "1); }, { loop: 'intended' });"));
    let example = Project::example(&cloud, "video-thumbnailer");
    let ran = example.tandem(&["preview"]).ok();
    assert!(ran.stdout.contains("subscription/onNewVideo") && !ran.all().contains("E0659"), "{}", ran.all());
}

const VIDEOS: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket", { forceDestroy: true });
exports.bucket = bucket.id;
const task = new cloud.Task("ffmpeg", { image: "docker.io/library/busybox", command: ["sh", "-c", "echo token=$AWS_SESSION_TOKEN"] });
bucket.onPut("video", task, { keySuffix: ".mp4" });
bucket.onPut("thumbnail", async ({ key }, context) => console.log(`cause of ${key}: ${context.traceparent}`), { keySuffix: ".jpg" });
"#;

#[test]
fn what_a_container_puts_is_of_the_trace_of_what_started_it() {
    let cloud = Cloud::new();
    cloud.import_busybox();
    let project = cloud.project("videos", &[("index.js", VIDEOS)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let put = "
s3.meta.events.register('before-sign.s3', lambda request, **_: request.headers.add_header('traceparent', arguments[2]))
s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'hello')";
    let mut log = cloud.log(&project);
    client.boto3(put, &[&bucket, "cat.mp4", &format!("00-{trace}-00f067aa0ba902b7-01")]).ok();
    let token = log.wait_for("token=").text.split_once('=').unwrap().1.to_owned();
    assert!(token.starts_with(&format!("00-{trace}-01")), "one delivery led to the run: {token}");
    client.with("AWS_SESSION_TOKEN", &token).boto3(PUT, &[&bucket, "cat.jpg"]).ok();
    let line = log.wait_for("cause of cat.jpg: ").text;
    assert!(line.contains(&format!("00-{trace}-02")), "two led to the function: {line}");
    // What is no token of ours is nobody's.
    client.with("AWS_SESSION_TOKEN", "else").boto3(PUT, &[&bucket, "dog.jpg"]).ok();
    assert!(!log.wait_for("cause of dog.jpg: ").text.contains(trace));
    drop(log);
    project.destroy();
}
