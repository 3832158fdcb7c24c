//! The calls of running programs, answered by the services.
//!
//! A program reaches the resources of its own stack and no others (I8). What it starts is named after the request in
//! which it does so: a request that is handled again finds it (I4).

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tandem_model::{ByteSize, Explain, Kind, Report, ResourceName, Urn};

use crate::{
    archive,
    bucket::{BucketError, Buckets, Description, PutOptions, Query},
    call::{Caller, Calls},
    function::{Functions, Invocation},
    log::{Filter, Log},
    queue::Queues,
    stream::Streams,
    task::{RunId, RunRequest, RunStatus, Tasks},
    topic::{Publication, Topics},
    workflow::Workflows,
};

/// Answers programs.
pub(crate) struct ProgramCalls {
    pub(crate) buckets: Arc<Buckets>,
    pub(crate) tasks: Tasks,
    pub(crate) topics: Arc<Topics>,
    pub(crate) queues: Arc<Queues>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) log: Log,
    /// Set once the functions, which need the calls, are there.
    pub(crate) functions: OnceLock<Functions>,
    pub(crate) workflows: OnceLock<Workflows>,
}

/// The largest object that `bucket.get` answers, in bytes: it is in memory several times on its way.
const LARGEST: u64 = 64 << 20;
/// The most keys that `bucket.list` answers.
const MOST_KEYS: usize = 100_000;

/// A call that was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallFault {
    #[error("the cloud knows no call `{method}`")]
    Unknown { method: String },
    #[error("the arguments of `{method}` do not fit: {reason}")]
    Arguments { method: String, reason: String },
    #[error("`{key}` has {size}, more than the {} that a handler is given at once", ByteSize(LARGEST))]
    TooLarge { key: String, size: ByteSize },
    #[error("there are more than {MOST_KEYS} keys to list")]
    TooMany,
    #[error("`{what}` belongs to another stack, or does not exist")]
    OutOfReach { what: String },
}

impl Explain for CallFault {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "E0320",
            Self::Arguments { .. } => "E0321",
            Self::OutOfReach { .. } => "E0322",
            Self::TooLarge { .. } | Self::TooMany => "E0323",
        }
    }
    fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => "run `tandem up` and `tandem serve` of one version".into(),
            Self::Arguments { .. } => "see the typings of `@tandem/cloud`".into(),
            Self::TooLarge { .. } => {
                "read it in parts with an S3 client; the handler has credentials in its environment".into()
            }
            Self::TooMany => "list by a longer prefix".into(),
            Self::OutOfReach { .. } => {
                "declare it in this program: a handler reaches what its stack declares".into()
            }
        }
    }
}

