//! Handlers that throw, never return, or eat memory.

use serde_json::json;
use tandem_cloud::function::{InvokeError, Settings};

use crate::{Run, cloud::answer};

fn settings() -> Settings {
    Settings { spares: 0, ..Settings::default() }
}

pub(crate) const TESTS: &[(&str, Run)] = &[
    ("limits::a_handler_that_throws_is_told_with_its_place_and_the_worker_goes_on", |test| {
        test.run(settings(), |cloud| async move {
            let source = "const cloud = require('@tandem/cloud');\nnew cloud.Function('f', async (e) => {\n  console.log('before');\n  if (e.bad) throw new TypeError('no good');\n  return 1;\n});";
            cloud.deploy("f", source, json!({})).await;
            let error = cloud.invoke("f", "r1", json!({ "bad": true })).await.unwrap_err();
            let InvokeError::HandlerFailed { error: thrown, log_tail, .. } = &error else { panic!("{error}") };
            assert_eq!((thrown.error_type.as_str(), thrown.error_message.as_str()), ("TypeError", "no good"));
            assert!(thrown.stack_trace[0].contains("index.js:4:"), "{thrown:?}");
            assert!(error.to_string().contains("TypeError: no good (index.js:4:"), "{error}");
            assert_eq!(log_tail[..2], ["before", "TypeError: no good"]);
            assert_eq!(cloud.log.of("r1")[..2], ["before", "TypeError: no good"]);
            let next = cloud.invoke("f", "r2", json!({})).await.unwrap();
            assert!(!next.cold && answer(&next) == 1);
        })
    }),
    ("limits::a_handler_that_waits_too_long_times_out", |test| {
        test.run(settings(), |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", async () => {
                console.log("waiting"); await new Promise(r => setTimeout(r, 60000));
            })"#;
            cloud.deploy("f", source, json!({ "timeout": 0.3 })).await;
            let error = cloud.invoke("f", "r1", json!({})).await.unwrap_err();
            assert_eq!(error.to_string(), "function/f timed out after 0.3 s");
            assert_eq!(cloud.log.of("r1"), ["waiting", "timed out after 0.3 s"]);
        })
    }),
    ("limits::a_loop_without_an_end_times_out_and_says_where", |test| {
        test.run(settings(), |cloud| async move {
            let source =
                "const cloud = require('@tandem/cloud');\nnew cloud.Function('f', () => {\n  for (;;);\n});";
            cloud.deploy("f", source, json!({ "timeout": 0.5 })).await;
            let error = cloud.invoke("f", "r1", json!({})).await.unwrap_err();
            assert_eq!(error.to_string(), "function/f timed out after 0.5 s");
            let said = cloud.log.of("r1");
            assert_eq!(said[0], "timed out after 0.5 s");
            assert!(said[1].contains("at index.js:"), "{said:?}");
        })
    }),
    ("limits::a_handler_that_eats_memory_is_told_apart", |test| {
        test.run(settings(), |cloud| async move {
            let source = r#"new (require("@tandem/cloud").Function)("f", () => {
                const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1));
            })"#;
            cloud.deploy("f", source, json!({ "memory": 32 })).await;
            let error = cloud.invoke("f", "r1", json!({})).await.unwrap_err();
            assert_eq!(error.to_string(), "function/f ran out of memory: limit 32 MiB");
            assert_eq!(cloud.log.of("r1")[0], "out of memory: limit 32 MiB");
        })
    }),
    ("limits::memory_beyond_the_heap_is_limited_by_the_kernel", |test| {
        test.run(settings(), |cloud| async move {
            // Files in /tmp are memory that the engine's own heap limit does not count.
            let source = r#"new (require("@tandem/cloud").Function)("f", () => {
                const fs = require("fs"); const mib = "x".repeat(1 << 20);
                for (let n = 0; n < 400; n++) fs.writeFileSync(`/tmp/${n}`, mib);
                return "survived";
            })"#;
            cloud.deploy("f", source, json!({ "memory": 48 })).await;
            let error = cloud.invoke("f", "r1", json!({})).await.unwrap_err();
            assert_eq!(error.to_string(), "function/f ran out of memory: limit 48 MiB");
        })
    }),
    ("limits::a_program_that_cannot_start_says_why", |test| {
        test.run(settings(), |cloud| async move {
            cloud.deploy("f", "throw new Error('not today');", json!({})).await;
            let error = cloud.invoke("f", "r1", json!({})).await.unwrap_err();
            let InvokeError::InitFailed { error, .. } = &error else { panic!("{error}") };
            assert_eq!(error.error_message, "not today");
        })
    }),
    ("limits::a_missing_handler_lists_those_that_were_found", |test| {
        test.run(settings(), |cloud| async move {
            let source = r#"const c = require("@tandem/cloud"); new c.Function("a", () => 1); new c.Function("b", () => 1);"#;
            cloud.deploy("f", source, json!({})).await;
            let error = cloud.invoke("f", "r1", json!({})).await.unwrap_err().to_string();
            assert!(error.contains("has no handler `f`; it has a, b"), "{error}");
        })
    }),
    ("limits::a_payload_over_6_mib_is_refused", |test| {
        test.run(settings(), |cloud| async move {
            cloud
                .deploy(
                    "f",
                    r#"new (require("@tandem/cloud").Function)("f", (e) => "x".repeat(e))"#,
                    json!({}),
                )
                .await;
            let refused = cloud.invoke("f", "r1", json!("x".repeat(6 << 20))).await.unwrap_err();
            assert!(matches!(refused, InvokeError::PayloadTooLarge { .. }), "{refused}");
            assert!(cloud.invoke("f", "r2", json!(6 << 19)).await.is_ok());
            let answer = cloud.invoke("f", "r3", json!(6 << 20)).await.unwrap_err();
            assert!(answer.to_string().contains("larger than 6 MiB"), "{answer}");
            assert!(cloud.invoke("f", "r4", json!(1)).await.is_ok(), "and the worker goes on");
        })
    }),
];
