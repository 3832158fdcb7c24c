//! Turns on their way to orchestrators and back.
//!
//! A version's turns go to its worker together: those that come in while it works are the next batch. So a worker that keeps
//! the generators of its instances gets all their turns, and what a request costs is shared.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::{PhysicalId, Report};
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::{
    action::State,
    history::HistoryEvent,
    host::{Fault, Host},
    lock,
};

/// How many turns go together, and of which size; one turn alone may be larger.
const TOGETHER: usize = 64;
const SIZE: usize = 2 << 20;
/// How often a turn is tried alone that its worker did not survive.
const ATTEMPTS: u32 = 2;
/// How long a version is left alone whose workers are busy, or cannot start.
const BUSY: Duration = Duration::from_millis(200);

/// One turn, or one page of a replay, as the worker of the orchestrator gets it: with what began it, or with what is new.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) instance: String,
    pub(super) execution: String,
    /// The attempt whose generator goes on.
    #[serde(rename = "hash", skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// Names this attempt.
    #[serde(rename = "commit")]
    pub(super) attempt: String,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum What {
    Binding(Binding),
    Events(Vec<HistoryEvent>),
}

/// What an orchestrator gets that begins.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Binding {
    pub(super) instance_id: String,
    pub(super) input: Value,
    pub(super) parent_instance_id: Option<String>,
    pub(super) is_replaying: bool,
    /// Of the protocol: 1 is V2.
    pub(super) upper_schema_version: u32,
    pub(super) history: Vec<HistoryEvent>,
}

/// What came of a turn.
#[derive(Debug)]
pub(super) enum Answer {
    State(Box<State>),
    /// The generator is not there any more: the whole history is to be sent.
    Replay,
    /// The orchestrator cannot go on.
    Broken(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    state: Option<Box<State>>,
    #[serde(default)]
    replay: bool,
}

struct Ask {
    request: Value,
    size: usize,
    traceparent: Option<String>,
    reply: oneshot::Sender<Answer>,
}

/// Where turns are handed in.
pub(super) struct Turns {
    host: Arc<dyn Host>,
    /// The versions that have no worker just now, and why.
    busy: Arc<Mutex<HashMap<PhysicalId, Report>>>,
    queues: Mutex<HashMap<PhysicalId, mpsc::UnboundedSender<Ask>>>,
}

impl Turns {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, busy: Arc::default(), queues: Mutex::default() }
    }

    /// Takes a turn, however long it has to wait for a worker. `None` if the cloud closes.
    pub(super) async fn take(
        &self,
        version: &PhysicalId,
        request: &Request,
        traceparent: Option<String>,
    ) -> Option<Answer> {
        let request = serde_json::to_value(request).expect("a request is a struct with string keys");
        let (reply, answer) = oneshot::channel();
        let size = size_of(&request);
        let _ = self.queue(version).send(Ask { request, size, traceparent, reply });
        answer.await.ok()
    }

    fn queue(&self, version: &PhysicalId) -> mpsc::UnboundedSender<Ask> {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(version.clone()).or_insert_with(|| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let way = Way { host: self.host.clone(), version: version.clone(), busy: self.busy.clone() };
            tokio::spawn(async move { way.serve(receiver).await });
            sender
        });
        queue.clone()
    }

    /// Why turns of the version wait, if it has no worker.
    pub(super) fn held_up(&self, version: &PhysicalId) -> Option<Report> {
        lock(&self.busy).get(version).cloned()
    }

    /// The version is gone.
    pub(super) fn forget(&self, version: &PhysicalId) {
        lock(&self.queues).remove(version);
    }

    /// Takes no more turns; whoever waits for one learns that it was not taken.
    pub(super) fn close(&self) {
        lock(&self.queues).clear();
    }
}

/// About as many bytes as it has as JSON.
fn size_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size_of(item) + 1).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 4 + size_of(value)).sum(),
        _ => 8,
    }
}

/// The way to the workers of one version.
struct Way {
    host: Arc<dyn Host>,
    version: PhysicalId,
    busy: Arc<Mutex<HashMap<PhysicalId, Report>>>,
}

impl Way {
    async fn serve(&self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => match asks.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let (mut size, mut batch) = (first.size, vec![first]);
            while batch.len() < TOGETHER {
                let Ok(ask) = asks.try_recv() else { break };
                if size + ask.size > SIZE {
                    next = Some(ask);
                    break;
                }
                size += ask.size;
                batch.push(ask);
            }
            if let Err((batch, _)) = self.attempt(batch).await {
                // One of them may be to blame, and the others must not pay for it.
                for ask in batch {
                    self.alone(ask).await;
                }
            }
        }
    }

    /// Hands a batch over and its answers out.
    async fn attempt(&self, batch: Vec<Ask>) -> Result<(), (Vec<Ask>, Report)> {
        let turns: Vec<_> = batch.iter().map(|ask| &ask.request).collect();
        let request =
            serde_json::to_vec(&serde_json::json!({ "turns": turns })).expect("JSON values are JSON");
        let request = bytes::Bytes::from(request);
        let traceparent = batch.first().and_then(|ask| ask.traceparent.clone());
        loop {
            let told = self.host.turns(&self.version, request.clone(), traceparent.clone()).await;
            let lost = match told {
                Ok(answer) => match read(&answer, batch.len()) {
                    Ok(answers) => {
                        for (ask, answer) in batch.into_iter().zip(answers) {
                            let _ = ask.reply.send(answer);
                        }
                        return Ok(());
                    }
                    Err(report) => report,
                },
                Err(Fault::Busy(_)) if batch.iter().all(|ask| ask.reply.is_closed()) => return Ok(()),
                Err(Fault::Busy(why)) => {
                    lock(&self.busy).insert(self.version.clone(), why);
                    sleep(BUSY).await;
                    lock(&self.busy).remove(&self.version);
                    continue;
                }
                Err(Fault::Lost(report)) => report,
            };
            return Err((batch, lost));
        }
    }

    async fn alone(&self, ask: Ask) {
        let mut batch = vec![ask];
        let mut last = None;
        for _ in 0..ATTEMPTS {
            if batch.iter().all(|ask| ask.reply.is_closed()) {
                return;
            }
            match self.attempt(batch).await {
                Ok(()) => return,
                Err((again, report)) => {
                    batch = again;
                    last = Some(report);
                }
            }
        }
        let reason = last.map_or_else(String::new, |report| format!("{report} ({})", report.code));
        for ask in batch {
            let _ = ask.reply.send(Answer::Broken(reason.clone()));
        }
    }
}

fn read(answer: &[u8], turns: usize) -> Result<Vec<Answer>, Report> {
    #[derive(Deserialize)]
    struct Answers {
        turns: Vec<Value>,
    }
    let unreadable = |reason: String| Report {
        code: "E0875".into(),
        message: format!("the answer of an orchestrator cannot be read: {reason}"),
        help: String::new(),
        causes: vec![],
    };
    let answers: Answers = serde_json::from_slice(answer).map_err(|error| unreadable(error.to_string()))?;
    if answers.turns.len() != turns {
        return Err(unreadable(format!("{} answers to {turns} turns", answers.turns.len())));
    }
    Ok(answers.turns.into_iter().map(one).collect())
}

fn one(answer: Value) -> Answer {
    match serde_json::from_value(answer) {
        Ok(Wire { replay: true, .. }) => Answer::Replay,
        Ok(Wire { state: Some(state), .. }) => Answer::State(state),
        Ok(_) => Answer::Broken("the orchestrator answered nothing".to_owned()),
        Err(error) => Answer::Broken(format!("the actions of the orchestrator cannot be read: {error}")),
    }
}
