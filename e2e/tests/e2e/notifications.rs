//! Functions that stock clients have a bucket notify, in S3's own form.

use serde_json::{Value, json};

use crate::harness::{Client, Cloud, Log, Project};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
exports.bucket = new cloud.Bucket("bucket").id;
exports.told = new cloud.Function("told", async ({ Records: [record] }) => {
    const key = decodeURIComponent(record.s3.object.key.replace(/\+/g, " "));
    console.log(`told ${key}: ${JSON.stringify(record)}`);
}).arn;
"#;

const NOTIFY: &str = "\
s3.put_bucket_notification_configuration(Bucket=arguments[0], NotificationConfiguration={'LambdaFunctionConfigurations': [
    {'Id': 'all', 'LambdaFunctionArn': arguments[1], 'Events': ['s3:ObjectCreated:*', 's3:ObjectRemoved:Delete']}]})
";
const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'hello')";
const HEAD: &str = "s3.head_object(Bucket=arguments[0], Key=arguments[1])";

fn notify(client: &Client, project: &Project<'_>, bucket: &str) {
    client.boto3(NOTIFY, &[bucket, &project.output("told")]).ok();
}

/// The record that the function was given of this key.
fn told(log: &mut Log, key: &str) -> Value {
    let line = log.wait_for(&format!("told {key}: "));
    serde_json::from_str(line.text.split_once(": ").unwrap().1).unwrap()
}

#[track_caller]
fn settled(project: &Project<'_>) {
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
}

#[test]
fn a_client_has_declared_and_made_buckets_notify_a_function_and_the_program_does_not_care() {
    let cloud = Cloud::new();
    let project = cloud.project("notes", &[("index.js", PROGRAM)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    client.boto3("s3.create_bucket(Bucket='mine')", &[]).ok();
    notify(&client, &project, &bucket);
    notify(&client, &project, "mine");
    settled(&project);

    let mut log = cloud.log(&project);
    client.boto3(PUT, &[&bucket, "red flower.jpg"]).ok();
    let record = told(&mut log, "red flower.jpg");
    assert_eq!(record["eventName"], "ObjectCreated:Put");
    let s3 = &record["s3"];
    assert_eq!((&s3["configurationId"], &s3["bucket"]["name"]), (&json!("all"), &json!(bucket)));
    let object = json!({
        "key": "red+flower.jpg",
        "size": 5,
        "eTag": "5d41402abc4b2a76b9719d911017c592",
        "sequencer": s3["object"]["sequencer"],
    });
    assert_eq!(s3["object"], object);
    client.boto3(PUT, &["mine", "a"]).ok();
    assert_eq!(told(&mut log, "a")["s3"]["bucket"]["arn"], "arn:aws:s3:::mine");
    client.boto3("s3.delete_object(Bucket='mine', Key='a')", &[]).ok();
    log.wait_for("ObjectRemoved:Delete");

    // A change of the program is none of the notification.
    project.edit("index.js", &PROGRAM.replace("told ${key}", "told again ${key}"));
    project.up();
    client.boto3(PUT, &[&bucket, "b"]).ok();
    told(&mut log, "again b");
    settled(&project);
    drop(log);
    project.destroy();
}

#[test]
fn a_function_that_the_program_no_longer_has_leaves_dead_letters_and_nothing_that_waits() {
    let cloud = Cloud::new();
    let project = cloud.project("gone", &[("index.js", PROGRAM)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    notify(&client, &project, &bucket);
    let arn = project.output("told");
    let (without, _) = PROGRAM.split_once("exports.told").unwrap();
    project.edit("index.js", without);
    project.up();
    settled(&project);

    let mut log = cloud.log(&project);
    client.boto3(PUT, &[&bucket, "a"]).ok();
    let line = log.wait_for("gave up `a` after 3 attempts");
    assert!(line.text.contains("no function"), "{}", line.text);
    let processes: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    assert_eq!((&processes["deadLetters"], &processes["backlog"]), (&json!(1), &json!({})));
    // It can be read still, and not be put again.
    let found = "print(s3.get_bucket_notification_configuration(Bucket=arguments[0])['LambdaFunctionConfigurations'][0]['Id'])";
    assert_eq!(client.boto3(found, &[&bucket]).ok().value(), "all");
    client.boto3(NOTIFY, &[&bucket, &arn]).says("InvalidArgument").says("no function `gone-dev-told`");
    drop(log);
    project.destroy();
}

/// Where the cloud can die between a PUT and the function's answer.
const COMMIT_POINTS: &[&str] = &[
    "store.commit.judged",
    "store.commit.synced",
    "bucket.put.committed",
    "function.delivery.received",
    "dispatch.attempt.counted",
    "function.delivery.answered",
    "dispatch.outcome.committed",
];

/// Keeps what it is told: lines that were printed just before the cloud dies may be lost.
const KEEPS: &str = r#"
const cloud = require("@tandem/cloud");
exports.bucket = new cloud.Bucket("bucket").id;
const kept = new cloud.Bucket("kept", { forceDestroy: true });
exports.kept = kept.id;
exports.told = new cloud.Function("told", async ({ Records: [record] }) => {
    await kept.put(record.s3.object.key, JSON.stringify(record));
}).arn;
"#;

const WAIT: &str = "
s3.get_waiter('object_exists').wait(Bucket=arguments[0], Key=arguments[1], WaiterConfig={'Delay': 1, 'MaxAttempts': 60})
print(json.load(s3.get_object(Bucket=arguments[0], Key=arguments[1])['Body'])['eventName'])
";

#[test]
fn killed_anywhere_between_a_put_and_its_notification_the_function_is_told() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project("killed", &[("index.js", KEEPS)]);
    project.up();
    let (bucket, client) = (project.output("bucket"), cloud.client(&project));
    let kept = project.output("kept");
    notify(&client, &project, &bucket);
    serving.kill();

    for point in COMMIT_POINTS {
        let serving = cloud.serve_until(point);
        let put = client.boto3(PUT, &[&bucket, point]);
        serving.died(point);

        let serving = cloud.serve();
        if client.boto3(HEAD, &[&bucket, point]).code != Some(0) {
            assert_ne!(put.code, Some(0), "{point}: an acknowledged object is gone");
            client.boto3(PUT, &[&bucket, point]).ok();
        }
        let told = client.boto3(WAIT, &[&kept, point]).ok();
        assert_eq!(told.value(), "ObjectCreated:Put", "{point}");
        assert!(serving.terminate().success(), "{point}");
    }
    let _serving = cloud.serve();
    project.destroy();
}
