//! What became of an object, an event, a delivery, a message or a run: the chain of causes as a tree, or why nothing happened.
//!
//! Nothing is kept for this but the trail of the dispatcher, which is bounded. The rest is found where it is anyway:
//! deliveries that wait, dead letters, runs, logs, subscriptions, objects. Causes are found by their spans
//! ([`crate::cause`]): what a delivery did has its span as the parent.
//!
//! [`known`] gathers what there is of a stack; [`tell`] makes the tree, [`message`] that of a message of a queue; [`reason`] says
//! why nothing happened.

mod instance;
mod known;
mod message;
mod reason;
mod tell;

use std::io;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{Explain, Kind, Report, StackId, Urn};
use tandem_store::ReadError;

use self::known::Known;
use crate::{
    bucket::{BucketError, Buckets},
    dispatch::{DeadLetters, Trail},
    function::Functions,
    log::{Log, LogError},
    queue::{QueueError, Queues},
    resource::Resources,
    task::{RunError, Tasks},
    workflow::{WorkflowError, Workflows},
};

/// Something that happened, or did not, with what it led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    pub kind: NodeKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    /// Of the event, the delivery, the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// To what it happened, or who handles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Urn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// For people.
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Report>,
    /// It was asked for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NodeKind {
    Object,
    Event,
    /// One of a queue.
    Message,
    Delivery,
    Attempt,
    Run,
    /// Of a workflow.
    Instance,
    /// Of an activity, by an instance.
    Call,
    Line,
    /// Why nothing happened.
    Reason,
}

/// How a delivery or run stands, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Handled,
    Running,
    /// For room at its consumer.
    Waiting,
    /// Between two attempts.
    Pausing,
    DeadLetter,
    /// It was a dead letter, and somebody redrove or dropped it.
    Moved,
    Failed,
    /// The consumer is not deployed.
    Gone,
    NoSubscription,
    /// The subscription's filter does not want it.
    NoMatch,
    /// There is no object of that name.
    NoObject,
    /// It matches, and nothing is known of it: it happened before the subscription, or too long ago.
    Forgotten,
}

impl Node {
    fn new(kind: NodeKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            time: None,
            id: None,
            resource: None,
            state: None,
            text: text.into(),
            error: None,
            asked: false,
            children: Vec::new(),
        }
    }
}

/// A question that has no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    #[error("nothing is known of `{what}` in {stack}")]
    Unknown { what: String, stack: StackId },
    #[error("`{what}` is the end of the ids of {} things: {}", ids.len(), ids.join(", "))]
    Ambiguous { what: String, ids: Vec<String> },
    #[error("cannot read the trail of events")]
    Trail(#[source] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Runs(#[from] RunError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Workflow(#[from] WorkflowError),
}

impl Explain for WhyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "E0656",
            Self::Ambiguous { .. } => "E0657",
            Self::Trail(_) => "E0658",
            Self::Read(e) => e.code(),
            Self::Bucket(e) => e.code(),
            Self::Queue(e) => e.code(),
            Self::Runs(e) => e.code(),
            Self::Log(e) => e.code(),
            Self::Workflow(e) => e.code(),
        }
    }
    fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                "name an object as BUCKET/KEY or s3://BUCKET/KEY, or give the end of an id: of an \
                 event, a message, a request, or a run, or the id of an instance"
                    .into()
            }
            Self::Ambiguous { .. } => "give more of the id".into(),
            Self::Trail(_) => "check the disk of TANDEM_HOME".into(),
            Self::Read(e) => e.help(),
            Self::Bucket(e) => e.help(),
            Self::Queue(e) => e.help(),
            Self::Runs(e) => e.help(),
            Self::Log(e) => e.help(),
            Self::Workflow(e) => e.help(),
        }
    }
}

/// Answers.
pub(crate) struct Why {
    pub(crate) resources: std::sync::Arc<Resources>,
    pub(crate) buckets: std::sync::Arc<Buckets>,
    pub(crate) queues: std::sync::Arc<Queues>,
    pub(crate) functions: Functions,
    pub(crate) tasks: Tasks,
    pub(crate) log: Log,
    pub(crate) letters: DeadLetters,
    pub(crate) trail: Trail,
    pub(crate) workflows: Workflows,
}

/// How many events of one object are told.
const MOST_EVENTS: usize = 10;

impl Why {
    /// What became of an object (`BUCKET/KEY` or `s3://BUCKET/KEY`, the bucket by its name on the wire or in the program), or
    /// of the event, message, delivery or run whose id ends so, or of an instance of a workflow. A tree for each event of an object, the oldest first.
    ///
    /// # Errors
    /// [`WhyError`].
    pub(crate) async fn ask(&self, stack: &StackId, what: &str) -> Result<Vec<Node>, WhyError> {
        let rows = Known::rows(self, stack)?;
        self.trail.flush().await;
        let known = Known::gather(self, stack, rows)?;
        let teller = tell::Teller::new(self, &known);
        if let Some((bucket, key)) = self.object(stack, what) {
            let mut events = known.events_of(&bucket, &key);
            let earlier = events.len().saturating_sub(MOST_EVENTS);
            let events = events.split_off(earlier);
            if events.is_empty() {
                return Ok(vec![reason::of_object(self, &bucket, &key)?]);
            }
            let mut told = Vec::new();
            for event in events {
                told.push(teller.asked_event(event).await?);
            }
            return Ok(told);
        }
        // Before deliveries: one of a single message has its id.
        let messages = message::with_id(self, &known, stack, what).await?;
        match &messages[..] {
            [] => {}
            [one] => return Ok(vec![teller.message(one).await?]),
            several => {
                return Err(WhyError::Ambiguous { what: what.to_owned(), ids: message::ids(several) });
            }
        }
        let unknown = || WhyError::Unknown { what: what.to_owned(), stack: stack.clone() };
        let found = known.by_id(what);
        match &found[..] {
            [] => Err(unknown()),
            [one] => Ok(vec![teller.asked(one).await?]),
            several => {
                let ids = several.iter().take(8).map(|one| known.id_of(one)).collect();
                Err(WhyError::Ambiguous { what: what.to_owned(), ids })
            }
        }
    }

    /// The bucket and the key that are meant, if it is an object's name.
    fn object(&self, stack: &StackId, what: &str) -> Option<(Urn, String)> {
        let (bucket, key) = what.strip_prefix("s3://").unwrap_or(what).split_once('/')?;
        let named = |name: &str| Some(Urn::new(stack.clone(), Kind::Bucket, name.parse().ok()?));
        let by_name = named(bucket).filter(|urn| self.resources.by_urn(urn).is_some());
        let of_stack = |found: std::sync::Arc<tandem_model::Recorded>| {
            (found.urn.stack == *stack).then(|| found.urn.clone())
        };
        let urn = self.buckets.find(bucket).and_then(of_stack).or(by_name)?;
        Some((urn, key.to_owned()))
    }
}
