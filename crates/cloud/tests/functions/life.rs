//! From zero to many and back.

use std::time::Duration;

use serde_json::json;
use tandem_cloud::function::{InvokeError, Settings, WorkerState};

use crate::{
    Run,
    cloud::{answer, is_alive, urn},
};

/// The parent of a worker.
fn spawner_of(worker: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    parent.trim().parse().unwrap()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

pub(crate) const TESTS: &[(&str, Run)] = &[
    ("life::a_handler_answers_from_a_worker_that_did_not_exist", |test| {
        test.run(Settings { spares: 0, ..Settings::default() }, |cloud| async move {
            let source = r#"
                const cloud = require("@tandem/cloud");
                let served = 0;
                new cloud.Function("hello", async (event, context) => {
                    console.log(`hello ${event.name}`);
                    served += 1;
                    return { served, name: process.env.AWS_LAMBDA_FUNCTION_NAME, key: process.env.AWS_ACCESS_KEY_ID, own: process.env.OWN };
                });
            "#;
            cloud.deploy("hello", source, json!({ "environment": { "OWN": "mine" } })).await;
            assert!(cloud.functions.status()[0].workers.is_empty());
            let first = cloud.invoke("hello", "r1", json!({ "name": "Ada" })).await.unwrap();
            assert!(first.cold);
            assert_eq!(answer(&first), json!({ "served": 1, "name": "hello-1", "key": "hello", "own": "mine" }));
            assert_eq!(cloud.log.of("r1"), ["hello Ada"]);
            assert_eq!(first.log_tail, ["hello Ada"]);
            let second = cloud.invoke("hello", "r2", json!({ "name": "Bob" })).await.unwrap();
            assert!(!second.cold);
            assert_eq!(answer(&second)["served"], 2);
            assert_eq!(cloud.functions.status()[0].workers.len(), 1);
        })
    }),
    ("life::idle_workers_and_spares_end_by_themselves", |test| {
        let settings = Settings { idle: Duration::from_millis(300), spares: 1, ..Settings::default() };
        test.run(settings, |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async () => 1)"#;
            cloud.deploy("f", source, json!({})).await;
            cloud.invoke("f", "r1", json!({})).await.unwrap();
            cloud.until("the spare", || !cloud.functions.spares().is_empty()).await;
            cloud
                .until("the end of all workers", || {
                    cloud.functions.spares().is_empty() && cloud.functions.status()[0].workers.is_empty()
                })
                .await;
        })
    }),
    ("life::a_new_version_serves_the_next_request_and_the_old_finishes_its_own", |test| {
        test.run(Settings { spares: 0, ..Settings::default() }, |cloud| async move {
            let source = |text: &str| {
                format!(
                    r#"new (require("@tandem/cloud").Function)("f", async (e) => {{
                        await new Promise(r => setTimeout(r, e.wait)); return "{text}";
                    }})"#
                )
            };
            cloud.deploy("f", &source("old"), json!({})).await;
            let slow = {
                let functions = cloud.functions.clone();
                tokio::spawn(async move {
                    let payload = json!({ "wait": 500 }).to_string().into();
                    let request_id = "slow".to_owned();
                    let invocation =
                        tandem_cloud::function::Invocation { request_id, payload, traceparent: None };
                    functions.invoke(&urn("f"), invocation).await
                })
            };
            cloud
                .until("the request in its worker", || {
                    cloud.functions.status()[0].workers.iter().any(|w| w.state == WorkerState::Busy)
                })
                .await;
            cloud.deploy("f", &source("new"), json!({})).await;
            let new = cloud.invoke("f", "r2", json!({ "wait": 0 })).await.unwrap();
            assert_eq!(answer(&new), "new");
            let old = slow.await.unwrap().unwrap();
            assert_eq!(answer(&old), "old");
            assert_ne!(old.version, new.version);
        })
    }),
    ("life::a_burst_is_served_in_full_by_few_workers", |test| {
        let settings = Settings { at_once: 3, at_most: 3, spares: 0, ..Settings::default() };
        test.run(settings, |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async (n) => n * 2)"#;
            cloud.deploy("f", source, json!({})).await;
            let ids: Vec<_> = (0..50).map(|n| format!("r{n}")).collect();
            let requests = ids.iter().enumerate().map(|(n, id)| cloud.invoke("f", id, json!(n)));
            let answers = futures::future::join_all(requests).await;
            for (n, answered) in answers.into_iter().enumerate() {
                assert_eq!(answer(&answered.unwrap()), 2 * n);
            }
            assert!(cloud.functions.status()[0].workers.len() <= 3);
            assert_eq!(cloud.functions.status()[0].invocations, 50);
        })
    }),
    ("life::calls_of_a_program_reach_the_cloud_with_their_request_and_ordinal", |test| {
        test.run(Settings::default(), |cloud| async move {
            let source = r#"
                const cloud = require("@tandem/cloud");
                const bucket = new cloud.Bucket("b");
                new cloud.Function("f", async () => {
                    await Promise.all([bucket.delete("x"), bucket.delete("y")]);
                });
            "#;
            let outputs = serde_json::from_value(json!({ "id": "b-1" })).unwrap();
            cloud.resources.put(tandem_model::Recorded {
                urn: "urn:tandem:shop:dev:bucket:b".parse().unwrap(),
                id: tandem_model::PhysicalId("b-1".to_owned()),
                inputs: tandem_model::resource::Properties::new(),
                outputs,
                depends_on: Vec::new(),
            });
            cloud.deploy("f", source, json!({})).await;
            cloud.invoke("f", "r1", json!({})).await.unwrap();
            let calls = cloud.calls.0.lock().unwrap();
            let mut seen: Vec<_> = calls
                .iter()
                .map(|(c, key)| (c.ordinal, key.as_str().unwrap(), &c.of, c.request.as_str()))
                .collect();
            // They are answered side by side, in any order, but numbered as they were made.
            seen.sort();
            assert_eq!(seen, [(0, "x", &urn("f"), "r1"), (1, "y", &urn("f"), "r1")]);
        })
    }),
    ("life::a_spawner_that_is_killed_is_replaced_and_its_workers_with_it", |test| {
        test.run(Settings { spares: 1, ..Settings::default() }, |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async (e) => {
                await new Promise(r => setTimeout(r, e.wait)); return "well"; })"#;
            cloud.deploy("f", source, json!({ "timeout": 900 })).await;
            for round in 0..3 {
                let functions = cloud.functions.clone();
                let running = tokio::spawn(async move {
                    let payload = json!({ "wait": 600_000 }).to_string().into();
                    let request_id = format!("lost {round}");
                    let invocation =
                        tandem_cloud::function::Invocation { request_id, payload, traceparent: None };
                    functions.invoke(&urn("f"), invocation).await
                });
                cloud
                    .until("the request in its worker", || {
                        cloud.functions.status()[0].workers.iter().any(|w| w.state == WorkerState::Busy)
                    })
                    .await;
                let worker = cloud.functions.status()[0].workers[0].pid.unwrap();
                let killed = spawner_of(worker);
                kill(killed);
                let lost = running.await.unwrap().unwrap_err();
                assert!(matches!(lost, InvokeError::WorkerLost { .. }), "{lost}");
                // Asked for in the very moment in which there is no spawner.
                let next = cloud.invoke("f", "next", json!({ "wait": 0 })).await.unwrap();
                assert!(next.cold && answer(&next) == "well");
                cloud.until("the old worker's end", || !is_alive(worker)).await;
                assert_ne!(spawner_of(cloud.functions.status()[0].workers[0].pid.unwrap()), killed);
            }
        })
    }),
    ("life::closing_the_cloud_ends_workers_that_never_listen", |test| {
        test.run(Settings { spares: 0, ..Settings::default() }, |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", () => { for (;;); })"#;
            cloud.deploy("f", source, json!({ "timeout": 900 })).await;
            let functions = cloud.functions.clone();
            let stuck = tokio::spawn(async move {
                let invocation = tandem_cloud::function::Invocation {
                    request_id: "r".to_owned(),
                    payload: "null".into(),
                    traceparent: None,
                };
                functions.invoke(&urn("f"), invocation).await
            });
            cloud
                .until("the request in its worker", || {
                    cloud.functions.status()[0].workers.iter().any(|w| w.state == WorkerState::Busy)
                })
                .await;
            let pid = cloud.functions.status()[0].workers[0].pid.unwrap();
            cloud.functions.close(Duration::from_millis(100)).await;
            assert!(!is_alive(pid));
            assert!(stuck.await.unwrap().is_err());
        })
    }),
];
