//! The escape suite of functions: hostile code in a real worker, and what it does not achieve.
//!
//! Each test deploys a function and a victim, takes over the function's worker in the middle of a request
//! ([`possess`]), and lets native code make its attempts from there. Afterwards every attempt must have failed, the
//! victim's worker must still be the same and have its secret, and the function must answer again.

mod attack;
mod bounds;
mod calls;
mod possess;
mod protocol;
mod reach;

use std::{
    fs,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_cloud::function::{Functions, Invocation, InvokeError, Invoked, Settings, WorkerState};
use tokio::task::JoinHandle;

use crate::{
    Run, Trials,
    cloud::{Cloud, answer, is_alive, urn},
};

const SOURCE: &str = r#"
    const cloud = require("@tandem/cloud"), fs = require("fs");
    const wait = (millis) => new Promise(resolve => setTimeout(resolve, millis));
    new cloud.Function("hostile", async (e) => { await wait(e.wait || 0); return "well"; });
    new cloud.Function("victim", async (e) => {
        if (!e.wait) fs.writeFileSync("/tmp/secret", "of the victim");
        await wait(e.wait || 0);
        return fs.readFileSync("/tmp/secret", "utf8") + process.env.SECRET;
    });
    new cloud.Function("other", async () => "well");
"#;
const SECRET: &str = "of the victim, too";

/// A cloud with a victim whose worker runs.
struct Stage {
    cloud: Cloud,
    victim: i32,
    taken: TcpListener,
    _socket: UnixListener,
    datagrams: UnixDatagram,
}

impl Stage {
    async fn set(cloud: Cloud, timeout: f64) -> Self {
        let inputs = json!({ "memory": 64, "timeout": timeout, "environment": { "SECRET": ", too" } });
        for name in ["hostile", "victim"] {
            cloud.deploy(name, SOURCE, inputs.clone()).await;
        }
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = UnixListener::bind(cloud.home.path().join("control.sock")).unwrap();
        let address = SocketAddr::from_abstract_name(abstract_name()).unwrap();
        let datagrams = UnixDatagram::bind_addr(&address).unwrap();
        let stage = Self { cloud, victim: 0, taken, _socket: socket, datagrams };
        stage.victim_is_well().await;
        let victim = stage.worker("victim");
        Self { victim, ..stage }
    }

    fn worker(&self, name: &str) -> i32 {
        let all = self.cloud.functions.status();
        all.iter().find(|f| f.urn == urn(name)).unwrap().workers[0].pid.unwrap()
    }

    async fn victim_is_well(&self) {
        let said = self.cloud.invoke("victim", "v", json!({})).await.unwrap();
        assert_eq!(answer(&said), SECRET);
    }

    /// Begins a request that lasts longer than any attack.
    async fn begin(&self, name: &'static str, wait: u64) -> JoinHandle<Result<Invoked, InvokeError>> {
        let functions = self.cloud.functions.clone();
        let running = tokio::spawn(invoke(functions, name, json!({ "wait": wait })));
        self.cloud
            .until("the request in its worker", || {
                let all = self.cloud.functions.status();
                all.iter().any(|f| {
                    f.urn == urn(name)
                        && f.workers.iter().any(|w| w.state == WorkerState::Busy && w.pid.is_some())
                })
            })
            .await;
        // Its program has been loaded once its first line runs, which nothing outside can see but this.
        self.cloud.until("its handler", || is_waiting(self.worker(name))).await;
        running
    }

    /// Takes over the hostile function's worker, and answers how its request ended.
    async fn possessed(&self, attack: extern "C" fn() -> !) -> InvokeError {
        let running = self.begin("hostile", 60_000).await;
        let home = self.cloud.home.path().display();
        let told = format!(
            "victim={}\ncloud={}\nhome={home}\nsocket={home}/control.sock\nabstract={}\ntaken={}\nrequest=of-victim\nown=of-hostile\n",
            self.victim,
            std::process::id(),
            abstract_name(),
            self.taken.local_addr().unwrap().port(),
        );
        possess::possess(self.worker("hostile"), attack, &told);
        running.await.unwrap().unwrap_err()
    }

    fn said(&self) -> Vec<String> {
        self.cloud.log.of("of-hostile")
    }

    /// Nobody else has taken harm, and the function itself has a new worker.
    async fn all_is_well(&self) {
        self.victim_is_well().await;
        assert_eq!(self.worker("victim"), self.victim, "the victim's worker is another");
        let again = self.cloud.invoke("hostile", "again", json!({})).await.unwrap();
        assert_eq!(answer(&again), "well");
        self.datagrams.set_nonblocking(true).unwrap();
        assert!(self.datagrams.recv(&mut [0]).is_err(), "something came by the abstract address");
    }
}

fn abstract_name() -> String {
    format!("tandem-escape-{}", std::process::id())
}

async fn invoke(functions: Functions, name: &'static str, event: Value) -> Result<Invoked, InvokeError> {
    let request_id = format!("of-{name}");
    functions
        .invoke(&urn(name), Invocation { request_id, payload: event.to_string().into(), traceparent: None })
        .await
}

/// Whether the process's first thread sleeps in a wait for events with a timer, as the handler's does.
fn is_waiting(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let mut fields = call.split(' ');
    let number = fields.next().and_then(|number| number.parse::<i64>().ok());
    let timeout =
        fields.nth(3).and_then(|timeout| i64::from_str_radix(timeout.trim_start_matches("0x"), 16).ok());
    number.is_some_and(|n| [libc::SYS_epoll_wait, libc::SYS_epoll_pwait].contains(&n))
        && timeout.is_some_and(|timeout| (10_000..100_000).contains(&timeout))
}

/// Of this process, in MiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

fn settings() -> Settings {
    Settings { spares: 0, ..Settings::default() }
}

pub(crate) fn trials() -> Trials {
    let mut all = Trials::new();
    for attack in calls::TESTS.iter().chain(reach::TESTS).chain(bounds::TESTS) {
        all.push((
            attack.name,
            Box::new(move |test| {
                test.run(settings(), |cloud| async move {
                    let stage = Stage::set(cloud, 120.0).await;
                    let error = stage.possessed(attack.run).await;
                    attack::judge(&stage.said(), attack.lines);
                    assert!(matches!(error, InvokeError::WorkerLost { .. }), "{error}");
                    stage.all_is_well().await;
                })
            }),
        ));
    }
    for (name, glutton) in bounds::GLUTTONS {
        all.push((
            name,
            Box::new(move |test| {
                test.run(settings(), |cloud| async move {
                    let stage = Stage::set(cloud, 120.0).await;
                    let error = stage.possessed(*glutton).await;
                    let expected = "function/hostile ran out of memory: limit 64 MiB";
                    assert_eq!(error.to_string(), expected, "{:?}", stage.said());
                    stage.all_is_well().await;
                })
            }),
        ));
    }
    all.extend(TESTS.iter().map(|(name, run)| (*name, Box::new(*run) as _)));
    all
}

const TESTS: &[(&str, Run)] = &[
    ("escape::a_request_of_another_function_is_not_answered", |test| {
        test.run(settings(), |cloud| async move {
            let stage = Stage::set(cloud, 120.0).await;
            let running = stage.begin("victim", 20_000).await;
            stage.possessed(protocol::answers_for_another).await;
            attack::judge(&stage.said(), 2);
            assert!(!running.is_finished(), "the victim's request was ended");
            running.abort();
        })
    }),
    ("escape::no_call_is_made_in_the_name_of_another_function", |test| {
        test.run(settings(), |cloud| async move {
            let stage = Stage::set(cloud, 120.0).await;
            let running = stage.begin("victim", 20_000).await;
            stage.possessed(protocol::calls_for_another).await;
            attack::judge(&stage.said(), 1);
            // It is taken as the function's own, outside of any request.
            let calls = stage.cloud.calls.0.lock().unwrap();
            assert_eq!(calls.len(), 1);
            assert_eq!((&calls[0].0.of, calls[0].0.request.as_str()), (&urn("hostile"), ""));
            assert!(!running.is_finished());
            running.abort();
        })
    }),
    ("escape::nonsense_ends_its_worker_and_nothing_else", |test| {
        test.run(settings(), |cloud| async move {
            let stage = Stage::set(cloud, 120.0).await;
            let before = resident();
            stage.possessed(protocol::talks_nonsense).await;
            assert!(resident() < before + 64, "{before} MiB became {}", resident());
            stage.all_is_well().await;
        })
    }),
    ("escape::answers_that_nobody_reads_do_not_pile_up", |test| {
        test.run(settings(), |cloud| async move {
            let stage = Stage::set(cloud, 3.0).await;
            let before = resident();
            let error = stage.possessed(protocol::asks_and_never_listens).await;
            assert_eq!(error.to_string(), "function/hostile timed out after 3 s");
            assert!(resident() < before + 256, "{before} MiB became {}", resident());
            stage.all_is_well().await;
        })
    }),
    ("escape::who_computes_for_ever_is_ended_at_its_deadline_and_others_go_on_meanwhile", |test| {
        test.run(settings(), |cloud| async move {
            let stage = Stage::set(cloud, 4.0).await;
            stage.cloud.deploy("other", SOURCE, json!({})).await;
            let attack = stage.possessed(bounds::busy_for_ever);
            let others = async {
                stage.cloud.until("the attack", || threads_of(&stage, "hostile") > 60).await;
                for name in ["hostile", "victim"] {
                    assert!(has_a_share_of_its_own(stage.worker(name)), "{name}");
                }
                let since = Instant::now();
                stage.victim_is_well().await;
                let warm = since.elapsed();
                stage.cloud.invoke("other", "cold", json!({})).await.unwrap();
                let cold = since.elapsed() - warm;
                assert!(warm + cold < Duration::from_secs(2), "warm {warm:?}, cold {cold:?}");
                stage.worker("hostile")
            };
            let (error, pid) = tokio::join!(attack, others);
            assert_eq!(error.to_string(), "function/hostile timed out after 4 s");
            assert!(!is_alive(pid));
            stage.all_is_well().await;
        })
    }),
];

/// Whether the process is in a group with the controller of the processors that is a worker's.
fn has_a_share_of_its_own(pid: i32) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
        let version_2 = || {
            let there = fs::read_to_string(format!("/sys/fs/cgroup{path}/cgroup.controllers"));
            controllers.is_empty() && there.is_ok_and(|all| all.split_whitespace().any(|one| one == "cpu"))
        };
        path.contains("/worker-") && (controllers.split(',').any(|one| one == "cpu") || version_2())
    })
}

fn threads_of(stage: &Stage, name: &str) -> usize {
    let all = stage.cloud.functions.status();
    let worker = all.iter().find(|f| f.urn == urn(name)).and_then(|f| f.workers.first()?.pid);
    worker.and_then(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).map_or(0, Iterator::count)
}
