//! Images that programs name and builds start from, pulled from a registry of somebody else: another cloud's.

use std::fs;

use serde_json::json;

use crate::harness::Cloud;

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
    project.destroy();
}
