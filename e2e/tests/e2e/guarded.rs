//! Data is not lost by a plan that nobody meant so: buckets that hold something are deleted and replaced only when that
//! is asked for.

use crate::harness::{Cloud, Project};

fn program(moved: &str, force: bool) -> String {
    format!(
        r#"
const cloud = require("@tandem/cloud");
const kept = new cloud.Bucket("kept");
const moved = new cloud.Bucket("moved", {{ bucketName: "{moved}", forceDestroy: {force} }});
exports.kept = kept.id;
"#
    )
}

fn project(cloud: &Cloud) -> Project<'_> {
    let project = cloud.project("guarded", &[("index.js", &program("guarded-a", false))]);
    project.up();
    project
}

const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x' * 2048)";
const COUNT: &str = "print(s3.list_objects_v2(Bucket=arguments[0])['KeyCount'])";
/// Begins an upload, brings one part, and prints the upload's id.
const UPLOAD: &str = "
upload = s3.create_multipart_upload(Bucket=arguments[0], Key='large')['UploadId']
s3.upload_part(Bucket=arguments[0], Key='large', UploadId=upload, PartNumber=1, Body=b'x' * 4096)
print(upload)
";
const COMPLETE: &str = "
upload = arguments[1]
parts = s3.list_parts(Bucket=arguments[0], Key='large', UploadId=upload)['Parts']
parts = [{'PartNumber': p['PartNumber'], 'ETag': p['ETag']} for p in parts]
s3.complete_multipart_upload(Bucket=arguments[0], Key='large', UploadId=upload, MultipartUpload={'Parts': parts})
";

#[test]
fn a_bucket_that_holds_something_is_deleted_and_replaced_only_when_asked() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud);
    let client = cloud.client(&project);
    client.boto3(PUT, &["guarded-a", "one"]).ok();
    client.boto3(PUT, &["guarded-a", "two"]).ok();

    // A destroy says how much there is, and does nothing: the empty bucket stays, too.
    let holds = "bucket/moved holds 2 objects (4 KiB)";
    project.tandem(&["destroy", "--yes"]).failed("E0206").says(holds).says("--force");
    assert_eq!(client.boto3("print(len(s3.list_buckets()['Buckets']))", &[]).ok().value(), "2");

    // A replacement deletes, too.
    project.edit("index.js", &program("guarded-b", false));
    let preview = project.tandem(&["preview"]).ok();
    assert!(preview.stdout.contains("replace") && preview.stdout.contains(holds), "{}", preview.all());
    project.tandem(&["up", "--yes"]).failed("E0206").says(holds);
    assert_eq!(client.boto3(COUNT, &["guarded-a"]).ok().value(), "2");

    // Taken out of the program, it is deleted.
    project.edit("index.js", "const cloud = require('@tandem/cloud'); new cloud.Bucket('kept');\n");
    project.tandem(&["up", "--yes"]).failed("E0206").says(holds);

    // Asked for by the program; what goes is told all the same.
    project.edit("index.js", &program("guarded-b", true));
    let replaced = project.up();
    assert!(replaced.stderr.contains(holds), "{}", replaced.all());
    client.boto3(COUNT, &["guarded-b"]).ok();
    client.boto3(PUT, &["guarded-b", "three"]).ok();
    let kept = project.output("kept");
    client.boto3(PUT, &[&kept, "four"]).ok();
    project.tandem(&["destroy", "--yes"]).failed("E0206").says("bucket/kept holds 1 object");
    let destroyed = project.destroy();
    for lost in ["bucket/kept holds 1 object", "bucket/moved holds 1 object"] {
        assert!(destroyed.stderr.contains(lost), "{}", destroyed.all());
    }
}

#[test]
fn an_upload_under_way_is_data_too() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud);
    let client = cloud.client(&project);
    let upload = client.boto3(UPLOAD, &["guarded-a"]).ok().value().to_owned();
    let holds = "bucket/moved holds 1 unfinished upload (4 KiB)";
    project.tandem(&["destroy", "--yes"]).failed("E0206").says(holds);
    project.edit("index.js", &program("guarded-b", false));
    project.tandem(&["up", "--yes"]).failed("E0206").says(holds);
    // Nothing was done to it.
    client.boto3(COMPLETE, &["guarded-a", &upload]).ok();
    assert_eq!(client.boto3(COUNT, &["guarded-a"]).ok().value(), "1");
    project.destroy();
}

/// A destroy that was killed half-way is held to the same rule: what is left is still guarded.
#[test]
fn a_destroy_that_was_interrupted_guards_what_is_left() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud);
    // A subscription is deleted before what it connects.
    project.edit(
        "index.js",
        &format!("{}kept.onPut('onPut', async () => {{}});\n", program("guarded-a", false)),
    );
    project.up();
    let (client, kept) = (cloud.client(&project), project.output("kept"));
    let mut destroying = project.command();
    destroying.args(["destroy", "--yes"]).env("TANDEM_FAILPOINT", "engine.journal.done");
    assert!(!destroying.status().unwrap().success());
    client.boto3(PUT, &[&kept, "late"]).ok();
    project.tandem(&["destroy", "--yes"]).failed("E0206").says("bucket/kept holds 1 object");
    assert_eq!(client.boto3(COUNT, &[&kept]).ok().value(), "1");
    let rest = project.tandem(&["preview"]).ok();
    assert!(rest.stdout.contains("create  subscription/onPut"), "{}", rest.all());
    project.destroy();
}
