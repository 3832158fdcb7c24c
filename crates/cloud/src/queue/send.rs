//! Sending.

use std::{collections::BTreeMap, sync::Arc};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tandem_failpoint::hit;
use tandem_store::{Batch, CommitError, Store};
use uuid::Uuid;

use super::{
    Queues,
    deduplication::{Known, Memory, hash},
    error::QueueError,
    expect_open,
    key::{Key, message_row},
    message::{self, About, Attribute, MOST_BYTES, Message, allowed, check_attributes, md5},
    open::Open,
    settings::{Attributes, LONGEST_DELAY},
    through,
};

/// A message to be sent.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    pub body: String,
    /// How long it is hidden first, in seconds: 0 to 900. `None`: as long as the queue says.
    pub delay: Option<u32>,
    pub attributes: BTreeMap<String, Attribute>,
    /// Needed in FIFO queues.
    pub group: Option<String>,
    /// Needed in FIFO queues that do not deduplicate by content.
    pub deduplication: Option<String>,
    /// `AWSTraceHeader`.
    pub trace: Option<String>,
    /// Who sends it, for the attribute `SenderId`.
    pub sender: String,
    /// W3C trace context of the cause.
    pub traceparent: Option<String>,
}

/// A message that is there: on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub id: String,
    pub md5: String,
    pub md5_of_attributes: Option<String>,
    pub md5_of_system_attributes: Option<String>,
    /// Of FIFO queues: greater than that of every message sent before.
    pub sequence: Option<String>,
}

/// A message that passed all checks.
struct Ready {
    key: Key,
    message: Message,
    sent: Sent,
    /// Of FIFO queues, by which it is recognised.
    known: Option<(String, Known)>,
}

