//! The disk fails under the bodies of objects: that upload fails, nothing that was acknowledged is lost, no part of a
//! body stays, and the cloud goes on.

use std::{fs, time::Instant};

use crate::harness::{Cloud, Met, PATIENCE, Project, Ran};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key} of ${args.size}`));
exports.bucket = bucket.id;
"#;

/// Where a body's file is written and synced.
const BODY_POINTS: &[&str] = &["blob.file.creating", "blob.file.writing", "blob.file.written"];

/// Told once, and not tried again by the client.
const PUT: &str = "
s3 = boto3.client('s3', config=Config(retries={'total_max_attempts': 1}))
try:
    s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=arguments[2].encode() * (3 << 20))
    print('ok')
except ClientError as error:
    print(error.response['ResponseMetadata']['HTTPStatusCode'], error.response['Error']['Code'])
";

const STARTS_WITH: &str = "
body = s3.get_object(Bucket=arguments[0], Key=arguments[1])['Body'].read()
print(len(body), chr(body[0]), chr(body[-1]))
";

/// The first try of a part fails; the upload goes on with the second.
const PARTS: &str = "
s3 = boto3.client('s3', config=Config(retries={'total_max_attempts': 1}))
upload = s3.create_multipart_upload(Bucket=arguments[0], Key='parts')['UploadId']
named = dict(Bucket=arguments[0], Key='parts', UploadId=upload)
def part(number):
    return s3.upload_part(PartNumber=number, Body=b'p' * (5 << 20), **named)['ETag']
try:
    part(1)
    print('the first part did not fail')
except ClientError:
    pass
parts = [{'PartNumber': n, 'ETag': part(n)} for n in (1, 2)]
s3.complete_multipart_upload(MultipartUpload={'Parts': parts}, **named)
print(s3.head_object(Bucket=arguments[0], Key='parts')['ContentLength'])
";

fn project(cloud: &Cloud) -> Project<'_> {
    cloud.project("bodies", &[("index.js", PROGRAM)])
}

fn bodies(cloud: &Cloud) -> usize {
    fs::read_dir(cloud.home().join("data/blobs")).unwrap().count()
}

/// A body is removed after its answer.
#[track_caller]
fn wait_for_bodies(cloud: &Cloud, count: usize, why: &str) {
    let deadline = Instant::now() + PATIENCE;
    while bodies(cloud) != count {
        assert!(Instant::now() < deadline, "{why}: {} bodies instead of {count}", bodies(cloud));
        std::thread::yield_now();
    }
}

#[test]
fn a_body_that_cannot_be_written_or_synced_fails_its_upload_and_nothing_else() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = project(&cloud);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    assert_eq!(client.boto3(PUT, &[&bucket, "kept", "k"]).ok().value(), "ok");
    assert_eq!(bodies(&cloud), 1);
    assert!(serving.terminate().success());
    for point in BODY_POINTS {
        // A full disk is told so that clients try again; a broken one as a fault of ours.
        for (error, told) in [("eio", "500 InternalError"), ("edquot", "503 ServiceUnavailable")] {
            let met = Met::new(cloud.scratch(), &format!("{point}-{error}"));
            let armed = format!("{point}:{error}");
            let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &armed), met.variable()]);
            assert_eq!(client.boto3(PUT, &[&bucket, "kept", "n"]).ok().value(), told, "{armed}");
            assert_eq!(client.boto3(STARTS_WITH, &[&bucket, "kept"]).ok().value(), "3145728 k k", "{armed}");
            wait_for_bodies(&cloud, 1, &armed);
            assert_eq!(client.boto3(PUT, &[&bucket, "kept", "k"]).ok().value(), "ok", "{armed}");
            wait_for_bodies(&cloud, 1, &armed);
            assert!(met.count(point) > 1, "{armed}: it was not met, or not tried again");
            assert!(serving.is_running(), "{armed}");
            assert!(serving.terminate().success(), "{armed}");
        }
        let armed = format!("{point}:eio");
        let serving = cloud.serve_with(&[("TANDEM_FAILPOINT", &armed)]);
        let parts = client.boto3(PARTS, &[&bucket]).ok();
        assert_eq!(parts.value(), (10 << 20).to_string(), "{armed}");
        client.boto3("s3.delete_object(Bucket=arguments[0], Key='parts')", &[&bucket]).ok();
        wait_for_bodies(&cloud, 1, &armed);
        assert!(serving.terminate().success(), "{armed}");
    }
    let _serving = cloud.serve();
    assert_eq!(client.boto3(STARTS_WITH, &[&bucket, "kept"]).ok().value(), "3145728 k k");
    assert_eq!(bodies(&cloud), 1);
    // One event for each that was acknowledged, and none for those that failed.
    let mut log = cloud.log(&project);
    log.wait_for_times("saw parts of", BODY_POINTS.len());
    let acknowledged = 1 + 2 * BODY_POINTS.len();
    log.wait_for_times("saw kept of", acknowledged);
    assert_eq!(log.texts().iter().filter(|text| text.contains("saw kept of")).count(), acknowledged);
    drop(log);
    project.destroy();
}

/// A folder is shared by all bodies, and the kernel tells of a failed sync once: going on would acknowledge bodies whose
/// names are lost.
#[test]
fn a_folder_of_bodies_that_cannot_be_synced_stops_the_cloud_with_the_reason_and_the_next_start_has_all() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = project(&cloud);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    assert_eq!(client.boto3(PUT, &[&bucket, "kept", "k"]).ok().value(), "ok");
    assert!(serving.terminate().success());
    // In the background, where its last words are kept.
    let mut background = cloud.command();
    background.args(["serve", "--detach"]).env("TANDEM_FAILPOINT", "blob.folder.syncing:eio");
    Ran::run(&mut background).ok();
    assert_ne!(client.boto3(PUT, &[&bucket, "kept", "n"]).code, Some(0), "it was answered");
    let deadline = Instant::now() + PATIENCE;
    while cloud.processes().iter().any(|process| process.contains("serve")) {
        assert!(Instant::now() < deadline, "it goes on: {:#?}", cloud.processes());
        std::thread::yield_now();
    }
    let log = fs::read_to_string(cloud.home().join("serve.log")).unwrap();
    assert!(log.contains("cannot sync the folder of blobs"), "{log}");
    let _serving = cloud.serve();
    assert_eq!(client.boto3(STARTS_WITH, &[&bucket, "kept"]).ok().value(), "3145728 k k");
    wait_for_bodies(&cloud, 1, "what was not acknowledged is swept");
    project.destroy();
}
