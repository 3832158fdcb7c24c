//! What a worker cannot do.

use std::{fs, os::unix::fs::MetadataExt};

use serde_json::json;
use tandem_cloud::function::Settings;

use crate::{Run, cloud::answer};

fn settings() -> Settings {
    Settings { spares: 0, ..Settings::default() }
}

pub(crate) const TESTS: &[(&str, Run)] = &[
    ("sandbox::a_worker_sees_no_file_of_the_host_and_writes_only_to_tmp", |test| {
        test.run(settings(), |cloud| async move {
            let source = r#"
                const fs = require("fs");
                const tried = (f) => { try { return f(); } catch (e) { return "refused"; } };
                new (require("@tandem/cloud").Function)("f", () => ({
                    root: tried(() => fs.readdirSync("/etc/..").sort()),
                    proc: tried(() => fs.readdirSync("/proc")),
                    write: tried(() => fs.writeFileSync("/etc/x", "x")),
                    tmp: tried(() => { fs.writeFileSync("/tmp/x", "x"); return fs.readFileSync("/tmp/x", "utf8"); }),
                }));
            "#;
            cloud.deploy("f", source, json!({})).await;
            let seen = answer(&cloud.invoke("f", "r1", json!({})).await.unwrap());
            assert_eq!(
                seen,
                json!({ "root": ["dev", "etc", "tmp", "var"], "proc": "refused", "write": "refused", "tmp": "x" })
            );
            assert!(!std::path::Path::new("/tmp/x").exists());
        })
    }),
    ("sandbox::workers_of_two_functions_run_as_two_unprivileged_users_in_their_own_namespaces", |test| {
        test.run(settings(), |cloud| async move {
            for name in ["f", "g"] {
                let source = format!(r#"new (require("@tandem/cloud").Function)("{name}", () => 1)"#);
                cloud.deploy(name, &source, json!({})).await;
                cloud.invoke(name, "r", json!({})).await.unwrap();
            }
            let status = cloud.functions.status();
            let pids: Vec<_> = status.iter().map(|f| f.workers[0].pid.unwrap()).collect();
            let users: Vec<_> =
                pids.iter().map(|pid| fs::metadata(format!("/proc/{pid}/task")).unwrap()).collect();
            let status_of = |pid: i32| fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let field = |pid: i32, name: &str| {
                let text = status_of(pid);
                text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned()
            };
            assert_eq!(users.len(), 2);
            assert_ne!(field(pids[0], "Uid:"), field(pids[1], "Uid:"));
            for pid in pids {
                assert!(field(pid, "Uid:").starts_with("7000"), "{}", status_of(pid));
                for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
                    assert_eq!(field(pid, set), "0000000000000000", "{set}");
                }
                assert_eq!(field(pid, "NoNewPrivs:"), "1");
                assert_eq!(field(pid, "Seccomp:"), "2");
                assert_eq!(field(pid, "NSpid:").split_whitespace().last(), Some("1"));
                for namespace in ["mnt", "pid", "ipc", "uts"] {
                    let of = |pid: &str| fs::metadata(format!("/proc/{pid}/ns/{namespace}")).unwrap().ino();
                    assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
                }
                let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
                let open: Vec<_> = files
                    .filter_map(|file| fs::read_link(file.unwrap().path()).ok())
                    .map(|link| link.to_string_lossy().into_owned())
                    .filter(|link| link.starts_with('/') && link != "/dev/null")
                    .collect();
                assert!(open.is_empty(), "{open:?}");
            }
        })
    }),
];
