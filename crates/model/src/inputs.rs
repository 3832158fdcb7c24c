//! The inputs of each kind of resource, typed.
//!
//! The SDK sends JSON; these types decide what is accepted, and [`read`] says which property is wrong.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

mod code;
mod entity;
mod queue;
mod service;
mod stream;
mod timer;
mod volume;

pub use self::{
    code::{Code, codes, codes_mut},
    entity::Entity,
    queue::{DeduplicationScope, Queue, RedrivePolicy, ThroughputLimit},
    service::{Autoscale, Container, HealthCheck, Port, Protocol, ScaleTarget, Service},
    stream::{StartingPosition, Stream},
    timer::Timer,
    volume::{Mount, Source, Volume},
};
use crate::{
    age::MaxAge,
    policy::{Policy, PolicyError},
    resource::{Kind, Properties},
    size::ByteSize,
    urn::Urn,
    value,
};

/// Inputs that do not fit their kind.
#[derive(Debug, thiserror::Error)]
#[error("the inputs of {urn} are not valid: {reason}")]
pub struct InputsError {
    pub urn: String,
    pub reason: String,
}

/// Reads typed inputs, revealing secrets.
///
/// # Errors
/// [`InputsError`] naming the property that does not fit.
pub fn read<T: DeserializeOwned>(urn: &Urn, inputs: &Properties) -> Result<T, InputsError> {
    let revealed = value::revealed(&Value::Object(inputs.clone()));
    serde_json::from_value(revealed).map_err(|e| InputsError { urn: urn.short(), reason: e.to_string() })
}

/// What tasks and services are built from, as it was sent: the objects of [`Build`].
pub fn builds(inputs: &Properties) -> impl Iterator<Item = &Properties> {
    let containers = inputs.get("containers").and_then(Value::as_object);
    let nested = containers.into_iter().flat_map(|all| all.values()).filter_map(|one| one.get("build"));
    inputs.get("build").into_iter().chain(nested).filter_map(Value::as_object)
}

/// As [`builds`], to be completed; with the name of the container in a service.
pub fn builds_mut(inputs: &mut Properties) -> Vec<(Option<&str>, &mut Properties)> {
    let mut found = Vec::new();
    for (name, value) in inputs {
        match (name.as_str(), value) {
            ("build", Value::Object(build)) => found.push((None, build)),
            ("containers", Value::Object(containers)) => {
                for (container, inputs) in containers {
                    if let Some(Value::Object(build)) = inputs.get_mut("build") {
                        found.push((Some(container.as_str()), build));
                    }
                }
            }
            _ => {}
        }
    }
    found
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bucket {
    /// Pins the bucket's name; otherwise it is derived from the resource's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket_name: Option<String>,
    /// Lets `destroy` delete it with its objects.
    #[serde(default)]
    pub force_destroy: bool,
    /// Which pages of other origins may use it from a browser. None: what a client configured stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Vec<CorsRule>>,
}

/// What pages of some origins may do with a bucket from a browser. A `*` in a pattern stands for anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CorsRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Patterns: `https://*.example.com`.
    pub allowed_origins: Vec<String>,
    /// Of `GET`, `PUT`, `POST`, `DELETE` and `HEAD`.
    pub allowed_methods: Vec<String>,
    /// Patterns of the headers that a page may send beyond the simple ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_headers: Vec<String>,
    /// The headers of an answer that a page may read beyond the simple ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// How long a browser may remember what it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Function {
    /// The archive with the program's code: `sha256:<hex>`.
    pub code: String,
    /// The name under which the program noted the handler.
    pub handler: String,
    /// Upper bound of a worker's memory. A number is MiB.
    #[serde(default = "Function::default_memory")]
    pub memory: ByteSize,
    /// Upper bound of one invocation, in seconds.
    #[serde(default = "Function::default_timeout")]
    pub timeout: f64,
    /// Upper bound of workers at once.
    #[serde(default = "Function::default_concurrency")]
    pub concurrency: u32,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// The stack's configuration as the program was deployed with it, by `<namespace>:<key>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Value>,
}

impl Function {
    fn default_memory() -> ByteSize {
        ByteSize::mebibytes(128)
    }
    fn default_timeout() -> f64 {
        60.0
    }
    fn default_concurrency() -> u32 {
        100
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Task {
    /// Exactly one of `build`, `image` and `function`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The name of an image in the image store: `docker.io/library/debian:bookworm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Code>,
    /// Hard limit of a container's memory. A number is MiB. None: the reservation bounds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// What a run sets aside on the machine; runs wait while it is not free. A number is MiB.
    #[serde(default = "Task::default_reservation")]
    pub memory_reservation: ByteSize,
    /// Upper bound of processors, in cores: `0.5`. None: no bound. So much is set aside, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// The processors that it may run on: `0-1,3`. None: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_set: Option<String>,
    /// Runs with a higher one go first; see [`Task::PRIORITIES`].
    #[serde(default)]
    pub priority: i32,
    /// How many runs there are at once, at most. None: as many as fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Devices of the machine that its containers use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// How much a container may write to its own file system; then that is full. A number is MiB. None: as much as the disk takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<ByteSize>,
    /// For programs that look at containers from outside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub docker_labels: BTreeMap<String, String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Folders that its containers see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Mount>,
    /// Upper bound of one run, in seconds. None: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// When a run is tried again, in a new container. None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
}

/// A device of the machine: a run waits until nobody else uses it, unless all of them share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// `/dev/fuse`, on the machine and in the container.
    pub path: String,
    #[serde(default)]
    pub shared: bool,
}

/// When a run whose container failed is tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// How many containers there are at most, the first included.
    pub attempts: u32,
    /// The pause after the first attempt, in seconds; doubled after each further one.
    #[serde(default = "Retries::default_backoff")]
    pub backoff: f64,
    /// The longest pause, in seconds.
    #[serde(default = "Retries::default_max_backoff")]
    pub max_backoff: f64,
    /// After which ends.
    #[serde(default = "Retries::default_on")]
    pub on: Vec<RetryOn>,
}

