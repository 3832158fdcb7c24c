//! A restart of the machine: of services and of a run only what is on the disk is left.

use std::fs;

use super::{free_port, get, ids, program, replicas_of, until};
use crate::harness::{Cloud, Gate};

#[test]
fn after_a_restart_of_the_machine_services_serve_by_name_and_port_and_a_run_is_lost() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let (port, other) = (free_port(), free_port());
    let mut gate = Gate::shut();
    // It passes on what the other service answers, which it finds by its name.
    let script = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; wget -O - http://web/index.html 2>&1\\n' \
                  > /www/cgi-bin/ask; chmod +x /www/cgi-bin/ask; echo up > /www/index.html; \
                  trap 'kill $!; exit' TERM; busybox httpd -f -p 80 -h /www & wait";
    let text = format!(
        "{}new cloud.Service('asker', {{ image: 'docker.io/library/busybox', command: ['sh', '-c', {script:?}],\n\
         ports: [{{ port: {other}, targetPort: 80, protocol: 'http' }}], healthCheck: {{ path: '/index.html', interval: 0.2 }} }});\n\
         new cloud.Task('job', {{ image: 'docker.io/library/busybox', command: ['sh', '-c', {:?}] }});\n",
        program(port, 2, "one"),
        gate.command("job"),
    );
    let project = cloud.project("shop", &[("index.js", &text)]);
    project.up();
    let before = ids(&replicas_of(&project, "web"));
    let run = project.tandem(&["run", "job", "--detach"]).ok().value().to_owned();
    let _inside = gate.wait_for("job");
    let by_name = || super::get_path(other, "/cgi-bin/ask");
    let told = by_name();
    assert!(told.as_ref().is_ok_and(|text| text.contains("one ")), "{told:?}");

    serving.kill();
    cloud.lose_all_but_the_disk();
    assert!(cloud.mounts().is_empty());
    let _serving = cloud.serve();
    until("an answer", || get(port).ok());
    let after = until("both replicas", || {
        let now = replicas_of(&project, "web");
        (now.len() == 2 && now.iter().all(|replica| replica["healthy"] == true)).then(|| ids(&now))
    });
    assert!(after.iter().all(|id| !before.contains(id)), "others in their place: {before:?} {after:?}");
    for _ in 0..10 {
        // Of those that were there before, no name tells any more.
        let told = by_name();
        assert!(told.as_ref().is_ok_and(|text| text.contains("one ")), "{told:?}");
    }
    let names = fs::read_dir(cloud.home().join("containers/names/aardvark-dns")).unwrap().flatten();
    let named: String = names.filter_map(|file| fs::read_to_string(file.path()).ok()).collect();
    assert!(before.iter().all(|id| !named.contains(id)), "{named}");
    let lost = project.tandem(&["runs", "wait", &run]);
    assert!(lost.all().contains("lost"), "{}", lost.all());
    project.destroy();
}
