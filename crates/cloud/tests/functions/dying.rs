//! Functions whose workers die.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_cloud::function::{InvokeError, Settings, WorkerState};

use crate::{
    Run,
    cloud::{answer, pids},
};

fn settings() -> Settings {
    Settings { spares: 1, at_once: 4, at_most: 8, ..Settings::default() }
}

/// Every third request ends its worker, each time in another way.
const EVERY_THIRD: &str = r#"
    const fs = require("fs");
    new (require("@tandem/cloud").Function)("f", async (n) => {
        if (n % 3 !== 2) return n;
        switch (Math.floor(n / 3) % 5) {
            case 0: process.exit(3);
            case 1: throw new Error("no good");
            case 2: for (let i = 0; i < 400; i++) fs.writeFileSync(`/tmp/${i}`, "x".repeat(1 << 20));
            case 3: await new Promise((r) => setTimeout(r, 60000));
            case 4: for (;;);
        }
    })
"#;

pub(crate) const TESTS: &[(&str, Run)] = &[
    ("dying::every_request_ends_with_its_own_reason_and_others_are_not_disturbed", |test| {
        test.run(settings(), |cloud| async move {
            cloud.deploy("f", EVERY_THIRD, json!({ "memory": 48, "timeout": 5 })).await;
            let source = r#"new (require("@tandem/cloud").Function)("g", async (n) => n)"#;
            cloud.deploy("g", source, json!({})).await;
            let running: Vec<_> = (0..30).map(|n| cloud.begin("f", &format!("f{n}"), json!(n))).collect();
            let healthy: Vec<_> = (0..60).map(|n| cloud.begin("g", &format!("g{n}"), json!(n))).collect();
            for (n, request) in healthy.into_iter().enumerate() {
                assert_eq!(answer(&request.await.unwrap().unwrap()), n);
            }
            for (n, request) in running.into_iter().enumerate() {
                let ended = request.await.unwrap();
                if n % 3 != 2 {
                    assert_eq!(answer(&ended.unwrap()), n);
                    continue;
                }
                let error = ended.unwrap_err();
                let as_it_should = match n / 3 % 5 {
                    0 => error.to_string().contains("exited with status 3"),
                    1 => error.to_string().contains("no good"),
                    2 => matches!(error, InvokeError::OutOfMemory { .. }),
                    _ => matches!(error, InvokeError::TimedOut { .. }),
                };
                assert!(as_it_should, "request {n}: {error}");
            }
            // No slot is lost: as many as before run side by side.
            let source = r#"new (require("@tandem/cloud").Function)("f", async () => {
                await new Promise((r) => setTimeout(r, 60000));
            })"#;
            cloud.deploy("f", source, json!({ "timeout": 60 })).await;
            let running: Vec<_> = (0..8).map(|n| cloud.begin("f", &format!("w{n}"), json!(n))).collect();
            cloud
                .until("all slots in use", || {
                    let status = cloud.functions.status();
                    let f = status.iter().find(|f| f.id.0 == "f-1").unwrap();
                    f.workers.iter().filter(|w| w.state == WorkerState::Busy).count() == 8
                })
                .await;
            running.iter().for_each(tokio::task::JoinHandle::abort);
        })
    }),
    ("dying::a_program_that_cannot_start_does_not_eat_the_processors", |test| {
        test.run(settings(), |cloud| async move {
            cloud.deploy("f", "process.exit(1)", json!({})).await;
            let source = r#"new (require("@tandem/cloud").Function)("g", async (n) => n)"#;
            cloud.deploy("g", source, json!({})).await;
            let since = Instant::now();
            let running: Vec<_> = (0..200).map(|n| cloud.begin("f", &format!("f{n}"), json!(n))).collect();
            let ended = || running.iter().filter(|r| r.is_finished()).count();
            // After some starts that fail the pauses have grown to more than half a second.
            cloud.until("ten failed starts", || ended() >= 10).await;
            assert!(since.elapsed() > Duration::from_millis(600), "ten starts in {:?}", since.elapsed());
            let now = ended();
            for n in 0..20 {
                assert_eq!(answer(&cloud.invoke("g", &format!("g{n}"), json!(n)).await.unwrap()), n);
            }
            assert!(ended() <= now + 3, "it is started too often");
            // A new version has done nothing wrong, and the requests that wait are served by it.
            let source = r#"new (require("@tandem/cloud").Function)("f", async (n) => n)"#;
            cloud.deploy("f", source, json!({})).await;
            let mut served = 0;
            for request in running {
                match request.await.unwrap() {
                    Ok(_) => served += 1,
                    Err(error) => assert!(matches!(error, InvokeError::WorkerLost { .. }), "{error}"),
                }
            }
            assert!(served >= 200 - now - 4, "{served} served");
        })
    }),
    ("dying::what_is_told_of_processes_is_true_while_they_come_and_go", |test| {
        let settings = Settings { idle: Duration::from_millis(50), ..settings() };
        test.run(settings, |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", (n) => {
                if (n % 3 == 2) process.exit(3); return n;
            })"#;
            cloud.deploy("f", source, json!({})).await;
            let since = Instant::now();
            let mut n = 0;
            while since.elapsed() < Duration::from_secs(3) {
                let running: Vec<_> =
                    (n..n + 5).map(|n| cloud.begin("f", &format!("f{n}"), json!(n))).collect();
                n += 5;
                while !running.iter().all(tokio::task::JoinHandle::is_finished) {
                    agree(&cloud);
                    tokio::task::yield_now().await;
                }
                // Every other time they idle away.
                if n % 2 == 0 {
                    cloud
                        .until("no worker", || {
                            agree(&cloud);
                            pids(&cloud.functions).is_empty()
                        })
                        .await;
                }
            }
            cloud
                .until("zero processes when idle", || {
                    let (deployed, others) = cloud.functions.processes();
                    deployed[0].workers.is_empty() && others.is_empty() && cloud.children().is_empty()
                })
                .await;
        })
    }),
];

/// Compares what is told with what the kernel knows before and after. A process that was there before and after was there
/// in between: it must have been told of, unless it was just being started.
fn agree(cloud: &crate::cloud::Cloud) {
    let before = cloud.children();
    let (deployed, others) = cloud.functions.processes();
    let after = cloud.children();
    let told: Vec<_> = deployed.iter().flat_map(|f| &f.workers).chain(&others).collect();
    let pids: Vec<_> = told.iter().filter_map(|w| w.pid).collect();
    let unnamed = told.iter().filter(|w| w.pid.is_none()).count();
    let untold: Vec<_> = before.iter().filter(|p| after.contains(p) && !pids.contains(p)).collect();
    assert!(untold.len() <= unnamed, "{untold:?} are there, and told was {told:?}");
    // And one that was told of was there, or has come and gone within this function.
    for pid in pids {
        assert!(
            before.contains(&pid) || after.contains(&pid) || !crate::cloud::is_alive(pid),
            "{pid} of {told:?}"
        );
    }
}
