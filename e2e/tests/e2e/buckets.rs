//! Buckets that clients make over S3, beside those that a program declares.

use serde_json::Value;

use crate::harness::{Cloud, Project};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
exports.bucket = new cloud.Bucket("bucket", {
    cors: [{ allowedOrigins: ["https://*.example.com"], allowedMethods: ["GET"], maxAgeSeconds: 60 }],
}).id;
"#;

#[test]
fn a_bucket_that_a_client_made_outlives_up_and_is_shown_guarded_and_deleted_by_destroy() {
    let cloud = Cloud::new();
    let project = cloud.project("clients", &[("index.js", PROGRAM)]);
    project.up();
    let client = cloud.client(&project);
    client
        .boto3("s3.create_bucket(Bucket='mine'); s3.put_object(Bucket='mine', Key='a', Body=b'x')", &[])
        .ok();

    let again = project.tandem(&["up", "--yes"]).ok();
    assert!(!again.all().contains("s3.mine"), "{}", again.all());
    shown_as_made(&project);
    let refused = project.tandem(&["destroy", "--yes"]).failed("E0206").says("bucket/s3.mine holds 1 object");
    assert!(!refused.all().contains("Deleted"), "{}", refused.all());
    client.boto3("s3.head_object(Bucket='mine', Key='a')", &[]).ok();

    project.tandem(&["destroy", "--yes", "--force"]).ok().says("Deleted bucket/s3.mine");
    project.tandem(&["destroy", "--yes"]).ok().says("nothing to destroy");
    let ps = project.tandem(&["ps"]).ok();
    assert!(!ps.stdout.contains("mine"), "{}", ps.all());
}

/// The lists have it, marked.
#[track_caller]
fn shown_as_made(project: &Project<'_>) {
    let json = |arguments: &[&str]| -> Value {
        let ran = project.tandem(arguments).ok();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.all()))
    };
    let shown = json(&["stack", "show", "--json"]);
    let makers: Vec<_> = shown.as_array().unwrap().iter().map(|r| (&r["id"], &r["madeBy"])).collect();
    let bucket = Value::from(project.output("bucket"));
    assert_eq!(makers, [(&bucket, &"program".into()), (&"mine".into(), &"client".into())]);
    let text = project.tandem(&["stack", "show"]).ok().stdout;
    assert!(
        text.lines().any(|line| line.starts_with("bucket/s3.mine") && line.ends_with("a client, over S3"))
    );
    let ps = json(&["ps", "--json"]);
    assert_eq!(ps["madeByClients"][0]["id"], "mine");
    assert_eq!(ps["madeByClients"].as_array().unwrap().len(), 1);
    let text = project.tandem(&["ps"]).ok().stdout;
    assert!(
        text.lines().any(|line| line.split_whitespace().eq("mine a client, over S3".split(' '))),
        "{text}"
    );
}

#[test]
fn cors_rules_are_those_that_the_program_declares() {
    let cloud = Cloud::new();
    let project = cloud.project("pages", &[("index.js", PROGRAM)]);
    project.up();
    let bucket = project.output("bucket");
    let rules = "print(s3.get_bucket_cors(Bucket=arguments[0])['CORSRules'])";
    let client = cloud.client(&project);
    assert_eq!(
        client.boto3(rules, &[&bucket]).ok().value(),
        "[{'AllowedMethods': ['GET'], 'AllowedOrigins': ['https://*.example.com'], 'MaxAgeSeconds': 60}]"
    );
    project.edit("index.js", &PROGRAM.replace("GET", "GRAB"));
    project.tandem(&["up", "--yes"]).refused().says("GRAB");
    project.destroy();
}

#[test]
fn an_object_that_is_put_or_deleted_starts_a_task_with_the_event() {
    let cloud = Cloud::new();
    let program = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
const notice = new cloud.Task("notice", {
    image: "docker.io/library/busybox",
    command: ["sh", "-c", "echo \"noticed $TANDEM_EVENT\""],
    memoryReservation: 16,
});
bucket.onPut("onText", notice, { keySuffix: ".txt" });
bucket.onDelete("onGone", notice);
exports.bucket = bucket.id;
"#;
    let project = cloud.project("notices", &[("index.js", program)]);
    cloud.import_busybox();
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let mut log = cloud.log(&project);
    let put = "s3.put_object(Bucket=arguments[0], Key='a.txt', Body=b'x'); s3.put_object(Bucket=arguments[0], Key='b', Body=b'')";
    client.boto3(put, &[&bucket]).ok();
    let line = log.wait_for("noticed {");
    let text = &line.text;
    assert!(text.contains("dev.tandem.bucket.object.put") && text.contains("a.txt"), "{text}");
    client.boto3("s3.delete_object(Bucket=arguments[0], Key='a.txt')", &[&bucket]).ok();
    let line = log.wait_for("dev.tandem.bucket.object.deleted");
    assert!(line.text.contains("a.txt"), "{}", line.text);
    drop(log);
    project.destroy();
}
