//! A cloud to measure: `tandem serve` in a folder of its own, stopped when dropped.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use tandem_aws_client::{Signer, hash};

const PATIENCE: Duration = Duration::from_secs(60);

/// The binary to measure: what `TANDEM_BIN` names, or the one beside this program.
pub(crate) fn binary() -> Result<PathBuf> {
    if let Some(named) = env::var_os("TANDEM_BIN") {
        return Ok(named.into());
    }
    Ok(env::current_exe()?.with_file_name("tandem"))
}

pub(crate) struct Cloud {
    folder: TempDir,
    serving: Option<Child>,
    /// From the start of the process to its word that it is ready.
    pub(crate) started_in: Duration,
}

impl Cloud {
    pub(crate) fn start() -> Result<Self> {
        Self::with("")
    }

    /// Starts one with settings of its own.
    pub(crate) fn with(settings: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tandem-bench-").tempdir()?;
        if !settings.is_empty() {
            fs::create_dir(folder.path().join("home"))?;
            fs::write(folder.path().join("home/config.yaml"), settings)?;
        }
        let mut cloud = Self { folder, serving: None, started_in: Duration::ZERO };
        cloud.serve()?;
        Ok(cloud)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.env("TANDEM_HOME", self.folder.path().join("home")).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `tandem` with these arguments in the project's folder, and gives what it printed.
    pub(crate) fn tandem(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command()?.args(arguments).output().context("cannot run tandem")?;
        if !output.status.success() {
            bail!("tandem {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn serve(&mut self) -> Result<()> {
        let mut command = self.command()?;
        command.arg("serve").stdout(Stdio::null()).stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().context("cannot run tandem serve")?;
        let mut stderr = BufReader::new(child.stderr.take().context("serve has no stderr")?);
        self.serving = Some(child);
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if stderr.read_line(&mut line)? == 0 {
                bail!("tandem serve ended: {said}");
            }
            if line.contains("ready at") {
                break;
            }
            said += &line;
        }
        self.started_in = started.elapsed();
        // Its pipe must be read for as long as it lives.
        thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Ok(())
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        if let Some(mut child) = self.serving.take() {
            self.tandem(&["serve", "--stop"])?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops it and starts it again: no worker and no spare is left from before.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.serve()
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.serving.as_ref().context("the cloud does not run")?.id())
    }

    /// Writes the project and deploys it.
    pub(crate) fn deploy(&self, program: &str) -> Result<()> {
        self.write(program)?;
        self.tandem(&["up", "--yes"])?;
        Ok(())
    }

    pub(crate) fn write(&self, program: &str) -> Result<()> {
        fs::write(self.folder().join("Tandem.yaml"), "name: bench\nruntime: js\n")?;
        fs::write(self.folder().join("index.js"), program)?;
        Ok(())
    }

    pub(crate) fn output(&self, name: &str) -> Result<String> {
        Ok(self.tandem(&["stack", "output", name])?.trim_end().to_owned())
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let variables: BTreeMap<String, String> = serde_json::from_str(&self.tandem(&["env", "--json"])?)?;
        let variable =
            |name: &str| variables.get(name).cloned().with_context(|| format!("`tandem env` has no {name}"));
        let url = variable("AWS_ENDPOINT_URL")?;
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let signer = Signer {
            key_id: variable("AWS_ACCESS_KEY_ID")?,
            secret: variable("AWS_SECRET_ACCESS_KEY")?,
            region: variable("AWS_REGION").or_else(|_| variable("AWS_DEFAULT_REGION"))?,
        };
        Ok(Endpoint {
            address: host.parse().with_context(|| format!("`{host}` is not an address"))?,
            host,
            signer,
        })
    }

    pub(crate) fn log(&self) -> Result<Log> {
        Log::follow(self.command()?.args(["logs", "--follow", "--json"]))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.tandem(&["destroy", "--yes", "--force"]);
        if self.stop().is_err() {
            eprintln!("the measured cloud in {} could not be stopped", self.folder.path().display());
        }
    }
}

/// The log as it grows: when a line was printed, and what it says.
pub(crate) struct Log {
    child: Child,
    lines: mpsc::Receiver<(Timestamp, String)>,
}

impl Log {
    fn follow(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run tandem logs")?;
        let stdout = child.stdout.take().context("the log has no output")?;
        let (send, lines) = mpsc::channel();
        thread::spawn(move || Self::read(stdout, &send));
        Ok(Self { child, lines })
    }

    fn read(stdout: ChildStdout, send: &mpsc::Sender<(Timestamp, String)>) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            let time = line["time"].as_str().and_then(|time| time.parse().ok());
            if let (Some(time), Some(text)) = (time, line["text"].as_str())
                && send.send((time, text.to_owned())).is_err()
            {
                return;
            }
        }
    }

    /// Waits for a line of exactly this text and gives its time.
    pub(crate) fn wait_for(&self, text: &str) -> Result<Timestamp> {
        Ok(self.wait_for_all(&[(text, 1)])?[0])
    }

    /// Waits until each text was printed so many times, in any order; answers when each was for the last time.
    pub(crate) fn wait_for_all(&self, texts: &[(&str, usize)]) -> Result<Vec<Timestamp>> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = vec![(0, Timestamp::UNIX_EPOCH); texts.len()];
        while let Some(missing) = texts.iter().zip(&seen).find(|((_, times), (seen, _))| seen < times) {
            let left = deadline.saturating_duration_since(Instant::now());
            let text = missing.0.0;
            let (time, line) =
                self.lines.recv_timeout(left).with_context(|| format!("`{text}` was not logged"))?;
            if let Some(found) = texts.iter().position(|(text, _)| *text == line) {
                seen[found] = (seen[found].0 + 1, time.max(seen[found].1));
            }
        }
        Ok(seen.into_iter().map(|(_, time)| time).collect())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time from one moment of the wall clock to another; zero if the clock or the order of things went the other way.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// Where the cloud answers, and with which key.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    host: String,
    signer: Signer,
}

