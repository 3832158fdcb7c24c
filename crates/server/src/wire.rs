//! The shapes that cross the socket.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use tandem_cloud::{
    backup,
    dispatch::Which,
    function::{FunctionStatus, WorkerStatus},
    log::Filter,
    queue::QueueStatus,
    service::ServiceStatus,
    task::{RunId, RunStatus},
    timer::TimerStatus,
    workflow::WorkflowStatus,
};
use tandem_container::Image;
use tandem_engine::CloudId;
use tandem_model::{
    OpId, PhysicalId, Report, ResourceName, Secrets, StackId, Urn, inputs,
    plan::{Applied, Change},
};

/// `GET /v1/cloud`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudInfo {
    pub id: String,
    pub version: String,
    pub pid: u32,
    /// Where stock clients find it: `http://127.0.0.1:4566`.
    pub endpoint: String,
    pub started: Timestamp,
}

/// `POST /v1/resources`, answered by all that the engine made in the stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub stack: StackId,
}

/// `POST /v1/contents`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub resources: Vec<(Urn, PhysicalId)>,
}

/// `POST /v1/apply`, answered by a stream of [`Applying`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Apply {
    pub op: OpId,
    pub change: Change,
    /// The cloud that the plan was made for, as far as the asker knows. Another one refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<CloudId>,
}

/// A record of the answer to an apply; the last one is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Applying {
    Line(String),
    Done(Option<Applied>),
    Failed(Report),
}

/// `POST /v1/secrets`: what the next change of a resource may need. Kept in memory, until that change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entrust {
    pub urn: Urn,
    pub secrets: Secrets,
}

/// `POST /v1/images/build`, answered by a stream of [`Building`]. The folder's archive was uploaded before. The build ends
/// if nobody listens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildFolder {
    pub build: inputs::Build,
    /// What the image is to be called. `None`: after its folder and its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/images/prune`, answered by [`Pruned`](tandem_cloud::Pruned).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prune {
    /// Also images that have a name.
    pub all: bool,
    pub dry_run: bool,
}

/// A record of the answer to a build, or to `POST /v1/images/pull`; the last one is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Building {
    Line(String),
    Done(Image),
    Failed(Report),
}

/// `POST /v1/acknowledge`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledge {
    pub ops: Vec<OpId>,
}

/// `POST /v1/backup`, answered by a stream of [`BackingUp`]. The cloud writes the file; it gives up if nobody listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackUp {
    /// Absolute.
    pub file: PathBuf,
    /// Whether to replace a file that is there.
    pub force: bool,
}

/// A record of the answer to a backup; the last one is `Done` or `Failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackingUp {
    Progress(backup::Progress),
    Done(backup::Summary),
    Failed(Report),
}

/// `POST /v1/env`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    pub stack: StackId,
}

/// `POST /v1/logs`, answered by a stream of [`Line`](tandem_cloud::log::Line).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    pub filter: Filter,
    /// Whether to go on with the lines to come.
    #[serde(default)]
    pub follow: bool,
}

/// `POST /v1/invoke`, answered by [`Invoked`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invoke {
    pub function: Urn,
    pub payload: Value,
}

/// What a handler answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invoked {
    pub payload: Value,
    pub request_id: String,
    pub log_tail: Vec<String>,
    pub duration: Duration,
    pub cold: bool,
}

/// `POST /v1/runs`, answered by [`OfRun`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub task: Urn,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// What the container is given as its input. `null` is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// `POST /v1/runs/status`, `/v1/runs/wait`, `/v1/runs/stop`, answered by [`RunStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfRun {
    pub id: RunId,
}

/// `POST /v1/dead-letters/show`, answered by [`Told`](tandem_cloud::dispatch::Told).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfLetter {
    #[serde(flatten)]
    pub which: Which,
    /// The end of its id.
    pub id: String,
}

/// `POST /v1/dead-letters/redrive`, `/v1/dead-letters/drop`, answered by a stream of [`Moved`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letters {
    #[serde(flatten)]
    pub which: Which,
    /// The ends of their ids: nothing is moved if one is not found. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
}

/// `POST /v1/dead-letters/redrive-queue`, answered by how many messages moved back, when all have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfQueue {
    pub stack: StackId,
    /// By its name in the program, or on the wire.
    pub queue: String,
}

/// `POST /v1/dead-letters/held`, answered by [`Held`](tandem_cloud::dispatch::Held).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    pub stack: StackId,
    /// None: all that the stack has and had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Vec<Urn>>,
}

/// `POST /v1/why`, answered by a list of [`Node`](tandem_cloud::why::Node)s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    pub stack: StackId,
    pub what: String,
}

