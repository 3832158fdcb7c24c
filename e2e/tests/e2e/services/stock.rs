//! Stock servers as services: nginx and redis, from Debian's packages.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Load, free_port, get, ids, replicas_of, until};
use crate::harness::Cloud;

const IMAGE: &str = "docker.io/library/servers";

fn program(site: &str, web: u16, cache: u16, version: &str) -> String {
    let settings = format!(
        "daemon off; user www-data; pid /tmp/nginx.pid; error_log stderr; events {{}} http {{ access_log off; \
         server {{ listen 80; root /site; add_header x-version {version}; }} }}"
    );
    format!(
        "const cloud = require('@tandem/cloud');\n\
         const data = new cloud.SharedVolume('data');\n\
         const site = new cloud.HostPathVolume({site:?});\n\
         new cloud.Service('cache', {{\n\
             image: '{IMAGE}',\n\
             command: ['redis-server', '--dir', '/data', '--appendonly', 'yes', '--appendfsync', 'always', '--protected-mode', 'no'],\n\
             ports: [{{ port: {cache}, targetPort: 6379 }}],\n\
             volumes: [{{ containerPath: '/data', sourceVolume: data }}],\n\
             healthCheck: {{ interval: 0.2 }},\n\
         }});\n\
         new cloud.Service('web', {{\n\
             image: '{IMAGE}',\n\
             command: ['sh', '-c', `echo '{settings}' > /tmp/nginx.conf; exec nginx -c /tmp/nginx.conf`],\n\
             replicas: 2,\n\
             ports: [{{ port: {web}, targetPort: 80, protocol: 'http' }}],\n\
             volumes: [{{ containerPath: '/site', sourceVolume: site, readOnly: true }}],\n\
             healthCheck: {{ path: '/index.html', interval: 0.2 }},\n\
         }});\n"
    )
}

/// One command of redis's own protocol, and the line that it answers.
fn redis(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    // A text comes after its length.
    if first.starts_with('$') { lines.next()?.ok() } else { Some(first) }
}

#[test]
fn nginx_is_updated_under_load_and_redis_keeps_what_it_was_told_over_a_kill() {
    let cloud = Cloud::new();
    let _serving = cloud.serve();
    cloud.import(IMAGE, "TANDEM_TEST_SERVERS_IMAGE");
    let site = cloud.scratch().join("site");
    fs::create_dir(&site).unwrap();
    fs::write(site.join("index.html"), "a page\n").unwrap();
    let (web, cache) = (free_port(), free_port());
    let text = |version| program(site.to_str().unwrap(), web, cache, version);
    let project = cloud.project("shop", &[("index.js", &text("one"))]);
    project.up();
    assert_eq!(get(web).unwrap(), "a page");
    assert_eq!(redis(cache, "SET word kept").as_deref(), Some("+OK"));

    let load = Load::on(web);
    project.edit("index.js", &text("two"));
    project.up();
    load.go_on();
    load.none_failed();

    let before = ids(&replicas_of(&project, "cache"));
    let bundle = cloud.home().join("containers/bundles").join(&before[0]);
    let pid = fs::read_to_string(bundle.join("container.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    until("another redis", || {
        let now = ids(&replicas_of(&project, "cache"));
        (now.len() == 1 && now != before).then_some(())
    });
    assert_eq!(until("an answer", || redis(cache, "GET word")), "kept");
    project.destroy();
}
