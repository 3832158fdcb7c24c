//! What many invocations leave behind: nothing.

use std::fs;

use serde_json::json;
use tandem_cloud::function::Settings;

use crate::{Run, cloud::Cloud};

/// Invocations after which memory is as large as it gets, and those after which it must not have grown.
/// `cargo xtask bench memory` does the same with ten times as many, over the wire.
const WARM: usize = 1_000;
const MORE: usize = 4_000;
/// What an allocator may add without a leak: 500 bytes an invocation would be twice as much.
const SLACK: u64 = 1 << 20;

/// Touches what is kept per invocation: timers, promises, rejections, lines, calls to the cloud.
const PROGRAM: &str = r#"
    const cloud = require("@tandem/cloud");
    const bucket = new cloud.Bucket("b");
    new cloud.Function("f", async (n) => {
        console.log(`invocation ${n}`);
        const late = setTimeout(() => {}, 60000);
        clearTimeout(late);
        await new Promise((r) => setTimeout(r, 0));
        await bucket.delete("x");
        if (n % 10 === 0) Promise.reject(new Error("nobody listens"));
        return { n, text: "x".repeat(100) };
    });
"#;

/// The resident memory of a process, in bytes.
fn resident(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    of("Rss:")
}

async fn invoke(cloud: &Cloud, from: usize, to: usize) {
    for n in from..to {
        cloud.invoke("f", &format!("r{n}"), json!(n)).await.unwrap();
        cloud.log.clear();
        cloud.calls.0.lock().unwrap().clear();
    }
}

pub(crate) const TESTS: &[(&str, Run)] =
    &[("memory::of_worker_and_cloud_stays_flat_over_thousands_of_invocations", |test| {
        test.run(Settings { spares: 0, ..Settings::default() }, |cloud| async move {
            let outputs = serde_json::from_value(json!({ "id": "b-1" })).unwrap();
            cloud.resources.put(tandem_model::Recorded {
                urn: "urn:tandem:shop:dev:bucket:b".parse().unwrap(),
                id: tandem_model::PhysicalId("b-1".to_owned()),
                inputs: tandem_model::resource::Properties::new(),
                outputs,
                depends_on: Vec::new(),
            });
            cloud.deploy("f", PROGRAM, json!({})).await;
            invoke(&cloud, 0, WARM).await;
            let worker = cloud.functions.status()[0].workers[0].pid.unwrap();
            let cloud_itself = std::process::id().cast_signed();
            let before = [worker, cloud_itself].map(resident);
            invoke(&cloud, WARM, WARM + MORE).await;
            assert_eq!(cloud.functions.status()[0].workers[0].pid, Some(worker), "one worker served all");
            let after = [worker, cloud_itself].map(resident);
            for (name, before, after) in [("worker", before[0], after[0]), ("cloud", before[1], after[1])] {
                assert!(after < before + SLACK, "the {name} grew from {before} to {after} bytes");
            }
        })
    })];