/// `POST /v1/workflows`, answered by a list of [`InstanceStatus`](tandem_cloud::workflow::InstanceStatus).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfStackOnly {
    pub stack: StackId,
}

/// `POST /v1/workflows/start`, answered by [`Started`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartWorkflow {
    pub stack: StackId,
    pub workflow: ResourceName,
    /// Chosen by the cloud if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    pub id: String,
}

/// `POST /v1/workflows/wait`, answered by [`InstanceStatus`](tandem_cloud::workflow::InstanceStatus); `POST
/// /v1/entities/show`, answered by [`EntityStatus`](tandem_cloud::workflow::EntityStatus).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub stack: StackId,
    pub id: String,
}

/// `POST /v1/workflows/show`, answered by [`InstanceStatus`](tandem_cloud::workflow::InstanceStatus).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShowInstance {
    #[serde(flatten)]
    pub of: Instance,
    /// Whether its events are told, too.
    #[serde(default)]
    pub history: bool,
}

/// `POST /v1/workflows/tell`, answered by [`Told`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tell {
    #[serde(flatten)]
    pub of: Instance,
    #[serde(flatten)]
    pub what: Telling,
}

/// What an instance is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "verb")]
pub enum Telling {
    Raise {
        event: String,
        #[serde(default)]
        data: Value,
    },
    Terminate {
        #[serde(default)]
        reason: String,
    },
    Suspend,
    Resume,
    Rewind,
    Purge,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub id: String,
}

/// `POST /v1/workflows/ending`, answered by a list of [`Ending`](tandem_cloud::workflow::Ending).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub stack: StackId,
    pub deleted: Vec<Urn>,
}

/// `POST /v1/entities`, answered by a list of [`EntityStatus`](tandem_cloud::workflow::EntityStatus).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfEntities {
    pub stack: StackId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/entities/signal`, answered by `null`. The id is `@name@key`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalEntity {
    #[serde(flatten)]
    pub of: Instance,
    pub operation: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// What came of moving a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    pub id: String,
    /// The id of the delivery that it became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// Why it is still where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Report>,
}

/// `POST /v1/ps`, answered by [`Processes`]; `POST /v1/capacity`, answered by
/// [`CapacityStatus`](tandem_cloud::capacity::CapacityStatus), of the machine, with what fits of the stack; `POST /v1/made`, answered by the resources that clients made;
/// `POST /v1/call-off`, which needs a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfStack {
    /// None: all stacks.
    pub stack: Option<StackId>,
}

/// What is deployed and what it is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    pub functions: Vec<FunctionStatus>,
    /// Workers of no deployed function, of whatever stack: those that wait for one, and those of functions that were
    /// removed while they worked.
    #[serde(default)]
    pub spares: Vec<WorkerStatus>,
    /// Those that have not ended, and of each task the last few that have; newest first.
    pub runs: Vec<RunStatus>,
    #[serde(default)]
    pub services: Vec<ServiceStatus>,
    #[serde(default)]
    pub timers: Vec<TimerStatus>,
    #[serde(default)]
    pub queues: Vec<QueueStatus>,
    /// How many instances of each workflow stand how.
    #[serde(default)]
    pub workflows: Vec<WorkflowStatus>,
    /// Events on their way, by subscription.
    pub backlog: BTreeMap<String, usize>,
    /// Events that were given up.
    pub dead_letters: usize,
    /// Buckets and queues that clients made, so that no program declares them.
    #[serde(default)]
    pub made_by_clients: Vec<Made>,
}

/// A resource that no program declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub urn: Urn,
    pub id: PhysicalId,
}

/// `POST /v1/images?name=<name>` with a file as its body; `POST /v1/images/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageName {
    pub name: String,
}

/// Splits a body into newline-delimited JSON records.
pub(crate) fn records<T: DeserializeOwned>(body: Incoming) -> impl Stream<Item = Result<T, String>> + Send {
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(|e| e.to_string()));
    let state = (chunks, BytesMut::new());
    futures::stream::unfold(state, |(mut chunks, mut buffer)| async move {
        loop {
            if let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line = buffer.split_to(end + 1);
                let record = serde_json::from_slice(&line).map_err(|e| format!("not a record: {e}"));
                return Some((record, (chunks, buffer)));
            }
            match chunks.next().await {
                Some(Ok(chunk)) => buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Some((Err(error), (chunks, BytesMut::new()))),
                None => return None,
            }
        }
    })
}

/// One record of a streamed answer.
pub(crate) fn record(value: &impl Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).expect("records are structs with string keys");
    line.push(b'\n');
    line.into()
}
