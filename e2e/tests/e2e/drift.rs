//! The state and the cloud have drifted apart: each command says so, and where, and `tandem refresh` leads on.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::harness::{Cloud, Project};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
bucket.onPut("onPut", async (args) => console.log(`saw ${args.key}`));
exports.bucket = bucket.id;
"#;

fn project(cloud: &Cloud) -> Project<'_> {
    cloud.project("drift", &[("index.js", PROGRAM)])
}

fn state(cloud: &Cloud) -> PathBuf {
    cloud.home().join("stacks/drift/dev/state.json")
}

fn journal(cloud: &Cloud) -> PathBuf {
    state(cloud).with_file_name("journal.ndjson")
}

#[track_caller]
fn works(cloud: &Cloud, project: &Project<'_>, key: &str) {
    let preview = project.tandem(&["preview"]).ok();
    assert!(preview.stdout.contains("Nothing to do"), "{}", preview.all());
    let bucket = project.output("bucket");
    const PUT: &str = "s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x')";
    cloud.client(project).boto3(PUT, &[&bucket, key]).ok();
    cloud.log(project).wait_for(&format!("saw {key}"));
}

#[test]
fn a_wiped_cloud_is_said_and_a_refresh_leads_on() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = project(&cloud);
    project.up();
    works(&cloud, &project, "before");
    assert!(serving.terminate().success());
    fs::remove_dir_all(cloud.home().join("data")).unwrap();

    let serving = cloud.serve();
    for arguments in [&["preview"][..], &["up", "--yes"], &["destroy", "--yes", "--force"]] {
        project.tandem(arguments).failed("E0207").says("tandem refresh");
    }
    // Nobody can be asked here, and it is not done unasked.
    project.tandem(&["refresh"]).failed("E0130").says("bucket/bucket");
    project.tandem(&["up", "--yes"]).failed("E0207");
    let refreshed = project.tandem(&["refresh", "--yes"]).ok();
    for gone in ["bucket/bucket", "function/onPut", "subscription/"] {
        assert!(refreshed.stderr.contains(gone), "{}", refreshed.all());
    }
    project.up();
    works(&cloud, &project, "after");
    project.destroy();
    assert!(serving.terminate().success());

    // After a destroy, another cloud is as good as this one.
    fs::remove_dir_all(cloud.home().join("data")).unwrap();
    let _serving = cloud.serve();
    project.up();
    project.destroy();
}

#[test]
fn a_wiped_cloud_can_be_destroyed_after_a_refresh() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = project(&cloud);
    project.up();
    assert!(serving.terminate().success());
    fs::remove_dir_all(cloud.home().join("data")).unwrap();
    let _serving = cloud.serve();
    project.tandem(&["refresh", "--yes"]).ok();
    project.destroy().says("nothing to destroy");
    project.tandem(&["stack", "rm"]).ok();
}

#[test]
fn a_state_that_was_deleted_is_found_again_with_everything_in_it() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud);
    project.up();
    works(&cloud, &project, "before");
    // What clients made is nobody's drift.
    cloud.client(&project).boto3("s3.create_bucket(Bucket='drift-made-by-a-client')", &[]).ok();
    works(&cloud, &project, "beside");
    fs::remove_dir_all(state(&cloud).parent().unwrap()).unwrap();
    for arguments in [&["preview"][..], &["up", "--yes"], &["destroy", "--yes", "--force"]] {
        project.tandem(arguments).failed("E0212").says("bucket/bucket").says("tandem refresh");
    }
    let found = project.tandem(&["refresh", "--yes", "--json"]).ok();
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    let drift = found["drift"].as_array().unwrap();
    assert_eq!(drift.len(), 3, "{found:#}");
    assert!(drift.iter().all(|one| one["drift"] == "found"), "{found:#}");
    project.up();
    works(&cloud, &project, "after");
    let again = project.tandem(&["refresh"]).ok();
    assert!(again.stderr.contains("as the cloud is"), "{}", again.all());
    project.destroy();
}

/// Deletes the line that contains this.
fn without(text: &str, line: &str) -> String {
    let kept: Vec<&str> = text.lines().filter(|l| !l.contains(line)).collect();
    assert!(kept.len() < text.lines().count(), "no `{line}` in:\n{text}");
    kept.join("\n")
}

/// Where the n-th line begins that contains this, from 1.
fn line_of(text: &str, part: &str) -> usize {
    1 + text.lines().position(|line| line.contains(part)).unwrap()
}

