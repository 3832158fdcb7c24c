//! The actions on messages: send, receive, delete, hide.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::{
    Wire,
    actions::{Answer, ENTRIES, seconds},
    request::{
        Batch, ChangeVisibility, DeleteEntry, DeleteMessage, Identified, ReceiveMessage, SendEntry,
        SendMessage, VisibilityEntry,
    },
};
use crate::{
    credential::Principal,
    queue::{QueueError, Receive, Received, Sent, message, send::sequence},
};

impl Wire {
    pub(super) async fn send(&self, who: &Principal, cause: Option<String>, request: SendMessage) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let delay = seconds("DelaySeconds", request.message.delay_seconds)?;
        let message = request.message.outgoing(&who.to_string(), delay, cause);
        let sent = self.queues.send(&queue, vec![message]).await?.pop();
        let sent = sent.unwrap_or(Err(QueueError::EmptyBatch))?;
        Ok(Value::Object(told(&sent, "MD5OfMessageBody")))
    }

    pub(super) async fn send_batch(
        &self,
        who: &Principal,
        cause: Option<String>,
        request: Batch<SendEntry>,
    ) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        check_entries(&request.entries)?;
        let ids: Vec<_> = request.entries.iter().map(|entry| entry.id.clone()).collect();
        let mut messages = Vec::new();
        let mut answers: Vec<Option<Result<Value, QueueError>>> = Vec::new();
        for entry in request.entries {
            match seconds("DelaySeconds", entry.message.delay_seconds) {
                Ok(delay) => {
                    messages.push(entry.message.outgoing(&who.to_string(), delay, cause.clone()));
                    answers.push(None);
                }
                Err(error) => answers.push(Some(Err(error))),
            }
        }
        let mut sent = self.queues.send(&queue, messages).await?.into_iter();
        let answers = answers.into_iter().map(|answer| {
            answer.unwrap_or_else(|| {
                let sent = sent.next().unwrap_or(Err(QueueError::EmptyBatch));
                sent.map(|sent| Value::Object(told(&sent, "MD5OfMessageBody")))
            })
        });
        Ok(batch_answer(ids, answers))
    }

    pub(super) async fn receive(&self, who: &Principal, request: ReceiveMessage) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let most = request.max_number_of_messages.unwrap_or(1);
        let wait = seconds("WaitTimeSeconds", request.wait_time_seconds)?;
        let how = Receive {
            most: usize::try_from(most).unwrap_or(0),
            visibility: seconds("VisibilityTimeout", request.visibility_timeout)?,
            wait: wait.map(|seconds| Duration::from_secs(seconds.into())),
            own: false,
        };
        let received = self.queues.receive(&queue, &how).await?;
        if received.is_empty() {
            return Ok(json!({}));
        }
        let messages: Vec<_> = received.iter().map(|received| shown(received, &request)).collect();
        Ok(json!({ "Messages": messages }))
    }

    pub(super) async fn delete(&self, who: &Principal, request: DeleteMessage) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.delete(&queue, vec![request.receipt_handle]).await?.pop().unwrap_or(Ok(()))?;
        Ok(json!({}))
    }

    pub(super) async fn delete_batch(&self, who: &Principal, request: Batch<DeleteEntry>) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        check_entries(&request.entries)?;
        let (ids, receipts) =
            request.entries.into_iter().map(|entry| (entry.id, entry.receipt_handle)).unzip();
        let answers = self.queues.delete(&queue, receipts).await?;
        Ok(batch_answer(ids, answers.into_iter().map(|answer| answer.map(|()| json!({})))))
    }

    pub(super) async fn change_visibility(&self, who: &Principal, request: ChangeVisibility) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let timeout = seconds("VisibilityTimeout", request.visibility_timeout)?;
        let timeout = timeout.ok_or(QueueError::Missing { name: "VisibilityTimeout" })?;
        let changes = vec![(request.receipt_handle, timeout)];
        self.queues.change_visibility(&queue, changes).await?.pop().unwrap_or(Ok(()))?;
        Ok(json!({}))
    }

    pub(super) async fn change_visibility_batch(
        &self,
        who: &Principal,
        request: Batch<VisibilityEntry>,
    ) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        check_entries(&request.entries)?;
        let mut ids = Vec::new();
        let mut changes = Vec::new();
        for entry in request.entries {
            // Out of every range, and refused as such with the others that are.
            let timeout = seconds("VisibilityTimeout", entry.visibility_timeout).unwrap_or(Some(u32::MAX));
            changes.push((entry.receipt_handle, timeout.unwrap_or(u32::MAX)));
            ids.push(entry.id);
        }
        let answers = self.queues.change_visibility(&queue, changes).await?;
        Ok(batch_answer(ids, answers.into_iter().map(|answer| answer.map(|()| json!({})))))
    }
}

