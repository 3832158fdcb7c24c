//! Timers: `examples/scheduled-tasks`, a cloud that is killed between ticks, and schedules that make no sense.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::harness::{Cloud, Project};

#[test]
fn functions_and_containers_run_on_schedule_also_after_the_cloud_was_killed() {
    let cloud = Cloud::new();
    let project = Project::example(&cloud, "scheduled-tasks");
    let preview = project.tandem(&["preview"]).ok();
    for name in ["heartbeat", "reporting", "cleanup", "digest"] {
        assert!(preview.all().contains(name), "{}", preview.all());
    }
    let serving = cloud.serve();
    cloud.import_busybox();
    project.up();
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));

    let mut log = cloud.log(&project);
    let beat = log.wait_for_times("*** Heartbeat of ", 2);
    assert!(beat.resource.contains("heartbeat"), "{beat:?}");
    let report = log.wait_for("*** Report for ").text;
    let event: Value = serde_json::from_str(report.trim_start_matches("*** Report for ")).unwrap();
    assert_eq!(event["type"], "dev.tandem.timer.tick");
    assert_eq!(event["data"]["timer"], "reporting");
    cloud.observe();

    let shown = project.tandem(&["ps"]).ok().stdout;
    assert!(shown.contains("cron(30 3 ? * MON-FRI *) (Europe/Berlin)"), "{shown}");
    assert!(shown.contains("every 2s"), "{shown}");
    let status: Value = serde_json::from_str(&project.tandem(&["ps", "--json"]).ok().stdout).unwrap();
    let digest =
        status["timers"].as_array().unwrap().iter().find(|t| t["schedule"] == "0 6 * * * (Asia/Tokyo)");
    assert!(digest.unwrap()["next"].as_str().unwrap().ends_with("T21:00:00Z"), "{digest:?}");

    // No tick has two deliveries, and after the kill they go on.
    drop(log);
    serving.kill();
    let _serving = cloud.serve();
    let mut log = cloud.log(&project);
    let seen = log.texts().len();
    log.wait_for_times("*** Heartbeat of ", seen + 5);
    let mut beats: Vec<&str> =
        log.texts().into_iter().filter_map(|text| text.strip_prefix("*** Heartbeat of ")).collect();
    beats.iter_mut().for_each(|beat| *beat = beat.split(',').next().unwrap());
    let all = beats.len();
    beats.sort_unstable();
    beats.dedup();
    assert!(beats.len() + 1 >= all, "one may have been cut off by the kill: {beats:?}");
    drop(log);
    cloud.observe();
    project.destroy();
}

#[test]
fn a_moment_is_past_for_a_new_timer_only() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let program = |date: &str, schedule: &str| {
        format!(
            "const cloud = require('@tandem/cloud');\n\
             cloud.timer.at('once', '{date}', async () => console.log('*** once'));\n\
             cloud.timer.cron('often', '{schedule}', async () => {{}}, {{ timeZone: 'Europe/Berlin' }});\n"
        )
    };
    let soon = SystemTime::now() + Duration::from_secs(8);
    let soon = jiff::Timestamp::try_from(soon).unwrap().to_string();
    let project = cloud.project("shop", &[("index.js", &program(&soon, "@daily"))]);
    project.up();
    cloud.log(&project).wait_for("*** once");
    assert!(project.tandem(&["preview"]).ok().all().contains("Nothing to do"));
    let shown = project.tandem(&["ps"]).ok().stdout;
    assert!(shown.contains("never"), "{shown}");

    // Errors have the place, already in the preview.
    for (date, schedule, code, says) in [
        ("2020-01-01T00:00:00Z", "@daily", "E0675", "lies in the past"),
        (&*soon, "0 0 30 2 *", "E0671", "never comes true"),
        (&*soon, "61 * * * *", "E0670", "the minute is 0 to 59, not `61`"),
        ("tomorrow", "@daily", "E0674", "is not a moment"),
    ] {
        project.edit("index.js", &program(date, schedule));
        let refused = project.tandem(&["preview"]).failed(code).says(says);
        assert!(refused.all().contains("index.js:"), "{}", refused.all());
        project.tandem(&["up", "--yes"]).failed(code);
    }
    project.destroy();
}
