//! Many requests at once.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tandem_cloud::function::{InvokeError, Settings, WorkerState};

use crate::{
    Run,
    cloud::{Cloud, answer},
};

const MANY: usize = 1000;

fn few(at_once: usize, at_most: usize) -> Settings {
    Settings { at_once, at_most, spares: 0, ..Settings::default() }
}

/// How many workers a function has, and how many of them are busy.
fn workers(cloud: &Cloud) -> (usize, usize) {
    let workers = &cloud.functions.status()[0].workers;
    (workers.len(), workers.iter().filter(|w| w.state == WorkerState::Busy).count())
}

pub(crate) const TESTS: &[(&str, Run)] = &[
    ("load::a_thousand_requests_at_once_run_once_each_within_the_concurrency", |test| {
        test.run(few(4, 100), |cloud| async move {
            for concurrency in [1, 10, 100] {
                let name = format!("f{concurrency}");
                let source = format!(
                    r#"new (require("@tandem/cloud").Function)("{name}", async (n) => {{
                        console.log("{name} runs", n); await null; return n;
                    }})"#
                );
                cloud.deploy(&name, &source, json!({ "concurrency": concurrency })).await;
                let running: Vec<_> =
                    (0..MANY).map(|n| cloud.begin(&name, &format!("{name}-{n}"), json!(n))).collect();
                let functions = cloud.functions.clone();
                let watched = name.clone();
                let watch = tokio::spawn(async move {
                    let mut most = 0;
                    loop {
                        let status = functions.status();
                        let status =
                            status.iter().find(|f| f.id.0.starts_with(&format!("{watched}-"))).unwrap();
                        most = most.max(status.workers.len());
                        if status.invocations >= MANY as u64 {
                            return most;
                        }
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                });
                for (n, request) in running.into_iter().enumerate() {
                    assert_eq!(answer(&request.await.unwrap().unwrap()), n);
                }
                let most = watch.await.unwrap();
                assert!(most <= concurrency.min(4), "{most} workers of {name}");
                let counts = cloud.log.counts();
                assert!((0..MANY).all(|n| counts[&format!("{name} runs {n}")] == 1), "{name}");
            }
            // One after another, in the order in which they were asked for.
            let texts = cloud.log.texts();
            let order: Vec<_> = texts.iter().filter_map(|text| text.strip_prefix("f1 runs ")).collect();
            let order: Vec<usize> = order.iter().map(|n| n.parse().unwrap()).collect();
            assert_eq!(order.len(), MANY);
        })
    }),
    ("load::requests_are_handed_over_in_the_order_in_which_they_came", |test| {
        test.run(few(4, 4), |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async (n) => console.log(n))"#;
            cloud.deploy("f", source, json!({ "concurrency": 1 })).await;
            let ids: Vec<_> = (0..100).map(|n| format!("r{n}")).collect();
            let requests = ids.iter().enumerate().map(|(n, id)| cloud.invoke("f", id, json!(n)));
            for answered in join_all(requests).await {
                answered.unwrap();
            }
            assert_eq!(cloud.log.texts(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
        })
    }),
    ("load::handlers_that_compute_get_no_more_workers_than_the_processors_bear", |test| {
        test.run(few(2, 30), |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", () => {
                const end = Date.now() + 400; while (Date.now() < end); return 1;
            })"#;
            cloud.deploy("f", source, json!({ "timeout": 60 })).await;
            let running: Vec<_> = (0..20).map(|n| cloud.begin("f", &format!("r{n}"), json!(n))).collect();
            let mut most = 0;
            cloud
                .until("the end of all", || {
                    most = most.max(workers(&cloud).0);
                    running.iter().all(tokio::task::JoinHandle::is_finished)
                })
                .await;
            // One that was between two requests when it was looked at may have made room for one more.
            assert!((2..=4).contains(&most), "{most} workers");
        })
    }),
    ("load::handlers_that_wait_get_more_workers_one_by_one", |test| {
        test.run(few(2, 6), |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async () => {
                await new Promise((r) => setTimeout(r, 60000));
            })"#;
            cloud.deploy("f", source, json!({ "timeout": 60 })).await;
            let running: Vec<_> = (0..10).map(|n| cloud.begin("f", &format!("r{n}"), json!(n))).collect();
            cloud.until("a worker for as many as may be", || workers(&cloud) == (6, 6)).await;
            assert_eq!(cloud.functions.status()[0].queued, 4);
            running.iter().for_each(tokio::task::JoinHandle::abort);
            cloud.until("the end of waiting", || cloud.functions.status()[0].queued == 0).await;
        })
    }),
    ("load::requests_that_would_fill_the_memory_are_refused_at_once", |test| {
        test.run(few(1, 1), |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async () => {
                await new Promise((r) => setTimeout(r, 60000));
            })"#;
            cloud.deploy("f", source, json!({ "timeout": 60 })).await;
            let large = json!("x".repeat(5 << 20));
            let running: Vec<_> =
                (0..25).map(|n| cloud.begin("f", &format!("r{n}"), large.clone())).collect();
            cloud.until("all of them waiting", || cloud.functions.status()[0].queued == 24).await;
            let refused = cloud.invoke("f", "one too many", large.clone()).await.unwrap_err();
            assert!(matches!(refused, InvokeError::TooManyRequests { .. }), "{refused}");
            running.iter().for_each(tokio::task::JoinHandle::abort);
            cloud.until("the end of waiting", || cloud.functions.status()[0].queued == 0).await;
            let again = cloud.begin("f", "room again", large);
            cloud.until("it waits", || cloud.functions.status()[0].queued == 1).await;
            again.abort();
        })
    }),
];
