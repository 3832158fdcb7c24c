//! The control socket: what the cloud says of itself, and the log.

use std::path::PathBuf;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

/// Asks one cloud. A connection is made for each question.
pub(super) struct Control {
    socket: PathBuf,
    stack: Value,
}

/// A line of the log.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// The request's or the run's.
    pub(super) id: String,
    pub(super) stream: String,
    pub(super) text: String,
}

impl Control {
    pub(super) fn new(socket: PathBuf, project: &str) -> Self {
        Self { socket, stack: json!({ "project": project, "stack": "dev" }) }
    }

    /// None if the cloud is not there, or dies before it has answered.
    async fn post(&self, path: &str, body: &Value) -> Option<Bytes> {
        let stream = UnixStream::connect(&self.socket).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::post(path).header("host", "tandem").header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.ok()?.to_bytes();
        assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&bytes));
        Some(bytes)
    }

    /// Functions with their workers, runs, events on their way, the number of dead letters.
    pub(super) async fn processes(&self) -> Option<Value> {
        let answer = self.post("/v1/ps", &json!({ "stack": self.stack })).await?;
        Some(serde_json::from_slice(&answer).unwrap())
    }

    /// How a run stands.
    pub(super) async fn run(&self, id: &str) -> Option<Value> {
        let answer = self.post("/v1/runs/status", &json!({ "id": id })).await?;
        Some(serde_json::from_slice(&answer).unwrap())
    }

    /// The lines of all functions and runs since then, in RFC 3339.
    pub(super) async fn log(&self, since: &str) -> Option<Vec<Line>> {
        let asked = json!({ "filter": { "stack": self.stack, "since": since } });
        let text = self.post("/v1/logs", &asked).await?;
        let parse = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            Line { id: field("id"), stream: field("stream"), text: field("text") }
        };
        Some(std::str::from_utf8(&text).unwrap().lines().map(parse).collect())
    }
}