/// How an attempt ended; the words are those of a run's outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryOn {
    /// With another code than 0.
    Exited,
    BadResult,
    OutOfMemory,
    TimedOut,
    Lost,
}

impl Retries {
    fn default_backoff() -> f64 {
        1.0
    }

    fn default_max_backoff() -> f64 {
        300.0
    }

    fn default_on() -> Vec<RetryOn> {
        vec![RetryOn::Exited, RetryOn::OutOfMemory, RetryOn::TimedOut]
    }
}

impl Task {
    /// What `priority` may be: each point goes for a minute of waiting.
    pub const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;

    fn default_reservation() -> ByteSize {
        ByteSize::mebibytes(128)
    }
}

/// What an image is built from. `context` is the archive of the folder, not the folder itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// The folder as the program wrote it, for people: `./docker-folder`.
    pub folder: String,
    /// The archive with the folder's content: `sha256:<hex>`.
    pub context: String,
    /// The Dockerfile's path inside the context.
    #[serde(default = "Build::default_dockerfile")]
    pub dockerfile: String,
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whom steps trust besides those whom the machine trusts. In no layer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_ca_certificates: Vec<Certificates>,
    /// The ids of secrets that steps may mount. Their values travel beside the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Repositories in which Buildah looks for steps that somebody built before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cache_from: Vec<String>,
    /// What machine the image is for: `linux/amd64`. This one if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Layers that are older are made again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<MaxAge>,
    /// When something else than what the program says asked for the image to be made again: a newer base image, its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Timestamp>,
}

/// The content of a file with certificates (PEM).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificates {
    /// As the program names it, for people.
    pub file: String,
    pub pem: String,
}

impl Build {
    fn default_dockerfile() -> String {
        "Dockerfile".to_owned()
    }
}

/// Messages that go to every subscription that wants them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topic {}

/// Which events of a source go to a consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subscription {
    pub source: Urn,
    pub consumer: Urn,
    /// The event types that are delivered.
    pub events: Vec<String>,
    #[serde(default)]
    pub filter: Filter,
    /// After this many attempts an event goes to the dead letters.
    #[serde(default = "Subscription::default_attempts")]
    pub max_attempts: u32,
    /// Of queues and streams: the most messages that a handler gets at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Of queues and streams: how long messages are waited for after the first, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_window: Option<f64>,
    /// Of queues: how many batches are handled at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Of streams: where a subscription begins that has read nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_position: Option<StartingPosition>,
    /// Of streams: how many batches of one shard are handled at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
}

impl Subscription {
    fn default_attempts() -> u32 {
        3
    }

    /// Of queues: the longest window of a batch, in seconds. Source: AWS Lambda, `MaximumBatchingWindowInSeconds`.
    pub const LONGEST_WINDOW: f64 = 300.0;

    /// What is wrong with how messages are batched, for people.
    ///
    /// # Errors
    /// Names the property.
    pub fn check(&self) -> Result<(), String> {
        let most = if self.source.kind == Kind::Stream { Stream::BATCH } else { 1000 };
        for (name, value, most) in [
            ("batchSize", self.batch_size, most),
            ("concurrency", self.concurrency, 1000),
            ("parallelism", self.parallelism, Stream::PARALLELISM),
            ("maxAttempts", Some(self.max_attempts), 10_000),
        ] {
            if let Some(value) = value.filter(|value| !(1..=most).contains(value)) {
                return Err(format!("`{name}` is 1 to {most}, not {value}"));
            }
        }
        if self.source.kind == Kind::Stream && !(self.consumer.kind == Kind::Function || self.starts()) {
            return Err(format!(
                "records of a stream go to a function, a task or a workflow, not to a {}",
                self.consumer.kind
            ));
        }
        match self.batch_window {
            Some(window) if !(0.0..=Self::LONGEST_WINDOW).contains(&window) => {
                Err(format!("`batchWindow` is 0 to {} seconds, not {window}", Self::LONGEST_WINDOW))
            }
            _ => Ok(()),
        }
    }

    /// Whether what handles an event has a life of its own, in which a later attempt finds it again: a run, an instance. It gets
    /// one message or record, if the program does not say how many.
    pub fn starts(&self) -> bool {
        matches!(self.consumer.kind, Kind::Task | Kind::Workflow)
    }

    /// Whether the event is one that the consumer asked for.
    pub fn matches(&self, kind: &str, subject: &str) -> bool {
        self.events.iter().any(|e| e == kind) && self.filter.admits(subject)
    }
}

/// Bounds on an event's subject, as bytes: case matters. And on what a message is, and has: see [`crate::policy`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// A policy on the attributes of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Value>,
    /// A policy on the message, which is then an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Value>,
}

impl Filter {
    /// The policies, read: for each, the property of an event's `data` that it is about.
    ///
    /// # Errors
    /// [`PolicyError`] names the place in a policy that makes no sense.
    pub fn policies(&self) -> Result<Vec<(&'static str, Policy)>, PolicyError> {
        let given = [("attributes", &self.attributes), ("message", &self.message)];
        let given = given.into_iter().filter_map(|(about, policy)| Some((about, policy.as_ref()?)));
        given.map(|(about, policy)| Ok((about, Policy::read(policy)?))).collect()
    }

    pub fn admits(&self, subject: &str) -> bool {
        self.prefix.as_deref().is_none_or(|prefix| subject.starts_with(prefix))
            && self.suffix.as_deref().is_none_or(|suffix| subject.ends_with(suffix))
    }
}
