//! Messages that go to another queue: of a dead-letter queue back to where they come from, or elsewhere.
//!
//! Who owns it: `move/<queue>/<task>`, by the queue that the messages leave. Each commit takes some of them from here and
//! puts them there, and counts them in the same row; so a restart goes on where it was, and none is doubled or lost. A
//! move takes what is visible when it comes by, and ends when nothing is left that was there when it began.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tandem_failpoint::hit;
use tandem_store::Batch;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Queues, arn,
    core::Rows,
    error::{QueueError, damaged},
    expect_open,
    key::{Key, message_row, table},
    message::Message,
    name_in_arn,
    open::Open,
    receive::drop_rows,
    send::{arrived, commit},
    settings::Attributes,
    through,
};
use crate::dispatch::Became;

/// How many messages move in one commit.
const AT_ONCE: usize = 100;
/// The most per second that a client may ask for. Source: Amazon SQS, StartMessageMoveTask.
const MOST_PER_SECOND: u32 = 500;
/// How many ended tasks a queue remembers.
const REMEMBERED: usize = 10;

/// A task that moves messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Move {
    /// When it began, in milliseconds.
    pub(super) started: u64,
    /// Where to; `None`: each to the queue in which it was received too often.
    pub(super) destination: Option<String>,
    pub(super) per_second: Option<u32>,
    pub(super) state: State,
    pub(super) moved: u64,
    /// How many there were when it began.
    pub(super) total: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum State {
    Running,
    Completed,
    Cancelling,
    Cancelled,
    Failed,
}

impl Move {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running | State::Cancelling)
    }
}

/// Messages that come into a queue in a commit that is another's.
pub(super) struct Arrival {
    open: Arc<Open>,
    added: Vec<(Key, u64)>,
}

impl Arrival {
    pub(super) fn begin(open: &Arc<Open>, batch: &mut Batch) -> Self {
        expect_open(batch, &open.name);
        Self { open: open.clone(), added: vec![] }
    }

    /// Visible at once. It keeps its id, and in a standard queue the time at which it was sent, so its retention goes on.
    pub(super) fn add(&mut self, batch: &mut Batch, message: Message) {
        let Attributes { fifo, .. } = self.open.settings().attributes;
        let (now, number) = (self.open.now(), self.open.next_number());
        let group = message.about.group.clone().unwrap_or_default();
        let (key, sent) = match fifo {
            true => (Key::fifo(&group, number), now),
            false => (Key::standard(now, number), message.sent),
        };
        batch.put(message_row(&self.open.name, &key), Message { due: now, sent, ..message }.encode());
        self.added.push((key, now));
    }

    /// Tells memory that the commit is made.
    pub(super) fn committed(self) {
        arrived(&self.open, &self.added);
    }
}

fn row(queue: &str, task: &str) -> bytes::Bytes {
    [&table("move", queue), task.as_bytes()].concat().into()
}

impl Queues {
    /// Begins to move the messages of a queue. Answers the task's id.
    ///
    /// # Errors
    /// [`QueueError::Unsupported`] if one runs already, or if the queue is nobody's dead-letter queue and no destination is
    /// given; [`QueueError::NoSuchQueue`].
    pub async fn start_move(
        self: &Arc<Self>,
        source: &str,
        destination: Option<&str>,
        per_second: Option<u32>,
    ) -> Result<String, QueueError> {
        if let Some(given) = per_second.filter(|given| !(1..=MOST_PER_SECOND).contains(given)) {
            return Err(QueueError::Parameter {
                name: "MaxNumberOfMessagesPerSecond",
                wrong: format!("it is 1 to {MOST_PER_SECOND}, not {given}"),
            });
        }
        let open = self.open(source).await?;
        if let Some(destination) = destination {
            let target = self.open(destination).await?;
            if target.settings().attributes.fifo != open.settings().attributes.fifo || destination == source {
                let what = "a move to the queue itself, or between a FIFO queue and one that is none";
                return Err(QueueError::Unsupported { what: what.to_owned() });
            }
        }
        if self.moves(source)?.iter().any(|(_, task)| task.is_running()) {
            return Err(QueueError::Unsupported {
                what: "a second move of the same queue at once".to_owned(),
            });
        }
        let task = Move {
            started: open.now(),
            destination: destination.map(str::to_owned),
            per_second,
            state: State::Running,
            moved: 0,
            total: open.core().messages(),
            failure: None,
        };
        let id = Uuid::now_v7().to_string();
        let mut batch = Batch::default();
        expect_open(&mut batch, source);
        batch.put(row(source, &id), encode(&task));
        // Of the older ones, those that ended longest ago are forgotten.
        for (old, _) in self.moves(source)?.iter().skip(REMEMBERED - 1) {
            batch.delete(row(source, old));
        }
        commit(&*self.store, source, batch).await?;
        hit("queue.move.started");
        self.drive(source.to_owned(), id.clone());
        Ok(id)
    }