impl Queues {
    /// Sends messages; each is sent or refused on its own, and all that are sent are one commit.
    ///
    /// # Errors
    /// If none could be looked at: there is no such queue, they are too large together, or the commit failed.
    pub async fn send(
        self: &Arc<Self>,
        queue: &str,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Result<Sent, QueueError>>, QueueError> {
        let size = messages.iter().map(|message| message.body.len()).sum();
        if messages.len() > 1 && size > MOST_BYTES {
            return Err(QueueError::BatchTooLong { size, most: MOST_BYTES });
        }
        let open = self.open(queue).await?;
        let queues = self.clone();
        through(async move {
            let _gate = open.gate.clone().read_owned().await;
            match open.settings().attributes.fifo {
                true => queues.send_in_order(&open, messages).await,
                false => queues.send_at_once(&open, messages).await,
            }
        })
        .await
    }

    async fn send_at_once(
        &self,
        open: &Open,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Result<Sent, QueueError>>, QueueError> {
        let settings = open.settings();
        let now = open.now();
        let ready: Vec<_> =
            messages.into_iter().map(|message| make(open, &settings.attributes, message, now)).collect();
        let mut batch = Batch::default();
        expect_open(&mut batch, &open.name);
        let added: Vec<_> =
            ready.iter().flatten().map(|ready| (ready.key.clone(), ready.message.due)).collect();
        for ready in ready.iter().flatten() {
            batch.put(message_row(&open.name, &ready.key), ready.message.encode());
        }
        if !added.is_empty() {
            commit(&*self.store, &open.name, batch).await?;
            hit("queue.send.committed");
            arrived(open, &added);
        }
        Ok(ready.into_iter().map(|ready| ready.map(|ready| ready.sent)).collect())
    }

    async fn send_in_order(
        &self,
        open: &Open,
        messages: Vec<Outgoing>,
    ) -> Result<Vec<Result<Sent, QueueError>>, QueueError> {
        let mut memory = open.sending.lock().await;
        let settings = open.settings();
        let now = open.now();
        let (mut batch, mut added, mut new) = (Batch::default(), vec![], Vec::<(String, Known)>::new());
        expect_open(&mut batch, &open.name);
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            let ready = match make(open, &settings.attributes, message, now) {
                Ok(ready) => ready,
                Err(error) => {
                    answers.push(Err(error));
                    continue;
                }
            };
            let mut sent = ready.sent;
            let Some((hash, known)) = ready.known else { continue };
            let before =
                memory.find(&hash, now).or_else(|| new.iter().find(|(h, _)| *h == hash).map(|(_, k)| k));
            if let Some(before) = before {
                // It is there already, or was.
                sent.id = before.id.clone();
                sent.sequence = Some(sequence(before.number));
            } else {
                batch.put(message_row(&open.name, &ready.key), ready.message.encode());
                added.push((ready.key, ready.message.due));
                new.push((hash, known));
            }
            answers.push(Ok(sent));
        }
        if !added.is_empty() {
            memory.write(&mut batch, &open.name, &new, now);
            commit(&*self.store, &open.name, batch).await?;
            hit("queue.send.ordered");
            memory.written(new, now);
            arrived(open, &added);
        }
        Ok(answers)
    }
}

/// Tells memory, and who waits.
pub(super) fn arrived(open: &Open, added: &[(Key, u64)]) {
    let mut core = open.core();
    for (key, due) in added {
        core.added(key, *due);
    }
    drop(core);
    open.arrival.notify_one();
}

pub(super) async fn commit(store: &dyn Store, queue: &str, batch: Batch) -> Result<(), QueueError> {
    match store.commit(batch).await {
        Err(CommitError::Conflict { .. }) => Err(QueueError::NoSuchQueue { queue: queue.to_owned() }),
        other => Ok(other?),
    }
}

/// A sequence number as it is told: twenty digits, so that texts are ordered as numbers are.
pub(super) fn sequence(number: u64) -> String {
    format!("{number:020}")
}

fn make(open: &Open, queue: &Attributes, outgoing: Outgoing, now: u64) -> Result<Ready, QueueError> {
    let delay = check(queue, &outgoing)?;
    let due = now + u64::from(delay) * 1000;
    let number = open.next_number();
    let md5_of_attributes = message::md5_of_attributes(&outgoing.attributes);
    let traced = outgoing.trace.clone().map(|trace| {
        let attribute =
            Attribute { data_type: "String".into(), string_value: Some(trace), binary_value: None };
        BTreeMap::from([("AWSTraceHeader".to_owned(), attribute)])
    });
    let id = Uuid::new_v4().to_string();
    let sent = Sent {
        id: id.clone(),
        md5: md5(outgoing.body.as_bytes()),
        md5_of_attributes,
        md5_of_system_attributes: traced.as_ref().and_then(message::md5_of_attributes),
        sequence: queue.fifo.then(|| sequence(number)),
    };
    let deduplication = match (queue.fifo, &outgoing.deduplication) {
        (_, Some(given)) => Some(given.clone()),
        (true, None) => Some(HEXLOWER.encode(&Sha256::digest(&outgoing.body))),
        (false, None) => None,
    };
    let group = outgoing.group.as_deref().unwrap_or_default();
    let known = deduplication.as_deref().filter(|_| queue.fifo).map(|deduplication| {
        let known = Known { id: id.clone(), number, until: Memory::until(now) };
        (hash(queue.deduplication_scope, group, deduplication), known)
    });
    let key = match queue.fifo {
        true => Key::fifo(group, number),
        false => Key::standard(due, number),
    };
    let about = About {
        id,
        sender: outgoing.sender,
        md5: sent.md5.clone(),
        attributes: outgoing.attributes,
        group: outgoing.group,
        deduplication,
        trace: outgoing.trace,
        traceparent: outgoing.traceparent,
        dead_from: None,
    };
    Ok(Ready { key, message: Message { due, sent: now, about, body: outgoing.body.into() }, sent, known })
}

/// Checks a message, and answers its delay.
fn check(queue: &Attributes, message: &Outgoing) -> Result<u32, QueueError> {
    if message.body.is_empty() {
        return Err(QueueError::Missing { name: "MessageBody" });
    }
    if !message.body.chars().all(allowed) {
        return Err(QueueError::Contents);
    }
    let size = message.body.len() + check_attributes(&message.attributes)?;
    let most = queue.max_message_size as usize;
    if size > most {
        return Err(QueueError::TooLong { size, most });
    }
    for (name, given) in
        [("MessageGroupId", &message.group), ("MessageDeduplicationId", &message.deduplication)]
    {
        if let Some(given) = given
            && (given.is_empty() || given.len() > 128 || !given.chars().all(|c| c.is_ascii_graphic()))
        {
            return Err(QueueError::Parameter {
                name,
                wrong: "it has 1 to 128 letters, digits and punctuation marks".into(),
            });
        }
    }
    match (queue.fifo, message) {
        (true, Outgoing { group: None, .. }) => Err(QueueError::Missing { name: "MessageGroupId" }),
        (true, Outgoing { deduplication: None, .. }) if !queue.content_based_deduplication => {
            Err(QueueError::Parameter {
                name: "MessageDeduplicationId",
                wrong:
                    "the queue does not deduplicate by content, so each message says by what it is recognised"
                        .into(),
            })
        }
        (true, Outgoing { delay: Some(1..), .. }) => Err(QueueError::Parameter {
            name: "DelaySeconds",
            wrong: "in a FIFO queue all messages have the delay of the queue".into(),
        }),
        (false, Outgoing { deduplication: Some(_), .. }) => Err(QueueError::Parameter {
            name: "MessageDeduplicationId",
            wrong: "only FIFO queues deduplicate".into(),
        }),
        (false, Outgoing { delay: Some(delay), .. }) if *delay > LONGEST_DELAY => {
            Err(QueueError::Parameter {
                name: "DelaySeconds",
                wrong: format!("it is 0 to {LONGEST_DELAY}, not {delay}"),
            })
        }
        (false, Outgoing { delay: Some(delay), .. }) => Ok(*delay),
        _ => Ok(queue.delay),
    }
}
