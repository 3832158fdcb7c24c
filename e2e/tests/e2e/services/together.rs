//! Several containers in one service.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{free_port, get, ids, replicas, until};
use crate::harness::Cloud;

/// `app` answers only inside the replica; `front` shows what it said, and listens for the machine.
fn program(port: u16, admin: u16, version: &str) -> String {
    let app = format!(
        "mkdir /www; echo {version} > /www/index.html; trap 'kill $!; exit' TERM; echo app is there; \
         busybox httpd -f -p 8000 -h /www & wait"
    );
    let front = "mkdir /www; trap 'kill $!; exit' TERM; \
         until wget -q -O /www/index.html http://127.0.0.1:8000/index.html; do sleep 0.1; done; \
         echo front is there; busybox httpd -f -p 80 -h /www & wait";
    format!(
        "const cloud = require('@tandem/cloud');\n\
         const image = 'docker.io/library/busybox';\n\
         const web = new cloud.Service('web', {{ containers: {{\n\
             front: {{ image, command: ['sh', '-c', {front:?}], ports: [{{ port: {port}, targetPort: 80 }}],\n\
                 healthCheck: {{ path: '/index.html', interval: 0.2 }} }},\n\
             app: {{ image, command: ['sh', '-c', {app:?}], ports: [{{ port: {admin}, targetPort: 8000 }}] }},\n\
         }} }});\n\
         exports.first = web.defaultEndpoint.port;\n\
         exports.admin = web.getEndpoint('app').port;\n\
         exports.images = web.images;\n"
    )
}

#[test]
fn containers_of_a_replica_share_a_network_and_live_and_end_together() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let (port, admin) = (free_port(), free_port());
    let project = cloud.project("shop", &[("index.js", &program(port, admin, "one"))]);
    project.up();
    assert_eq!((project.output("first"), project.output("admin")), (port.to_string(), admin.to_string()));
    assert!(project.output("images").contains("\"app\""), "{}", project.output("images"));
    assert_eq!((get(port).unwrap(), get(admin).unwrap()), ("one".to_owned(), "one".to_owned()));
    let mut log = cloud.log(&project);
    log.wait_for("app is there");
    log.wait_for("front is there");

    // `app` is the one that has the network, `front` the other one: the end of either is the replica's.
    let mut last = ids(&replicas(&project));
    for suffix in ["", "-front"] {
        let bundle = cloud.home().join("containers/bundles").join(format!("{}{suffix}", last[0]));
        let pid = fs::read_to_string(bundle.join("container.pid")).unwrap();
        kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        last = until("another replica", || {
            let now = replicas(&project);
            let well = now.len() == 1 && now[0]["healthy"] == true;
            Some(ids(&now)).filter(|now| well && *now != last)
        });
        assert_eq!(get(port).unwrap(), "one");
    }
    drop(log);
    let said = project.tandem(&["logs", "web"]).ok();
    assert!(said.stdout.contains("`front`: it exited with code 137"), "{}", said.all());
    let one = project.tandem(&["logs", "--replica", "front"]).ok();
    assert!(one.stdout.contains("front is there") && !one.stdout.contains("app is there"), "{}", one.all());
    let bundles = fs::read_dir(cloud.home().join("containers/bundles")).unwrap().count();
    assert_eq!(bundles, 2, "nothing is left of the former ones");

    // Killed between the starts of the two, and afterwards the replica is whole.
    assert!(serving.terminate().success());
    let doomed = cloud.serve_until("service.replica.started");
    project.edit("index.js", &program(port, admin, "two"));
    project.tandem(&["up", "--yes"]);
    doomed.died("service.replica.started");
    let serving = cloud.serve();
    assert_eq!(until("an answer", || get(port).ok()), "one");
    assert_eq!(ids(&replicas(&project)), last, "the same containers");
    project.up();
    assert_eq!((get(port).unwrap(), get(admin).unwrap()), ("two".to_owned(), "two".to_owned()));
    assert!(serving.terminate().success());
    let _serving = cloud.serve();
    until("an answer", || get(port).ok());
    project.destroy();
    assert!(cloud.networks().is_empty() && cloud.mounts().is_empty());
}

#[test]
fn containers_that_cannot_be_together_are_named() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let (port, admin) = (free_port(), free_port());
    let good = program(port, admin, "one");
    let both = good.replace("targetPort: 8000", "targetPort: 80");
    let project = cloud.project("shop", &[("index.js", &both)]);
    project.tandem(&["preview"]).failed("E0531").says("both have port 80");
    project.edit("index.js", &good.replace(&format!("port: {admin}"), &format!("port: {port}")));
    project.tandem(&["preview"]).failed("E0531").says(&format!("port {port} is published twice"));
    project.edit("index.js", &good.replace("front: {", "Front_1: {"));
    project.tandem(&["preview"]).failed("E0506").says("Front_1");
    project.edit("index.js", &good.replace("getEndpoint('app')", "getEndpoint('db')"));
    project.tandem(&["preview"]).failed("E0506").says("it has front, app");
    // One that never becomes well is named, with what it said.
    project.edit("index.js", &good.replace("echo app is there", "echo no database; exit 5"));
    project.tandem(&["up", "--yes"]).failed("E0721").says("`app`: it exited with code 5").says("no database");
}
