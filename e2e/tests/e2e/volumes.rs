//! Volumes: what one container leaves, another one finds, and nothing is lost by accident.

use std::fs;

use serde_json::Value;

use crate::harness::{Cloud, Project};

/// A task that writes a word into a volume, and one that reads it, each with a folder of the host, too.
fn program(host: &str, extra: &str) -> String {
    format!(
        "const cloud = require('@tandem/cloud');\n\
         const data = new cloud.SharedVolume('data');\n\
         const host = new cloud.HostPathVolume({host:?});\n\
         const image = 'docker.io/library/busybox';\n\
         const at = (readOnly) => [\n\
             {{ containerPath: '/srv/data', sourceVolume: data, readOnly }},\n\
             {{ containerPath: '/srv/host', sourceVolume: host, readOnly: true }},\n\
         ];\n\
         new cloud.Task('writer', {{ image, volumes: at(false),\n\
             command: ['sh', '-c', 'cat /srv/host/seed > /srv/data/word && echo wrote'] }});\n\
         new cloud.Task('reader', {{ image, volumes: at(true),\n\
             command: ['sh', '-c', 'cat /srv/data/word; ! touch /srv/data/more; ! touch /srv/host/more'] }});\n\
         exports.volume = data.id;\n{extra}"
    )
}

fn run(project: &Project<'_>, task: &str) -> String {
    project.tandem(&["run", task]).ok().stdout
}

#[test]
fn what_one_task_leaves_in_a_volume_another_one_finds_and_destroy_asks_before_it_goes() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let host = cloud.scratch().join("host");
    fs::create_dir(&host).unwrap();
    fs::write(host.join("seed"), "kept\n").unwrap();
    let host = host.to_str().unwrap();
    let project = cloud.project("shop", &[("index.js", &program(host, ""))]);
    project.up();
    assert!(run(&project, "writer").contains("wrote"));
    assert!(run(&project, "reader").contains("kept"));
    let folder = cloud.home().join("volumes").join(project.output("volume"));
    assert_eq!(fs::read_to_string(folder.join("word")).unwrap(), "kept\n");

    project.tandem(&["destroy", "--yes"]).refused().says("1 file");
    assert!(folder.join("word").exists());
    // Killed when the folder is gone, but not the note that it is to go.
    assert!(serving.terminate().success());
    let doomed = cloud.serve_until("volume.folder.removed");
    project.tandem(&["destroy", "--yes", "--force"]);
    doomed.died("volume.folder.removed");
    let serving = cloud.serve();
    project.destroy();
    assert!(!folder.exists());

    // A volume of the same name has nothing of the former one.
    project.up();
    let folder = cloud.home().join("volumes").join(project.output("volume"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);

    // Killed before anything of it is removed: the next start does it.
    run(&project, "writer");
    assert!(serving.terminate().success());
    let doomed = cloud.serve_until("target.change.committed");
    project.edit("index.js", "");
    project.tandem(&["up", "--yes", "--force"]);
    doomed.died("target.change.committed");
    let _serving = cloud.serve();
    project.tandem(&["up", "--yes", "--force"]).ok();
    assert!(!folder.exists());
}

#[test]
fn what_cannot_be_mounted_is_named() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let host = cloud.scratch().to_str().unwrap().to_owned();
    let home = cloud.home();
    let project = cloud.project("shop", &[("index.js", "")]);
    let refused = |text: String, code: &str, says: &str| {
        project.edit("index.js", &text);
        project.tandem(&["up", "--yes"]).refused().says(code).says(says);
    };
    refused(program(&format!("{host}/absent"), ""), "E0731", "mkdir -p");
    refused(program(home.to_str().unwrap(), ""), "E0731", "the cloud's own files");
    refused(program("/", ""), "E0731", "the cloud's own files");
    refused(program("data", ""), "E0506", "absolute");
    let at = |path: &str| program(&host, "").replace("/srv/host'", &format!("{path}'"));
    refused(at("/proc/x"), "E0531", "/proc, /sys and /dev");
    refused(at("/srv/../etc"), "E0531", "`containerPath`");
    refused(at("/srv/data/"), "E0531", "two volumes are at");
    refused(
        program(&host, "").replace("sourceVolume: data", "sourceVolume: 'data'"),
        "E0506",
        "SharedVolume",
    );

    // One that goes after the deployment is told by the run.
    let gone = cloud.scratch().join("gone");
    fs::create_dir(&gone).unwrap();
    project.edit("index.js", &program(gone.to_str().unwrap(), ""));
    project.up();
    fs::remove_dir(&gone).unwrap();
    let ran = project.tandem(&["run", "writer"]).says("error[E0731]").says("gone");
    assert_eq!(ran.code, Some(125), "no container was started");
    let listed: Value =
        serde_json::from_str(&project.tandem(&["stack", "show", "--json"]).ok().stdout).unwrap();
    assert!(listed.to_string().contains("volume"), "{listed}");
    project.destroy();
}