#[test]
fn a_state_that_was_edited_says_where_and_is_not_used() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud);
    project.up();
    let good = fs::read_to_string(state(&cloud)).unwrap();
    let id = project.output("bucket");

    let said = |text: &str| {
        fs::write(state(&cloud), text).unwrap();
        for arguments in [&["preview"][..], &["up", "--yes"], &["destroy", "--yes"], &["refresh", "--yes"]] {
            let refused = project.tandem(arguments).failed("E0203");
            assert!(refused.stderr.contains("state.json"), "{}", refused.all());
        }
        assert_eq!(
            fs::read_to_string(state(&cloud)).unwrap(),
            text,
            "a state that is not read is not written"
        );
        project.tandem(&["up", "--yes"]).failed("E0203").stderr
    };
    // A comma is missing.
    let broken = good.replacen("\"version\": 1,", "\"version\": 1", 1);
    let stderr = said(&broken);
    let line = line_of(&broken, "\"stack\"");
    assert!(stderr.contains(&format!("damaged at line {line}")) && stderr.contains("column"), "{stderr}");
    // It ends too early.
    let cut = &good[..good.len() / 2];
    let stderr = said(cut);
    assert!(stderr.contains(&format!("damaged at line {}", cut.lines().count())), "{stderr}");
    // A urn that is none.
    let unknown = good.replacen(
        "urn:tandem:drift:dev:bucket:bucket\": {",
        "urn:tandem:drift:dev:teapot:bucket\": {",
        1,
    );
    assert_ne!(unknown, good);
    let stderr = said(&unknown);
    assert!(stderr.contains("teapot"), "{stderr}");
    // A field is missing.
    let stderr = said(
        &without(&good, "\"resources\": {").replace("\"stack\": \"drift/dev\",", "\"stack\": \"drift/dev\""),
    );
    assert!(stderr.contains("damaged at line"), "{stderr}");
    let mut value: Value = serde_json::from_str(&good).unwrap();
    value["resources"]["urn:tandem:drift:dev:bucket:bucket"].as_object_mut().unwrap().remove("id");
    let stderr = said(&format!("{value:#}\n"));
    assert!(stderr.contains("missing field `id`"), "{stderr}");
    // Nothing at all, which is not what was saved.
    let stderr = said("");
    assert!(stderr.contains("state.json"), "{stderr}");

    // An id that is another one: the cloud knows better.
    fs::write(state(&cloud), good.replace(&id, "bucket-0000000")).unwrap();
    project.tandem(&["up", "--yes"]).failed("E0212").says(&id);
    let refreshed = project.tandem(&["refresh", "--yes"]).ok();
    assert!(
        refreshed.stderr.contains("bucket-0000000") && refreshed.stderr.contains(&id),
        "{}",
        refreshed.all()
    );
    project.up();
    works(&cloud, &project, "mended");

    // Inputs that the cloud has otherwise.
    let good = fs::read_to_string(state(&cloud)).unwrap();
    let mut value: Value = serde_json::from_str(&good).unwrap();
    value["resources"]["urn:tandem:drift:dev:function:onPut"]["inputs"]["handler"] = "another".into();
    fs::write(state(&cloud), format!("{value:#}\n")).unwrap();
    project.tandem(&["refresh", "--yes"]).ok().says("handler");
    works(&cloud, &project, "again");

    // Something that cannot be read.
    fs::rename(state(&cloud), state(&cloud).with_extension("kept")).unwrap();
    fs::create_dir(state(&cloud)).unwrap();
    project.tandem(&["up", "--yes"]).failed("E0202").says("state.json");
    fs::remove_dir(state(&cloud)).unwrap();
    fs::rename(state(&cloud).with_extension("kept"), state(&cloud)).unwrap();
    project.destroy();
}

#[test]
fn a_journal_that_was_edited_says_where_and_one_that_was_cut_or_deleted_loses_nothing() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let project = project(&cloud);
    let interrupted = |point: &str| {
        let mut command = project.command();
        let status = command.args(["up", "--yes"]).env("TANDEM_FAILPOINT", point).status().unwrap();
        assert!(!status.success(), "{point} was not met");
    };
    // Edited: it says where.
    interrupted("engine.target.applied");
    let good = fs::read_to_string(journal(&cloud)).unwrap();
    fs::write(journal(&cloud), good.replacen("\"begin\"", "\"began\"", 1)).unwrap();
    let refused = project.tandem(&["up", "--yes"]).failed("E0203");
    assert!(
        refused.stderr.contains("journal.ndjson") && refused.stderr.contains("at line 1"),
        "{}",
        refused.all()
    );
    // Cut in the middle of its last line, as a crash leaves it: what was made is found all the same.
    fs::write(journal(&cloud), &good[..good.len() - 20]).unwrap();
    let ran = project.tandem(&["up", "--yes"]);
    if ran.code != Some(0) {
        ran.failed("E0212");
        project.tandem(&["refresh", "--yes"]).ok();
        project.up();
    }
    works(&cloud, &project, "cut");
    project.destroy();

    // Deleted: what was begun is found in the cloud.
    interrupted("engine.target.applied@2");
    fs::remove_file(journal(&cloud)).unwrap();
    let ran = project.tandem(&["up", "--yes"]);
    ran.failed("E0212");
    project.tandem(&["refresh", "--yes"]).ok();
    project.up();
    works(&cloud, &project, "deleted");
    project.destroy();
}
