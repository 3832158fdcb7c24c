//! The log of a function that was deleted is kept for days, and then goes.

use std::{
    fs::{self, File},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use crate::harness::{Cloud, PATIENCE};

const PROGRAM: &str = r#"
const cloud = require("@tandem/cloud");
new cloud.Function("talk", async () => console.log("words"));
"#;

/// Looks until it holds: a sweep is nobody's request, so nothing tells of its end.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn the_log_of_a_deleted_function_is_readable_for_days_and_then_removed() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    let project = cloud.project("gone", &[("index.js", PROGRAM)]);
    project.up();
    project.tandem(&["invoke", "talk"]).ok();
    cloud.log(&project).wait_for("words");
    project.destroy();
    assert!(serving.terminate().success());

    // The first start after it notes that the function is gone.
    let serving = cloud.serve();
    let logs = cloud.home().join("logs");
    let folder = logs.join("gone/dev/function-talk");
    let note = folder.join("deleted");
    until("the note", || fs::read_to_string(&note).is_ok_and(|text| text.ends_with('Z')));
    let kept = project.tandem(&["logs", "talk"]).ok();
    assert!(kept.stdout.contains("words"), "{}", kept.all());
    assert!(serving.terminate().success());

    let then = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    let date = Command::new("date").args(["-u", "-d", "8 days ago", "+%FT%TZ"]).output().unwrap();
    fs::write(&note, String::from_utf8(date.stdout).unwrap().trim()).unwrap();
    File::options().append(true).open(folder.join("1.ndjson")).unwrap().set_modified(then).unwrap();
    let _serving = cloud.serve();
    // With the folders that it leaves empty.
    until("the removal", || fs::read_dir(&logs).unwrap().count() == 0);
}
