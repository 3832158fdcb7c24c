//! What is remembered of an instance, and what it is told.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::Urn;

use super::http_call::{HttpRequest, Poll};
use crate::cause;

/// How an instance stands, with the names that Durable Functions has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    Pending,
    Running,
    Suspended,
    Completed,
    Failed,
    Terminated,
}

impl Status {
    pub fn ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated)
    }
}

/// What is remembered of an instance, besides its history and its open tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) workflow: Urn,
    pub(super) id: String,
    /// The version of the code that it began with, and ends with.
    pub(super) version: String,
    /// Names this execution: `continueAsNew` begins another one under the same instance.
    pub(super) execution: String,
    pub(super) status: Status,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) input: Option<Value>,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) output: Option<Value>,
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub(super) custom_status: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Parent>,
    /// The id of the next task.
    pub(super) next_task: u32,
    /// How many actions the orchestrator has taken.
    pub(super) actions: u32,
    /// How many turns are committed.
    pub(super) turns: u32,
    /// Names the attempt at the last turn that was committed: only that one's generator goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) turn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
    /// For each event how many waits for it there were more than events, told or not; fewer, if it is negative.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) events_awaited: BTreeMap<String, i64>,
    /// The key under which it was started, so that whoever starts it again finds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) started_by: Option<String>,
}

impl Record {
    /// The cause of what it calls and starts: a start is a step of its own.
    pub(super) fn cause(&self) -> String {
        cause::of_delivery(self.traceparent.as_deref(), &self.execution)
    }
}

/// `null` is read as nothing; so it is written as nothing, or a record would differ from its own row.
fn is_nothing(value: &Option<Value>) -> bool {
    matches!(value, None | Some(Value::Null))
}

/// The instance that waits for this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parent {
    pub(super) instance: String,
    pub(super) execution: String,
    pub(super) task: u32,
}

impl Parent {
    /// What it is told when the task is over.
    pub(super) fn done(&self, result: Result<Value, Failure>) -> Message {
        Message::Done { execution: self.execution.clone(), task: self.task, result }
    }
}

/// How an orchestrator wants a task to be tried again. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retries {
    #[serde(rename = "firstRetryIntervalInMilliseconds")]
    pub(super) first: f64,
    #[serde(rename = "maxNumberOfAttempts")]
    pub(super) most: u32,
    #[serde(default, rename = "backoffCoefficient")]
    backoff: Option<f64>,
    #[serde(default, rename = "maxRetryIntervalInMilliseconds")]
    longest: Option<f64>,
    #[serde(default, rename = "retryTimeoutInMilliseconds")]
    timeout: Option<f64>,
}

impl Retries {
    /// Whether what began then is tried again, if it fails now. In whole milliseconds, as the orchestrator counts.
    pub(super) fn goes_on(&self, began: Timestamp, now: Timestamp) -> bool {
        let passed = now.as_millisecond().saturating_sub(began.as_millisecond());
        #[expect(clippy::cast_precision_loss, reason = "some years have less than 2^53 milliseconds")]
        self.timeout.is_none_or(|timeout| (passed as f64) < timeout)
    }

    /// How long to wait after attempt number `attempt`.
    pub(super) fn pause(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let pause = self.first * self.backoff.unwrap_or(1.0).powi(exponent);
        let longest = self.longest.filter(|longest| *longest > 0.0).unwrap_or(f64::MAX);
        Duration::try_from_secs_f64(pause.min(longest).max(0.0) / 1000.0).unwrap_or(Duration::MAX)
    }
}

/// Something that an instance waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Open {
    pub(super) work: Work,
    pub(super) scheduled: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) retry: Option<Retry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Work {
    Activity {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    Run {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    /// A request of `callHttp`; of one that was accepted, where and when its end is asked for.
    Http {
        request: HttpRequest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        poll: Option<Poll>,
    },
    /// A message to an entity, which answers by an event of that name.
    Entity {
        message: String,
        to: String,
        operation: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    /// A lock on entities, which is waited for or held. The lock is this row: where it was given it holds as long as the row
    /// is there.
    Lock {
        /// Names the request: a rewound instance makes another one for the same task.
        id: String,
        /// `@name@key`, in the order in which they are locked, which is the same for everybody.
        entities: Vec<String>,
        /// Since when it is held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        since: Option<Timestamp>,
    },
    Child {
        name: String,
        instance: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        input: Option<Value>,
    },
    Timer {
        fire_at: Timestamp,
        /// What is tried again then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<Box<Work>>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Retry {
    pub(super) options: Retries,
    /// The number of the attempt that runs, or is next.
    pub(super) attempt: u32,
    /// When the first attempt began.
    pub(super) began: Timestamp,
}

/// What an instance is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub(super) enum Message {
    Started,
    /// A task other than a timer is over. `execution` is the one that waited for it.
    Done {
        execution: String,
        task: u32,
        result: Result<Value, Failure>,
    },
    Fired {
        execution: String,
        task: u32,
    },
    Raised {
        name: String,
        data: Value,
    },
    Terminate {
        reason: String,
    },
    Suspend,
    Resume,
}

/// Why a task failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub reason: String,
    pub details: String,
}
