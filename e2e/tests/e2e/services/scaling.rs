//! A service whose number of replicas follows its load.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use super::{free_port, get, ids, replicas, until};
use crate::harness::Cloud;

/// `/cgi-bin/slow` takes half a second.
fn program(port: u16, version: &str) -> String {
    let script = format!(
        "mkdir -p /www/cgi-bin; echo {version} > /www/index.html; \
         printf '#!/bin/sh\\necho; sleep 0.5; echo done\\n' > /www/cgi-bin/slow; chmod +x /www/cgi-bin/slow; \
         trap 'kill $!; exit' TERM; busybox httpd -f -p 80 -h /www & wait"
    );
    format!(
        "const cloud = require('@tandem/cloud');\n\
         new cloud.Service('web', {{\n\
             image: 'docker.io/library/busybox',\n\
             command: ['sh', '-c', {script:?}],\n\
             ports: [{{ port: {port}, targetPort: 80, protocol: 'http' }}],\n\
             healthCheck: {{ path: '/index.html', interval: 0.2 }},\n\
             autoscale: {{ min: 0, max: 2, target: {{ requests: 1 }}, scaleDownAfter: 1.5 }},\n\
         }});\n"
    )
}

/// Asks for what takes long, from three at once, until it is told.
fn busy_until(port: u16, enough: impl Fn() -> bool) {
    let slow = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(b"GET /cgi-bin/slow HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    };
    for _ in 0..60 {
        let asking: Vec<_> = (0..3).map(|_| thread::spawn(slow)).collect();
        let done = enough();
        asking.into_iter().for_each(|asking| asking.join().unwrap());
        if done {
            return;
        }
    }
    panic!("it is never enough");
}

#[test]
fn replicas_come_with_the_processor_time_and_go_with_it() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import_busybox();
    let folder = cloud.scratch().join("told");
    fs::create_dir(&folder).unwrap();
    let program = format!(
        "const cloud = require('@tandem/cloud');\n\
         new cloud.Service('worker', {{\n\
             image: 'docker.io/library/busybox',\n\
             command: ['sh', '-c', 'while :; do [ -e /told/work ] || sleep 0.1; done'],\n\
             cpu: 0.1,\n\
             volumes: [{{ containerPath: '/told', sourceVolume: new cloud.HostPathVolume({folder:?}) }}],\n\
             autoscale: {{ max: 3, target: {{ cpu: 50 }}, scaleDownAfter: 1 }},\n\
         }});\n"
    );
    let project = cloud.project("shop", &[("index.js", &program)]);
    project.up();
    let well = |count: usize| {
        let now = replicas(&project);
        (now.len() == count && now.iter().all(|replica| replica["healthy"] == true)).then_some(())
    };
    until("one replica", || well(1));
    // One that may have a tenth of a processor and uses all of it has twice what it is to have, and so have two.
    fs::write(folder.join("work"), "").unwrap();
    until("three replicas", || well(3));
    fs::remove_file(folder.join("work")).unwrap();
    until("one replica", || well(1));
    project.destroy();
}

#[test]
fn replicas_come_with_the_load_and_go_with_it_to_none_and_a_request_wakes_the_service() {
    let cloud = Cloud::new();
    let serving = cloud.serve();
    cloud.import_busybox();
    let port = free_port();
    let project = cloud.project("shop", &[("index.js", &program(port, "one"))]);
    project.up();
    assert_eq!(get(port).unwrap(), "one");
    let none = || until("no replica", || ids(&replicas(&project)).is_empty().then_some(()));
    none();
    until("no container", || cloud.mounts().is_empty().then_some(()));
    assert!(project.tandem(&["ps"]).ok().stdout.contains("idle"));
    assert_eq!(get(port).unwrap(), "one", "it is held until there is one");
    busy_until(port, || {
        let now = replicas(&project);
        now.len() == 2 && now.iter().all(|replica| replica["healthy"] == true)
    });
    none();

    // A restart finds none, or what was about to go, and a request wakes it all the same.
    serving.kill();
    let serving = cloud.serve();
    until("an answer", || get(port).ok());
    assert!(!ids(&replicas(&project)).is_empty());
    serving.kill();
    let _serving = cloud.serve();
    assert_eq!(until("an answer", || get(port).ok()), "one");

    // A version that is not asked for is started all the same, to see whether it is well.
    none();
    project.edit("index.js", &program(port, "two").replace("trap ", "exit 4; trap "));
    project.tandem(&["up", "--yes"]).failed("E0721").says("exited with code 4");
    assert_eq!(get(port).unwrap(), "one");
    none();
    // Nor does a change that keeps the version wait for one that goes at once.
    project.edit("index.js", &program(port, "one").replace("interval: 0.2", "interval: 0.3"));
    project.up();
    project.edit("index.js", &program(port, "two"));
    project.up();
    assert_eq!(get(port).unwrap(), "two");
    none();
    assert_eq!(get(port).unwrap(), "two");
    project.destroy();
    assert!(cloud.networks().is_empty() && cloud.mounts().is_empty());
}

#[test]
fn bounds_that_make_no_sense_are_named() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    let good = program(free_port(), "one");
    let project = cloud.project("shop", &[("index.js", "")]);
    for (old, new, code, says) in [
        ("max: 2", "max: 0", "E0506", "from 1 on, not 0"),
        ("min: 0, max: 2", "min: 3, max: 2", "E0531", "`autoscale.max`"),
        ("requests: 1", "memory: 70", "E0506", "no option \"memory\""),
        ("autoscale:", "replicas: 2, autoscale:", "E0506", "both `replicas` and `autoscale`"),
        ("autoscale:", "waitForSteadyState: false, autoscale:", "E0531", "`waitForSteadyState`"),
    ] {
        project.edit("index.js", &good.replace(old, new));
        project.tandem(&["preview"]).failed(code).says(says);
    }
}
