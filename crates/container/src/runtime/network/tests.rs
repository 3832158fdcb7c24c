//! Containers with networks of their own, and what is left of these.

use std::{fs, net::Ipv4Addr, path::Path, process::Command, slice};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Container, Exit, Network, Networking, Spec,
    conformance::{id, logged},
    runtime::tests::Home,
};

/// A network that no other test uses: tests run in processes of their own. `which` of some in one test.
fn network(which: u8, host: u8, alias: &str) -> Network {
    let pid = std::process::id();
    let (second, third) = (128 + (pid / 64 % 64) as u8, (pid % 64) as u8 * 4 + which);
    Network {
        bridge: format!("tdt{pid}-{which}"),
        subnet: format!("10.{second}.{third}.0/24"),
        gateway: Ipv4Addr::new(10, second, third, 1),
        address: Ipv4Addr::new(10, second, third, host),
        aliases: vec![alias.to_owned()],
    }
}

fn on(network: Network, spec: Spec) -> Spec {
    Spec { network: Some(Networking::Own(network)), ..spec }
}

/// A shell that can connect: static programs cannot look names up. It is copied from here, with what it is linked with.
fn with_bash(root: &Path) {
    let linked = Command::new("/bin/bash").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let linked = String::from_utf8(linked.stdout).unwrap();
    let libraries = linked.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain(["/bin/bash", "/lib/x86_64-linux-gnu/libresolv.so.2"]) {
        let to = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
}

/// Asks a web server for `/index.html`, and prints what it says.
fn ask(host: &str) -> String {
    format!(
        "timeout 2 bash -c 'exec 3<>/dev/tcp/{host}/80 && printf \"GET /index.html HTTP/1.0\\r\\n\\r\\n\" >&3 && cat <&3'"
    )
}

/// No interface, no rule, no namespace, nobody who answers names.
fn assert_no_network_is_left(home: &Home) {
    home.assert_nothing_is_left();
    let ours = format!("tdt{}-", std::process::id());
    let links = fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = links.filter(|name| name.to_string_lossy().starts_with(&ours)).collect();
    assert!(left.is_empty(), "{left:?}");
    let subnet = network(0, 2, "").subnet;
    let subnet = subnet.split_once(".0/").unwrap().0;
    for table in ["filter", "nat"] {
        let rules = Command::new("iptables").args(["-w", "-t", table, "-S"]).output().unwrap();
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        assert!(!rules.contains(&format!("{subnet}.")), "{rules}");
    }
}

#[tokio::test]
async fn neighbours_find_each_other_by_name_and_strangers_find_nothing() {
    let home = Home::with(with_bash);
    let runtime = home.open();
    let serve = "echo well >/index.html; exec httpd -f -v -p 80 -h /";
    let web = network(0, 2, "web");
    runtime.start(&id("web"), &on(web.clone(), home.script(serve))).await.unwrap();

    let again = format!("for i in $(seq 60); do {} && exit; sleep 0.2; done; exit 1", ask("web"));
    runtime.start(&id("friend"), &on(network(0, 3, "friend"), home.script(&again))).await.unwrap();
    let ended = runtime.wait(&id("friend")).await.unwrap();
    let said = logged(&*runtime, &id("friend"), "stdout");
    assert!(ended == Exit::Code { code: 0 } && said.ends_with("well\n"), "{ended:?}: {said}");

    // The machine reaches the container at its address, others do not: neither by name nor by address.
    let direct = tokio::net::TcpStream::connect((web.address, 80)).await;
    assert!(direct.is_ok(), "{direct:?}");
    // Nor after a third network came and went.
    runtime.start(&id("passing"), &on(network(2, 2, "passing"), home.script("exit"))).await.unwrap();
    runtime.wait(&id("passing")).await.unwrap();
    runtime.remove(&id("passing")).await.unwrap();
    let pry = format!("{}; {}; echo no", ask("web"), ask(&web.address.to_string()));
    runtime.start(&id("stranger"), &on(network(1, 2, "stranger"), home.script(&pry))).await.unwrap();
    runtime.wait(&id("stranger")).await.unwrap();
    assert_eq!(logged(&*runtime, &id("stranger"), "stdout"), "no\n");

    // Who answers names may die; the next container has it answered again.
    let pid = fs::read_to_string(home.containers().join("names/aardvark-dns/aardvark.pid")).unwrap();
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
    runtime.start(&id("late"), &on(network(0, 4, "late"), home.script(&ask("web")))).await.unwrap();
    assert_eq!(runtime.wait(&id("late")).await.unwrap(), Exit::Code { code: 0 });
    assert!(logged(&*runtime, &id("late"), "stdout").ends_with("well\n"));

    runtime.signal(&id("web"), libc::SIGKILL, true).await.unwrap();
    runtime.wait(&id("web")).await.unwrap();
    for name in ["friend", "web", "stranger", "late"] {
        runtime.remove(&id(name)).await.unwrap();
    }
    assert_no_network_is_left(&home);
}

#[tokio::test]
async fn killed_while_a_network_is_made_or_taken_down_nothing_of_it_stays() {
    let home = Home::new();
    let (runtime, one) = (home.open(), id("one"));
    let spec = on(network(0, 2, "one"), home.script("exit 4"));
    home.killed_at("container.start.connected", "start", &spec);
    assert_eq!(runtime.inspect(&one).await.unwrap(), Container::Unstarted);
    runtime.remove(&one).await.unwrap();
    assert_no_network_is_left(&home);

    runtime.start(&one, &spec).await.unwrap();
    assert_eq!(runtime.wait(&one).await.unwrap(), Exit::Code { code: 4 });
    home.killed_at("container.remove.disconnected", "remove", &spec);
    assert_eq!(runtime.list().await.unwrap(), slice::from_ref(&one));
    runtime.remove(&one).await.unwrap();
    assert_no_network_is_left(&home);
}

#[tokio::test]
async fn a_network_that_cannot_be_made_fails_the_start_and_leaves_nothing() {
    let home = Home::new();
    let runtime = home.open();
    let long = Network { bridge: "a-name-too-long-for-an-interface".into(), ..network(0, 2, "one") };
    let error = runtime.start(&id("one"), &on(long, home.script("exit"))).await.unwrap_err();
    assert!(error.to_string().contains("the network cannot be made"), "{error}");
    assert_no_network_is_left(&home);
}

#[tokio::test]
async fn one_that_shares_a_network_reaches_it_as_localhost_and_is_reached_at_its_address() {
    let home = Home::with(with_bash);
    let runtime = home.open();
    let web = network(0, 2, "web");
    let serve = |port: u16| format!("echo {port} >/index.html; exec httpd -f -p {port} -h /");
    runtime.start(&id("web"), &on(web.clone(), home.script(&serve(80)))).await.unwrap();
    let shared = |script: &str| Spec { network: Some(Networking::Of(id("web"))), ..home.script(script) };
    let ask = format!("for i in $(seq 60); do {} && exit; sleep 0.2; done; exit 1", ask("localhost"));
    runtime.start(&id("web-side"), &shared(&ask)).await.unwrap();
    assert_eq!(runtime.wait(&id("web-side")).await.unwrap(), Exit::Code { code: 0 });
    assert!(logged(&*runtime, &id("web-side"), "stdout").ends_with("80\n"));
    runtime.start(&id("web-more"), &shared(&serve(81))).await.unwrap();
    let mut reached = false;
    for _ in 0..100 {
        reached = tokio::net::TcpStream::connect((web.address, 81)).await.is_ok();
        if reached {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(reached, "nobody listens on port 81");
    for name in ["web-more", "web"] {
        runtime.signal(&id(name), libc::SIGKILL, true).await.unwrap();
        runtime.wait(&id(name)).await.unwrap();
    }
    for name in ["web-side", "web-more", "web"] {
        runtime.remove(&id(name)).await.unwrap();
    }
    let error = runtime.start(&id("late"), &shared("exit")).await.unwrap_err();
    assert!(error.to_string().contains("`web`, whose network it shares, has none"), "{error}");
    assert_no_network_is_left(&home);
}