impl Endpoint {
    /// A server of another make.
    pub(crate) fn new(address: SocketAddr, signer: Signer) -> Self {
        Self { address, host: address.to_string(), signer }
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        Ok(Connection { sender: open(self.address).await?, endpoint: self.clone() })
    }
}

/// One connection that stays open, without Nagle's delay.
pub(crate) async fn open(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Bodies up to this size are signed with their hash, larger ones without.
const HASHED: usize = 64 << 10;
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A value as it stands in a query, and as it is signed.
fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// A signing client on one connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    endpoint: Endpoint,
}

impl Connection {
    /// Sends a signed request and reads the whole answer; anything but success is an error.
    async fn send(&mut self, method: &str, path: &str, service: &str, body: Bytes) -> Result<Bytes> {
        // Hashing a large body would measure the client.
        let payload = if body.len() > HASHED { UNSIGNED.to_owned() } else { hash(&body) };
        let response = self.respond(method, path, service, body, &payload).await?;
        let status = response.status();
        let failed = response.headers().contains_key("x-amz-function-error");
        let answer = response.into_body().collect().await?.to_bytes();
        if !status.is_success() || failed {
            bail!("{method} {path}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(answer)
    }

    async fn respond(
        &mut self,
        method: &str,
        path: &str,
        service: &str,
        body: Bytes,
        payload: &str,
    ) -> Result<Response<Incoming>> {
        self.respond_to(Request::builder().method(method).uri(path), service, body, payload).await
    }

    async fn respond_to(
        &mut self,
        request: http::request::Builder,
        service: &str,
        body: Bytes,
        payload: &str,
    ) -> Result<Response<Incoming>> {
        let mut request = request.header("host", &self.endpoint.host).body(Full::new(body))?;
        self.endpoint.signer.sign(&mut request, service, payload, Timestamp::now());
        // Some servers end a connection after so many requests.
        if self.sender.is_closed() || self.sender.ready().await.is_err() {
            self.sender = open(self.endpoint.address).await?;
        }
        Ok(self.sender.send_request(request).await?)
    }

    pub(crate) async fn create_bucket(&mut self, bucket: &str) -> Result<()> {
        self.send("PUT", &format!("/{bucket}"), "s3", Bytes::new()).await.map(drop)
    }

    /// Reads an object without keeping it, and gives its size.
    pub(crate) async fn drain(&mut self, bucket: &str, key: &str) -> Result<u64> {
        let path = format!("/{bucket}/{key}");
        let response = self.respond("GET", &path, "s3", Bytes::new(), &hash(&[])).await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut size = 0;
        while let Some(frame) = body.frame().await {
            size += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        if !status.is_success() {
            bail!("GET {path}: {status}");
        }
        Ok(size)
    }

    /// One page of a listing, version 2: how many keys it has, and the token of the next.
    pub(crate) async fn list(
        &mut self,
        bucket: &str,
        prefix: &str,
        token: Option<&str>,
    ) -> Result<(usize, Option<String>)> {
        let token = token.map(|token| format!("continuation-token={}&", escape(token))).unwrap_or_default();
        let prefix = escape(prefix);
        let path = format!("/{bucket}?{token}list-type=2&max-keys=1000&prefix={prefix}");
        let page = self.send("GET", &path, "s3", Bytes::new()).await?;
        let page = std::str::from_utf8(&page)?;
        let next = page.split_once("<NextContinuationToken>").and_then(|(_, rest)| rest.split_once('<'));
        Ok((page.matches("<Key>").count(), next.map(|(token, _)| token.to_owned())))
    }

    pub(crate) async fn put(&mut self, bucket: &str, key: &str, body: &Bytes) -> Result<()> {
        self.send("PUT", &format!("/{bucket}/{key}"), "s3", body.clone()).await.map(drop)
    }

    /// An action of SQS, in the JSON protocol.
    pub(crate) async fn sqs(&mut self, action: &str, parameters: &Value) -> Result<Value> {
        self.json("sqs", "AmazonSQS", action, Bytes::from(parameters.to_string())).await
    }

    /// An action of Kinesis. The parameters are JSON that was made before: to make it is not what is measured.
    pub(crate) async fn kinesis(&mut self, action: &str, parameters: Bytes) -> Result<Value> {
        self.json("kinesis", "Kinesis_20131202", action, parameters).await
    }

    async fn json(&mut self, service: &str, target: &str, action: &str, body: Bytes) -> Result<Value> {
        let request = Request::builder()
            .method("POST")
            .uri("/")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{target}.{action}"));
        let payload = hash(&body);
        let response = self.respond_to(request, service, body, &payload).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{action}: {status} {}", String::from_utf8_lossy(&answer));
        }
        Ok(if answer.is_empty() { Value::Null } else { serde_json::from_slice(&answer)? })
    }

    /// Invokes a function through the Lambda API and waits for its answer.
    pub(crate) async fn invoke(&mut self, function: &str, payload: impl Into<Bytes>) -> Result<Bytes> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        self.send("POST", &path, "lambda", payload.into()).await
    }
}

/// A runtime for the client's side: the driver shares the machine with what it drives.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