    /// Ends a task; what moved stays moved. Answers how many that are.
    ///
    /// # Errors
    /// [`QueueError::NoSuchTask`] if it does not run.
    pub async fn cancel_move(self: &Arc<Self>, source: &str, id: &str) -> Result<u64, QueueError> {
        for _ in 0..100 {
            let Some(task) = self.find_move(source, id)?.filter(|task| task.state == State::Running) else {
                break;
            };
            let cancelled = Move { state: State::Cancelling, ..task.clone() };
            let mut batch = Batch::default();
            batch
                .expect(row(source, id), Some(encode(&task).into()))
                .put(row(source, id), encode(&cancelled));
            match self.store.commit(batch).await {
                Ok(()) => return Ok(task.moved),
                // It moved some meanwhile.
                Err(tandem_store::CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(QueueError::NoSuchTask { what: format!("{id} of {source} does not run") })
    }

    /// The tasks of a queue, the newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn moves(&self, source: &str) -> Result<Vec<(String, Move)>, QueueError> {
        let table = table("move", source);
        let snapshot = self.store.snapshot()?;
        let mut moves = Vec::new();
        for entry in snapshot.prefix(&table)? {
            let (row, value) = entry?;
            let id = String::from_utf8_lossy(&row[table.len()..]).into_owned();
            moves.push((id, serde_json::from_slice(&value).map_err(damaged)?));
        }
        moves.reverse();
        Ok(moves)
    }

    pub(super) fn find_move(&self, source: &str, id: &str) -> Result<Option<Move>, QueueError> {
        let found = self.store.snapshot()?.get(&row(source, id))?;
        found.map(|row| serde_json::from_slice(&row).map_err(damaged)).transpose()
    }

    /// Takes up the moves that a stop of the cloud cut off.
    pub(super) fn resume_moves(self: &Arc<Self>, queue: &str) {
        match self.moves(queue) {
            Ok(moves) => {
                for (id, task) in moves {
                    if task.is_running() {
                        self.drive(queue.to_owned(), id);
                    }
                }
            }
            Err(error) => tracing::error!(queue, %error, "cannot read the moves of a queue"),
        }
    }

    /// Sees a task through, unless somebody does already.
    fn drive(self: &Arc<Self>, source: String, id: String) {
        if !self.moving.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone()) {
            return;
        }
        let queues = self.clone();
        tokio::spawn(async move {
            let driven = queues.closing.run_until_cancelled(queues.drive_to_its_end(&source, &id));
            driven.await;
            queues.moving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            queues.moved.notify_waiters();
        });
    }

    async fn drive_to_its_end(self: &Arc<Self>, source: &str, id: &str) {
        loop {
            // The commit under way is seen through, and memory with it.
            let (queues, from, task) = (self.clone(), source.to_owned(), id.to_owned());
            match through(async move { queues.move_some(&from, &task).await }).await {
                Ok(Some(pause)) => sleep(pause).await,
                Ok(None) => return,
                Err(error @ QueueError::NoSuchQueue { .. }) => {
                    return tracing::info!(source, %error, "a move of messages ends");
                }
                Err(QueueError::Contended) => sleep(Duration::from_millis(10)).await,
                Err(error) => {
                    tracing::warn!(source, %error, "cannot move messages; trying again");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// One commit of a task. Answers after which pause there is another; `None`: it has ended.
    async fn move_some(self: &Arc<Self>, source: &str, id: &str) -> Result<Option<Duration>, QueueError> {
        let open = self.open(source).await?;
        let Some(task) = self.find_move(source, id)? else { return Ok(None) };
        if task.state == State::Cancelling {
            return self.end_move(source, id, &task, State::Cancelled, None).await;
        }
        if task.state != State::Running {
            return Ok(None);
        }
        let at_once = task.per_second.map_or(AT_ONCE, |rate| AT_ONCE.min(rate as usize));
        let left = usize::try_from(task.total.saturating_sub(task.moved)).unwrap_or(usize::MAX);
        let _gate = open.gate.clone().read_owned().await;
        let picked = {
            let mut core = open.core();
            let snapshot = self.store.snapshot()?;
            core.pick(&Rows { snapshot: &*snapshot, queue: source }, open.now(), at_once.min(left))?
        };
        if picked.messages.is_empty() {
            return self.end_move(source, id, &task, State::Completed, None).await;
        }
        let keys: Vec<_> = picked.messages.iter().map(|(key, _)| key.clone()).collect();
        let count = keys.len();
        let outcome = self.commit_move(&open, id, &task, picked.messages).await;
        {
            let mut core = open.core();
            for key in &keys {
                match &outcome {
                    Ok(()) => core.gone(key),
                    Err(_) => core.released(key),
                }
            }
        }
        open.released.notify_waiters();
        match outcome {
            Ok(()) => {}
            Err(QueueError::NoSuchQueue { queue }) if queue != source => {
                let why = format!("there is no queue `{queue}` to take a message");
                return self.end_move(source, id, &task, State::Failed, Some(why)).await;
            }
            Err(error) => return Err(error),
        }
        let pause = task.per_second.map(|rate| Duration::from_secs_f64(count as f64 / f64::from(rate)));
        Ok(Some(pause.unwrap_or_default()))
    }

    async fn commit_move(
        self: &Arc<Self>,
        open: &Arc<Open>,
        id: &str,
        task: &Move,
        messages: Vec<(Key, bytes::Bytes)>,
    ) -> Result<(), QueueError> {
        let mut batch = Batch::default();
        expect_open(&mut batch, &open.name);
        let moved = Move { moved: task.moved + messages.len() as u64, ..task.clone() };
        batch.expect(row(&open.name, id), Some(encode(task).into())).put(row(&open.name, id), encode(&moved));
        let mut arrivals = HashMap::<String, Arrival>::new();
        let (mut gates, mut told) = (Vec::new(), Vec::new());
        for (key, row) in messages {
            let mut message = Message::decode(&row)?;
            let from = message.about.dead_from.take();
            let back = from.as_deref().and_then(name_in_arn).map(str::to_owned);
            let to = task.destination.clone().or(back).unwrap_or_else(|| "(unknown)".to_owned());
            if !arrivals.contains_key(&to) {
                let target = self.open(&to).await?;
                // Who waits here, with a gate open, may be waited for.
                gates.push(target.gate.clone().try_read_owned().map_err(|_| QueueError::Contended)?);
                arrivals.insert(to.clone(), Arrival::begin(&target, &mut batch));
            }
            if let Some(arrival) = arrivals.get_mut(&to) {
                told.push((message.about.id.clone(), self.called(&to)));
                drop_rows(&mut batch, &open.name, &key);
                arrival.add(&mut batch, message);
            }
        }
        match self.store.commit(batch).await {
            // Cancelled meanwhile, or a queue was deleted: the next time finds out.
            Err(tandem_store::CommitError::Conflict { .. }) => return Err(QueueError::Contended),
            other => other?,
        }
        hit("queue.move.committed");
        arrivals.into_values().for_each(Arrival::committed);
        for (id, to) in told {
            self.tell(&open.name, &id, Became::Moved { to });
        }
        Ok(())
    }

    async fn end_move(
        &self,
        source: &str,
        id: &str,
        task: &Move,
        state: State,
        failure: Option<String>,
    ) -> Result<Option<Duration>, QueueError> {
        let mut batch = Batch::default();
        let ended = Move { state, failure, ..task.clone() };
        batch.expect(row(source, id), Some(encode(task).into())).put(row(source, id), encode(&ended));
        match self.store.commit(batch).await {
            Err(tandem_store::CommitError::Conflict { .. }) => Ok(Some(Duration::ZERO)),
            other => Ok(other.map(|()| None)?),
        }
    }

    /// The queues of which this one takes what was received too often, by name.
    pub fn sources_of(&self, queue: &str) -> Vec<String> {
        let arn = arn(queue);
        let all = self.resources.list(None).into_iter().filter(|r| r.urn.kind == tandem_model::Kind::Queue);
        let names = all.map(|recorded| recorded.id.0.clone());
        names.filter(|name| self.dead_letters_of(name).as_deref() == Some(arn.as_str())).collect()
    }
}

fn encode(task: &Move) -> Vec<u8> {
    serde_json::to_vec(task).expect("a struct has string keys")
}