fn told(sent: &Sent, body: &str) -> Map<String, Value> {
    let all = [
        ("MessageId", Some(&sent.id)),
        (body, Some(&sent.md5)),
        ("MD5OfMessageAttributes", sent.md5_of_attributes.as_ref()),
        ("MD5OfMessageSystemAttributes", sent.md5_of_system_attributes.as_ref()),
        ("SequenceNumber", sent.sequence.as_ref()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.clone().into()))).collect()
}

fn check_entries<T: Identified>(entries: &[T]) -> Result<(), QueueError> {
    if entries.is_empty() {
        return Err(QueueError::EmptyBatch);
    }
    if entries.len() > ENTRIES {
        return Err(QueueError::TooManyEntries { count: entries.len() });
    }
    let mut ids = HashSet::new();
    for entry in entries {
        let id = entry.id();
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > 80 || !id.chars().all(legal) {
            return Err(QueueError::EntryId { id: id.to_owned() });
        }
        if !ids.insert(id) {
            return Err(QueueError::IdsNotDistinct { id: id.to_owned() });
        }
    }
    Ok(())
}

fn batch_answer(ids: Vec<String>, answers: impl Iterator<Item = Result<Value, QueueError>>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, answer) in ids.into_iter().zip(answers) {
        match answer {
            Ok(mut answer) => {
                answer["Id"] = id.into();
                successful.push(answer);
            }
            Err(error) => failed.push(json!({
                "Id": id,
                "SenderFault": !error.is_fault(),
                "Code": error.name().0,
                "Message": error.to_string(),
            })),
        }
    }
    let lists =
        [("Successful", successful), ("Failed", failed)].into_iter().filter(|(_, list)| !list.is_empty());
    Value::Object(lists.map(|(name, list)| (name.to_owned(), Value::Array(list))).collect())
}

/// A message as a consumer sees it, with the attributes that it asked for.
fn shown(received: &Received, request: &ReceiveMessage) -> Value {
    let (kept, lease) = (&received.message, &received.lease);
    let mut shown = json!({
        "MessageId": kept.about.id,
        "ReceiptHandle": received.receipt,
        "MD5OfBody": kept.about.md5,
        "Body": kept.text(),
    });
    let names = || request.attribute_names.iter().chain(&request.message_system_attribute_names);
    let wants = |name: &str| names().any(|wanted| wanted == "All" || wanted == name);
    let sequenced =
        kept.about.group.as_ref().filter(|_| received.in_order).map(|_| sequence(received.number));
    let attributes: Map<_, _> = [
        ("SenderId", Some(kept.about.sender.clone())),
        ("SentTimestamp", Some(kept.sent.to_string())),
        ("ApproximateReceiveCount", Some(lease.receives.to_string())),
        ("ApproximateFirstReceiveTimestamp", Some(lease.first.to_string())),
        ("SequenceNumber", sequenced),
        ("MessageDeduplicationId", kept.about.deduplication.clone()),
        ("MessageGroupId", kept.about.group.clone()),
        ("AWSTraceHeader", kept.about.trace.clone()),
        ("DeadLetterQueueSourceArn", kept.about.dead_from.clone()),
    ]
    .into_iter()
    .filter(|(name, _)| wants(name))
    .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
    .collect();
    if !attributes.is_empty() {
        shown["Attributes"] = Value::Object(attributes);
    }
    let wanted: BTreeMap<_, _> = kept
        .about
        .attributes
        .iter()
        .filter(|(name, _)| request.message_attribute_names.iter().any(|wanted| admits(wanted, name)))
        .map(|(name, attribute)| (name.clone(), attribute.clone()))
        .collect();
    if let Some(md5) = message::md5_of_attributes(&wanted) {
        shown["MD5OfMessageAttributes"] = md5.into();
        shown["MessageAttributes"] = json!(wanted);
    }
    shown
}

/// `All`, `.*`, a name, or a beginning and `.*`. Source: Amazon SQS, ReceiveMessage.
fn admits(wanted: &str, name: &str) -> bool {
    wanted == "All"
        || wanted == name
        || wanted.strip_suffix(".*").is_some_and(|prefix| name.starts_with(prefix))
}
