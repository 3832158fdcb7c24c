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
