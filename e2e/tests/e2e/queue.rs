//! Runs that wait for room, and the cloud killed meanwhile.

use std::thread;

use serde_json::Value;

use crate::harness::{Cloud, Gate};

/// The keys behind the runs that have not ended, in the order in which they were accepted, with their states.
fn queue(processes: &str) -> Vec<(String, String)> {
    let processes: Value = serde_json::from_str(processes).unwrap();
    let mut runs: Vec<(String, String, String)> = processes["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            let field = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
            (field("accepted"), field("id"), field("state"))
        })
        .filter(|(_, _, state)| state != "ended")
        .collect();
    runs.sort();
    runs.into_iter().map(|(_, id, state)| (id, state)).collect()
}

#[test]
fn runs_that_wait_for_room_keep_their_order_when_the_cloud_is_killed() {
    let cloud = Cloud::new();
    let mut gate = Gate::shut();
    let serving = cloud.serve();
    cloud.import_busybox();
    // A run sets aside every processor, so that one runs at a time.
    let cores = thread::available_parallelism().unwrap();
    let stop = gate.command("$KEY");
    let program = format!(
        r#"
const cloud = require("@tandem/cloud");
const bucket = new cloud.Bucket("bucket");
const job = new cloud.Task("job", {{
    image: "docker.io/library/busybox",
    command: ["sh", "-c", "{stop}; echo end $KEY"],
    cpu: {cores},
    memoryReservation: 16,
}});
bucket.onPut("onPut", async (args) => {{
    await job.run({{ environment: {{ KEY: args.key }} }});
    console.log(`accepted ${{args.key}}`);
}});
exports.bucket = bucket.id;
"#
    );
    let project = cloud.project("queue", &[("index.js", &program)]);
    project.up();
    let bucket = project.output("bucket");
    let client = cloud.client(&project);
    let put = |key: &str| {
        client.boto3("s3.put_object(Bucket=arguments[0], Key=arguments[1], Body=b'x')", &[&bucket, key]).ok()
    };

    let mut log = cloud.log(&project);
    for key in ["a", "b", "c", "d"] {
        put(key);
        log.wait_for(&format!("accepted {key}"));
    }
    drop(log);
    let mut visit = gate.wait_for("a");
    cloud.observe();
    let before = queue(&project.tandem(&["ps", "--json"]).ok().stdout);
    assert_eq!(
        before.iter().map(|(_, state)| &**state).collect::<Vec<_>>(),
        ["running", "queued", "queued", "queued"]
    );
    serving.kill();

    let _serving = cloud.serve();
    // What is accepted after the restart stands behind what waited before it.
    put("e");
    cloud.log(&project).wait_for("accepted e");
    let after = queue(&project.tandem(&["ps", "--json"]).ok().stdout);
    let ids = |queue: &[(String, String)]| queue.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&after)[..4], ids(&before), "the queue is another one");
    assert_eq!(after[0].1, "running", "the container went on, and holds its room");
    for next in ["b", "c", "d", "e"] {
        visit.release();
        visit = gate.wait_for(next);
    }
    visit.release();
    cloud.log(&project).wait_for("end e");
    for key in ["a", "b", "c", "d", "e"] {
        assert_eq!(gate.count(key), 1, "{key}: started again");
    }
    project.destroy();
}