#[derive(Deserialize)]
struct Key {
    bucket: String,
    key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Put {
    bucket: String,
    key: String,
    /// In base 64.
    body: String,
    #[serde(default)]
    content_type: Option<String>,
}

#[derive(Deserialize)]
struct List {
    bucket: String,
    #[serde(default)]
    prefix: Option<String>,
}

#[derive(Deserialize)]
struct RunTask {
    task: ResourceName,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    command: Option<Vec<String>>,
    #[serde(default)]
    input: Option<Value>,
}

#[derive(Deserialize)]
struct OfRun {
    id: RunId,
}

#[derive(Deserialize)]
struct Publish {
    topic: ResourceName,
    message: Value,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Invoke {
    function: ResourceName,
    payload: Value,
}

/// What names a call within a request, so that a request that is handled again makes the same (I4). Outside of a request
/// nothing is repeated, so there is nothing to find again.
pub(super) fn key(caller: &Caller) -> Option<String> {
    let Caller { of, request, ordinal, .. } = caller;
    (!request.is_empty()).then(|| format!("{of}/{request}/{ordinal}"))
}

/// How an invocation is called. A container that has no answer when the cloud is killed asks again, under the same name, as
/// an event that is delivered again has it.
fn request_of(caller: &Caller) -> String {
    if caller.of.kind == Kind::Function {
        return uuid::Uuid::new_v4().to_string();
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(key(caller).unwrap_or_default())[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

pub(super) fn arguments<T: DeserializeOwned>(method: &str, args: Value) -> Result<T, Report> {
    serde_json::from_value(args)
        .map_err(|e| CallFault::Arguments { method: method.to_owned(), reason: e.to_string() }.report())
}

#[async_trait]
impl Calls for ProgramCalls {
    async fn call(&self, caller: &Caller, method: &str, args: Value) -> Result<Value, Report> {
        match method {
            "bucket.get" => self.bucket_get(caller, arguments(method, args)?).await,
            "bucket.put" => self.bucket_put(caller, arguments(method, args)?).await,
            "bucket.delete" => self.bucket_delete(caller, arguments(method, args)?).await,
            "bucket.list" => self.bucket_list(caller, arguments(method, args)?),
            "task.run" => self.task_run(caller, arguments(method, args)?).await,
            "run.wait" => {
                let id = self.reachable_run(caller, arguments(method, args)?)?.id;
                Ok(json!(self.tasks.wait(&id).await.map_err(|e| e.report())?))
            }
            "run.status" => Ok(json!(self.reachable_run(caller, arguments(method, args)?)?)),
            "run.logs" => self.run_logs(caller, arguments(method, args)?).await,
            "run.stop" => {
                let id = self.reachable_run(caller, arguments(method, args)?)?.id;
                Ok(json!(self.tasks.stop(&id).await.map_err(|e| e.report())?))
            }
            "topic.publish" => self.topic_publish(caller, arguments(method, args)?).await,
            "function.invoke" => self.function_invoke(caller, arguments(method, args)?).await,
            _ if method.starts_with("stream.") => self.stream_call(caller, method, args).await,
            _ if method.starts_with("workflow.") => self.workflow_call(caller, method, args).await,
            _ if method.starts_with("entity.") => self.entity_call(caller, method, args).await,
            _ if method.starts_with("queue.") => self.queue_call(caller, method, args).await,
            _ => Err(CallFault::Unknown { method: method.to_owned() }.report()),
        }
    }
}

impl ProgramCalls {
    fn reach_bucket(&self, caller: &Caller, bucket: &str) -> Result<(), Report> {
        match self.buckets.find(bucket) {
            Some(found) if found.urn.stack == caller.of.stack => Ok(()),
            _ => Err(CallFault::OutOfReach { what: bucket.to_owned() }.report()),
        }
    }

    async fn bucket_get(&self, caller: &Caller, Key { bucket, key }: Key) -> Result<Value, Report> {
        self.reach_bucket(caller, &bucket)?;
        let found = match self.buckets.get(&bucket, &key).await {
            Ok(found) => found,
            Err(BucketError::NoSuchKey { .. }) => return Ok(Value::Null),
            Err(error) => return Err(error.report()),
        };
        if found.object.size > LARGEST {
            return Err(CallFault::TooLarge { key, size: ByteSize(found.object.size) }.report());
        }
        let content_type = found.object.description.content_type.clone();
        let body = found.bytes().await.map_err(|e| BucketError::Body(e.into()).report())?;
        Ok(json!({ "body": STANDARD.encode(body), "contentType": content_type }))
    }

    async fn bucket_put(&self, caller: &Caller, put: Put) -> Result<Value, Report> {
        self.reach_bucket(caller, &put.bucket)?;
        let body = STANDARD.decode(&put.body).map_err(|e| {
            CallFault::Arguments { method: "bucket.put".into(), reason: e.to_string() }.report()
        })?;
        let options = PutOptions {
            description: Description { content_type: put.content_type, ..Description::default() },
            traceparent: caller.traceparent.clone(),
            ..PutOptions::default()
        };
        let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(body))]);
        let object = self.buckets.put(&put.bucket, &put.key, body, &options).await.map_err(|e| e.report())?;
        Ok(json!({ "etag": object.etag }))
    }

    async fn bucket_delete(&self, caller: &Caller, Key { bucket, key }: Key) -> Result<Value, Report> {
        self.reach_bucket(caller, &bucket)?;
        let cause = caller.traceparent.as_deref();
        self.buckets.delete(&bucket, [key.as_str()], cause).await.map_err(|e| e.report())?;
        Ok(Value::Null)
    }

    /// All keys under the prefix, in the order of their bytes.
    fn bucket_list(&self, caller: &Caller, List { bucket, prefix }: List) -> Result<Value, Report> {
        self.reach_bucket(caller, &bucket)?;
        let mut query = Query { prefix: prefix.unwrap_or_default(), limit: 1000, ..Query::default() };
        let mut objects = Vec::new();
        loop {
            let page = self.buckets.list(&bucket, &query).map_err(|e| e.report())?;
            objects.extend(page.objects.into_iter().map(|(key, object)| {
                json!({ "key": key, "size": object.size, "etag": object.etag, "modified": object.modified })
            }));
            match page.next {
                Some(_) if objects.len() >= MOST_KEYS => return Err(CallFault::TooMany.report()),
                Some(next) => query.after = Some(next),
                None => return Ok(Value::Array(objects)),
            }
        }
    }

    async fn task_run(&self, caller: &Caller, run: RunTask) -> Result<Value, Report> {
        let request = RunRequest {
            task: Urn::new(caller.of.stack.clone(), Kind::Task, run.task),
            environment: run.environment,
            command: run.command,
            input: run.input,
            event: None,
            key: key(caller),
            traceparent: caller.traceparent.clone(),
        };
        let id = self.tasks.run(request).await.map_err(|e| e.report())?;
        Ok(json!({ "id": id }))
    }

    async fn topic_publish(&self, caller: &Caller, publish: Publish) -> Result<Value, Report> {
        let topic = Urn::new(caller.of.stack.clone(), Kind::Topic, publish.topic);
        let publication = Publication {
            id: key(caller).map(|key| archive::hash(key.as_bytes())["sha256:".len()..][..32].to_owned()),
            message: publish.message,
            subject: publish.subject,
            attributes: publish.attributes,
            traceparent: caller.traceparent.clone(),
        };
        Ok(json!(self.topics.publish(&topic, publication).await.map_err(|e| e.report())?))
    }

    fn reachable_run(&self, caller: &Caller, OfRun { id }: OfRun) -> Result<RunStatus, Report> {
        match self.tasks.get(&id) {
            Ok(status) if status.task.stack == caller.of.stack => Ok(status),
            Ok(_) => Err(CallFault::OutOfReach { what: id.0 }.report()),
            Err(error) => Err(error.report()),
        }
    }

    async fn run_logs(&self, caller: &Caller, of: OfRun) -> Result<Value, Report> {
        let status = self.reachable_run(caller, of)?;
        let filter = Filter {
            stack: Some(status.task.stack.clone()),
            resource: Some(status.task.name.to_string()),
            id: Some(status.id.0),
            ..Filter::default()
        };
        let lines = self.log.read(&filter).await.map_err(|e| e.report())?;
        Ok(lines.into_iter().map(|line| line.text).collect())
    }

    async fn function_invoke(&self, caller: &Caller, invoke: Invoke) -> Result<Value, Report> {
        let urn = Urn::new(caller.of.stack.clone(), Kind::Function, invoke.function);
        let Some(functions) = self.functions.get() else {
            return Err(CallFault::OutOfReach { what: urn.short() }.report());
        };
        let invocation = Invocation {
            request_id: request_of(caller),
            payload: invoke.payload.to_string().into(),
            traceparent: caller.traceparent.clone(),
        };
        let answer = functions.invoke(&urn, invocation).await.map_err(|e| e.report())?;
        Ok(serde_json::from_slice(&answer.payload).unwrap_or(Value::Null))
    }
}
