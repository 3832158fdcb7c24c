//! Images that programs name and builds start from, pulled from a registry of somebody else: another cloud's.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use serde_json::json;

use crate::harness::{Cloud, prepared};

#[test]
fn a_task_and_a_build_pull_from_another_clouds_registry_once_somebody_has_logged_in() {
    let (theirs, ours) = (Cloud::new(), Cloud::new());
    let _theirs = theirs.serve();
    theirs.import_busybox();
    let client = theirs.client(&theirs.project("theirs", &[("index.js", "")]));
    let registry = client.variable("TANDEM_REGISTRY");

    // What people have on their machines: a registry that is somewhere else than its name says, and no password yet.
    let (auth, mirrors) = (ours.scratch().join("auth.json"), ours.scratch().join("registries.conf"));
    let text = format!("[[registry]]\nprefix = \"registry.invalid\"\nlocation = \"{registry}\"\n");
    fs::write(&mirrors, text).unwrap();
    let variables = [
        ("REGISTRY_AUTH_FILE", auth.to_str().unwrap()),
        ("CONTAINERS_REGISTRIES_CONF", mirrors.to_str().unwrap()),
    ];
    let _ours = ours.serve_with(&variables);
    let program = "const cloud = require('@tandem/cloud');\n\
        new cloud.Task('named', { image: 'registry.invalid/busybox', command: ['echo', 'pulled'] });\n";
    let files =
        [("index.js", program), ("image/Dockerfile", "FROM registry.invalid/nothing\nCMD [\"true\"]\n")];
    let project = ours.project("ours", &files);
    let refused = project.tandem(&["up", "--yes"]).failed("E0414");
    let words = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("`docker login {registry}`")), "{words}");

    // No cloud has to be started again for it.
    let user = client.variable("TANDEM_REGISTRY_USER");
    let log_in = |password: &str| {
        let auths = json!({ registry: { "username": user, "password": password } });
        fs::write(&auth, json!({ "auths": auths }).to_string()).unwrap();
    };
    log_in(client.variable("TANDEM_REGISTRY_PASSWORD"));
    let said = project.tandem(&["up", "--yes"]).ok();
    assert!(said.all().contains("task/named │ pulling registry.invalid/busybox:latest"), "{}", said.all());
    assert_eq!(project.tandem(&["run", "named"]).ok().stdout.trim(), "pulled");
    let images = ours.tandem(&["image", "ls"]).ok().stdout;
    assert!(images.contains("registry.invalid/busybox:latest"), "{images}");

    project.edit("index.js", &format!("{program}new cloud.Task('built', {{ build: './image' }});\n"));
    project.tandem(&["up", "--yes"]).failed("E0403").says("./image/Dockerfile:1");
    log_in("of-somebody-else");
    let refused = project.tandem(&["up", "--yes"]).failed("E0414").says("./image/Dockerfile:1");
    assert!(!refused.all().contains("of-somebody-else"), "{}", refused.all());
    log_in(client.variable("TANDEM_REGISTRY_PASSWORD"));
    project.edit(
        "image/Dockerfile",
        "FROM registry.invalid/docker.io/library/busybox\nCMD [\"echo\", \"built\"]\n",
    );
    project.up();
    assert_eq!(project.tandem(&["run", "built"]).ok().stdout.trim(), "built");

    // Their name means another image now: the same files, made at another time.
    let again = theirs.scratch().join("busybox.tar");
    fs::copy(prepared("TANDEM_TEST_BUSYBOX_IMAGE"), &again).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    fs::File::options().write(true).open(&again).unwrap().set_modified(then).unwrap();
    theirs.tandem(&["image", "import", "busybox", again.to_str().unwrap()]).ok();
    project.tandem(&["up", "--yes"]).ok().says("Nothing to do");
    let pulled = project.tandem(&["up", "--yes", "--pull"]).ok();
    let newer = "rebuild: registry.invalid/docker.io/library/busybox:latest is newer";
    assert!(pulled.all().contains(newer), "{}", pulled.all());
    log_in("of-somebody-else");
    let kept = project.tandem(&["up", "--yes", "--pull"]).ok();
    let words = kept.all().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("stays as it is: it answered 401"), "{words}");
    project.destroy();
}
