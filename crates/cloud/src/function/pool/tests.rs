//! The pools over the wire: with the stock runtime client of Python, and with a client that misbehaves.
//!
//! A worker here is a process with a TCP address of its own for the Runtime API, as a container would have.

use std::{
    collections::{BTreeMap, HashMap},
    env,
    net::{SocketAddr, TcpListener as StdListener},
    os::{fd::OwnedFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{OnceLock, mpsc},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde_json::{Value, json};
use tandem_model::{ByteSize, PhysicalId, inputs, resource::Properties};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::*;
use crate::{
    function::{output::Output, runtime_api},
    log::{Line, Sink, Stream},
};

const F: FunctionId = FunctionId(1);

#[derive(Default)]
struct Kept(Mutex<Vec<(String, String)>>);
impl Sink for Kept {
    fn write(&self, line: Line) {
        self.0.lock().unwrap().push((line.id, line.text));
    }
}

/// Serves each worker's Runtime API on TCP, and runs `python -m awslambdaric` at the other end, if there is one.
struct OnTcp {
    /// The folder with `app.py`.
    program: Option<PathBuf>,
    log: Arc<Kept>,
    pools: OnceLock<Weak<Pools>>,
    started: Mutex<HashMap<WorkerId, (SocketAddr, Arc<Session>)>>,
    kill: Mutex<HashMap<WorkerId, oneshot::Sender<()>>>,
    /// Every address, as workers are assigned.
    assigned: mpsc::SyncSender<SocketAddr>,
}

/// The Python with the stock clients that `cargo xtask setup` installs beside what is built.
fn python() -> PathBuf {
    let beside = || {
        let binary = env::current_exe().ok()?;
        binary.ancestors().map(|folder| folder.join("py/bin/python")).find(|python| python.exists())
    };
    let python = env::var_os("TANDEM_TEST_PYTHON").map(PathBuf::from).or_else(beside);
    python.expect("the stock clients are missing; run `cargo xtask setup`")
}

impl Launch for Arc<OnTcp> {
    fn start(&self, session: &Arc<Session>) -> io::Result<()> {
        let listener = StdListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        self.started.lock().unwrap().insert(session.worker, (listener.local_addr()?, session.clone()));
        let listener = TcpListener::from_std(listener)?;
        let session = session.clone();
        tokio::spawn(async move {
            // As many connections as the client likes, for one worker.
            while let Ok((connection, _)) = listener.accept().await {
                connection.set_nodelay(true).unwrap();
                tokio::spawn(runtime_api::serve(session.clone(), connection));
            }
        });
        Ok(())
    }

    fn assign(&self, worker: WorkerId, version: &Arc<Version>) {
        let (address, session) = self.started.lock().unwrap()[&worker].clone();
        let (kill, killed) = oneshot::channel();
        self.kill.lock().unwrap().insert(worker, kill);
        let this = self.clone();
        let _ = self.assigned.try_send(address);
        let child = self.program.as_ref().map(|folder| {
            let (pipes, ends) = pipes();
            let [out, err] = ends;
            session.prints_to(Arc::new(Output::new(self.log.clone(), pipes)));
            session.output().unwrap().assign(version.urn.clone());
            Command::new(python())
                .args(["-m", "awslambdaric", &version.inputs.handler])
                .current_dir(folder)
                .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
                .env("PYTHONUNBUFFERED", "1")
                .stdout(Stdio::from(out))
                .stderr(Stdio::from(err))
                .kill_on_drop(true)
                .spawn()
                .unwrap()
        });
        tokio::spawn(async move {
            let loss = match child {
                Some(mut child) => tokio::select! {
                    status = child.wait() => match status.unwrap() {
                        status if status.code().is_some() => Loss::Exited(status.code().unwrap()),
                        status => Loss::Signalled(status.signal().unwrap()),
                    },
                    _ = killed => {
                        child.kill().await.unwrap();
                        Loss::Signalled(libc::SIGKILL)
                    }
                },
                None => {
                    let _ = killed.await;
                    Loss::Signalled(libc::SIGKILL)
                }
            };
            this.pools().exited(worker, loss, None);
        });
    }

    fn kill(&self, worker: WorkerId) {
        if let Some(kill) = self.kill.lock().unwrap().remove(&worker) {
            let _ = kill.send(());
        }
    }

    fn forget(&self, _: WorkerId) {}
}

impl OnTcp {
    fn pools(&self) -> Arc<Pools> {
        self.pools.get().unwrap().upgrade().unwrap()
    }
}

fn pipes() -> ([(OwnedFd, Stream); 2], [OwnedFd; 2]) {
    let [(out, out_end), (err, err_end)] = [(); 2].map(|()| {
        let (reader, writer) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        (OwnedFd::from(reader), OwnedFd::from(writer))
    });
    ([(out, Stream::Stdout), (err, Stream::Stderr)], [out_end, err_end])
}

const LIMITS: Limits = Limits {
    at_once: 2,
    at_most: 2,
    spares: 0,
    idle: Duration::from_secs(60),
    stall: Duration::from_millis(200),
    init: Duration::from_secs(30),
    queue: 100,
};

fn pools(program: Option<&Path>, timeout: f64) -> (Arc<Pools>, Arc<Kept>, mpsc::Receiver<SocketAddr>) {
    let log = Arc::<Kept>::default();
    let (assigned, addresses) = mpsc::sync_channel(16);
    let launch = Arc::new(OnTcp {
        program: program.map(Path::to_owned),
        log: log.clone(),
        pools: OnceLock::new(),
        started: Mutex::default(),
        kill: Mutex::default(),
        assigned,
    });
    let pools = Pools::new(LIMITS, Arc::new(launch.clone()));
    launch.pools.set(Arc::downgrade(&pools)).unwrap();
    let inputs = inputs::Function {
        code: String::new(),
        handler: "app.handler".to_owned(),
        memory: ByteSize::mebibytes(128),
        timeout,
        concurrency: 2,
        environment: BTreeMap::new(),
        config: BTreeMap::new(),
    };
    let urn = "urn:tandem:shop:dev:function:f".parse().unwrap();
    let properties = Properties::new();
    pools.define(Version::new(F, 1, urn, PhysicalId("f-1".to_owned()), inputs, &properties));
    (pools, log, addresses)
}

fn ask(request: &str, payload: &Value) -> Ask {
    Ask { request: request.to_owned(), payload: payload.to_string().into(), traceparent: None, begin: None }
}

fn answered(ended: Result<Ended, Refused>) -> Value {
    match ended.unwrap().how {
        How::Answered(Ok(payload)) => serde_json::from_slice(&payload).unwrap(),
        how => panic!("{how:?}"),
    }
}

const APP: &str = r#"
import os
def handler(event, context):
    print("handling", event.get("n"))
    if event.get("fail"):
        raise ValueError("no " + event["fail"])
    if event.get("exit"):
        os._exit(3)
    return {"n": event["n"] * 2, "id": context.aws_request_id, "arn": context.invoked_function_arn,
            "left": context.get_remaining_time_in_millis()}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_python_runtime_client_serves_a_pool() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.py"), APP).unwrap();
    let (pools, log, _) = pools(Some(folder.path()), 60.0);

    let first = answered(pools.invoke(F, ask("r1", &json!({ "n": 21 }))).await);
    assert_eq!(first["n"], 42);
    assert_eq!(first["id"], "r1");
    assert_eq!(first["arn"], "arn:aws:lambda:local:000000000000:function:f-1");
    let left = first["left"].as_u64().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    assert!(log.0.lock().unwrap().contains(&("r1".to_owned(), "handling 21".to_owned())));

    let failed = pools.invoke(F, ask("r2", &json!({ "n": 1, "fail": "way" }))).await.unwrap();
    let How::Answered(Err(error)) = failed.how else { panic!("{failed:?}") };
    assert_eq!((error.error_type.as_str(), error.error_message.as_str()), ("ValueError", "no way"));
    assert!(error.stack_trace.iter().any(|frame| frame.contains("app.py")), "{error:?}");
    assert!(!failed.cold, "the worker goes on");

    let lost = pools.invoke(F, ask("r3", &json!({ "n": 1, "exit": true }))).await.unwrap();
    assert!(matches!(lost.how, How::Lost(Loss::Exited(3))), "{lost:?}");
    let again = pools.invoke(F, ask("r4", &json!({ "n": 2 }))).await.unwrap();
    assert!(again.cold);
    pools.close(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stock_python_runtime_client_reports_a_program_that_does_not_load() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.py"), "import nothing_of_that_name\n").unwrap();
    let (pools, _, _) = pools(Some(folder.path()), 60.0);
    let ended = pools.invoke(F, ask("r1", &json!({}))).await.unwrap();
    // Some releases report it at the first request, some before.
    let (How::InitFailed(error) | How::Answered(Err(error))) = ended.how else { panic!("{ended:?}") };
    assert!(error.error_type.contains("ImportModuleError"), "{error:?}");
    pools.close(Duration::ZERO).await;
}

/// Sends one request on a connection of its own, and answers status, headers and body.
async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

const NEXT: &str = "/2018-06-01/runtime/invocation/next";

fn response_to(request: &str) -> String {
    format!("/2018-06-01/runtime/invocation/{request}/response")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_known_by_its_id_and_not_by_its_connection() {
    let (pools, _, addresses) = pools(None, 60.0);
    let asked = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.invoke(F, ask("r1", &json!({ "a": 1 }))).await })
    };
    let address = tokio::task::spawn_blocking(move || addresses.recv().unwrap()).await.unwrap();
    let (status, head, body) = http(address, "GET", NEXT, "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"a":1}"#));
    assert!(head.contains("lambda-runtime-aws-request-id: r1"), "{head}");
    assert!(head.contains("lambda-runtime-deadline-ms: "), "{head}");

    let (status, _, body) = http(address, "POST", &response_to("other"), "1").await;
    assert_eq!(status, 400);
    assert!(body.contains("InvalidRequestID"), "{body}");
    assert_eq!(http(address, "POST", &response_to("r1"), "\"done\"").await.0, 202);
    assert_eq!(answered(asked.await.unwrap()), "done");
    assert_eq!(http(address, "POST", &response_to("r1"), "\"twice\"").await.0, 400, "answered once");
    assert_eq!(http(address, "GET", "/2018-06-01/elsewhere", "").await.0, 404);
    pools.close(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_after_the_deadline_is_refused() {
    let (pools, _, addresses) = pools(None, 0.1);
    let asked = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.invoke(F, ask("r1", &json!(1))).await })
    };
    let address = tokio::task::spawn_blocking(move || addresses.recv().unwrap()).await.unwrap();
    http(address, "GET", NEXT, "").await;
    let ended = asked.await.unwrap().unwrap();
    assert!(matches!(ended.how, How::TimedOut(_)), "{ended:?}");
    assert_eq!(http(address, "POST", &response_to("r1"), "1").await.0, 400);
    assert_eq!(http(address, "GET", NEXT, "").await.0, 410, "the worker is to end");
    pools.close(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_caller_left_before_it_started_is_forgotten() {
    let (pools, _, addresses) = pools(None, 60.0);
    let left = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.invoke(F, ask("left", &json!(1))).await })
    };
    let address = tokio::task::spawn_blocking(move || addresses.recv().unwrap()).await.unwrap();
    left.abort();
    assert!(left.await.unwrap_err().is_cancelled());
    let stays = {
        let pools = pools.clone();
        tokio::spawn(async move { pools.invoke(F, ask("stays", &json!(2))).await })
    };
    let (_, head, _) = http(address, "GET", NEXT, "").await;
    assert!(head.contains("lambda-runtime-aws-request-id: stays"), "{head}");
    assert_eq!(http(address, "POST", &response_to("stays"), "2").await.0, 202);
    assert_eq!(answered(stays.await.unwrap()), 2);
    pools.close(Duration::ZERO).await;
}
