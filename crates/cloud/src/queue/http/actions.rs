//! The actions, on requests and answers in the form of the JSON protocol.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tandem_model::{Kind, PhysicalId, Recorded, StackId, plan::Change};

use super::{
    Refusal, Wire,
    request::{
        Batch, CancelMove, ChangeVisibility, CreateQueue, DeleteEntry, DeleteMessage, GetAttributes,
        Identified, ListMoves, ListQueues, ListSources, OfQueue, QueueName, ReceiveMessage, SendEntry,
        SendMessage, SetAttributes, StartMove, TagQueue, UntagQueue, VisibilityEntry,
    },
};
use crate::{
    credential::Principal,
    queue::{
        QueueError, Receive, Received, Sent, arn, is_made, made, message, name_in_arn, send::sequence,
        settings::Attributes,
    },
};

/// The most of a page. Source: Amazon SQS, ListQueues.
const PAGE: i64 = 1000;
/// The most entries of a batch.
const ENTRIES: usize = 10;

type Answer = Result<Value, Refusal>;

/// `cause` is the trace context of what makes the client ask.
pub(super) async fn act(
    wire: &Wire,
    who: &Principal,
    cause: Option<String>,
    action: &str,
    params: Value,
) -> Answer {
    match action {
        "SendMessage" => wire.send(who, cause, given(params)?).await,
        "SendMessageBatch" => wire.send_batch(who, cause, given(params)?).await,
        "ReceiveMessage" => wire.receive(who, given(params)?).await,
        "DeleteMessage" => wire.delete(who, given(params)?).await,
        "DeleteMessageBatch" => wire.delete_batch(who, given(params)?).await,
        "ChangeMessageVisibility" => wire.change_visibility(who, given(params)?).await,
        "ChangeMessageVisibilityBatch" => wire.change_visibility_batch(who, given(params)?).await,
        "CreateQueue" => wire.create(who, given(params)?).await,
        "DeleteQueue" => wire.delete_queue(who, given(params)?).await,
        "PurgeQueue" => wire.purge(who, given(params)?).await,
        "GetQueueUrl" => wire.url(who, &given(params)?),
        "ListQueues" => wire.list(who, &given(params)?),
        "ListDeadLetterSourceQueues" => wire.list_sources(who, &given(params)?),
        "GetQueueAttributes" => wire.attributes(who, given(params)?).await,
        "SetQueueAttributes" => wire.set_attributes(who, given(params)?).await,
        "TagQueue" => wire.tag(who, given(params)?).await,
        "UntagQueue" => wire.untag(who, given(params)?).await,
        "ListQueueTags" => wire.tags(who, given(params)?).await,
        "StartMessageMoveTask" => wire.start_move(who, given(params)?).await,
        "CancelMessageMoveTask" => wire.cancel_move(who, given(params)?).await,
        "ListMessageMoveTasks" => wire.list_moves(who, &given(params)?),
        "AddPermission" | "RemovePermission" => {
            let what = format!("{action}: who may use a queue follows from its stack");
            Err(QueueError::Unsupported { what }.into())
        }
        _ => Err(Refusal::UnknownAction { action: action.to_owned() }),
    }
}

fn given<T: DeserializeOwned>(params: Value) -> Result<T, Refusal> {
    serde_json::from_value(params).map_err(|error| Refusal::Malformed { wrong: error.to_string() })
}

/// What is 0 or more. A negative number is out of every range.
fn seconds(name: &'static str, given: Option<i64>) -> Result<Option<u32>, QueueError> {
    let seconds = given.map(u32::try_from).transpose();
    seconds.map_err(|_| QueueError::Parameter { name, wrong: "it is not negative, and not so large".into() })
}

impl Wire {
    /// The queue's name, if the principal reaches it. One of another stack is as good as absent.
    fn reach(&self, who: &Principal, url: &str) -> Result<String, QueueError> {
        let queue = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        self.of_stack(who, queue).map(|found| found.id.0.clone())
    }

    fn of_stack(&self, who: &Principal, queue: &str) -> Result<std::sync::Arc<Recorded>, QueueError> {
        let found = self.queues.find(queue).filter(|found| who.may_reach(&found.urn));
        found.ok_or_else(|| QueueError::NoSuchQueue { queue: queue.to_owned() })
    }

    fn reach_arn(&self, who: &Principal, arn: &str) -> Result<String, QueueError> {
        let missing = || QueueError::NoSuchTask { what: format!("this stack has no queue `{arn}`") };
        let queue = name_in_arn(arn).ok_or_else(missing)?;
        self.of_stack(who, queue).map(|found| found.id.0.clone()).map_err(|_| missing())
    }

    async fn send(&self, who: &Principal, cause: Option<String>, request: SendMessage) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let delay = seconds("DelaySeconds", request.message.delay_seconds)?;
        let message = request.message.outgoing(&who.to_string(), delay, cause);
        let sent = self.queues.send(&queue, vec![message]).await?.pop();
        let sent = sent.unwrap_or(Err(QueueError::EmptyBatch))?;
        Ok(Value::Object(told(&sent, "MD5OfMessageBody")))
    }

    async fn send_batch(&self, who: &Principal, cause: Option<String>, request: Batch<SendEntry>) -> Answer {
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

    async fn receive(&self, who: &Principal, request: ReceiveMessage) -> Answer {
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

    async fn delete(&self, who: &Principal, request: DeleteMessage) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.delete(&queue, vec![request.receipt_handle]).await?.pop().unwrap_or(Ok(()))?;
        Ok(json!({}))
    }

    async fn delete_batch(&self, who: &Principal, request: Batch<DeleteEntry>) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        check_entries(&request.entries)?;
        let (ids, receipts) =
            request.entries.into_iter().map(|entry| (entry.id, entry.receipt_handle)).unzip();
        let answers = self.queues.delete(&queue, receipts).await?;
        Ok(batch_answer(ids, answers.into_iter().map(|answer| answer.map(|()| json!({})))))
    }

    async fn change_visibility(&self, who: &Principal, request: ChangeVisibility) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let timeout = seconds("VisibilityTimeout", request.visibility_timeout)?;
        let timeout = timeout.ok_or(QueueError::Missing { name: "VisibilityTimeout" })?;
        let changes = vec![(request.receipt_handle, timeout)];
        self.queues.change_visibility(&queue, changes).await?.pop().unwrap_or(Ok(()))?;
        Ok(json!({}))
    }

    async fn change_visibility_batch(&self, who: &Principal, request: Batch<VisibilityEntry>) -> Answer {
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

    /// Makes a queue of the caller's stack. One that it has is answered if it is as the request wants it.
    async fn create(&self, who: &Principal, request: CreateQueue) -> Answer {
        let queue = request.queue_name.clone();
        let fifo = request.attributes.get("FifoQueue").is_some_and(|value| value == "true");
        crate::queue::provider::check_name(&queue, fifo)?;
        let mut wanted = Attributes { fifo, ..Attributes::default() };
        for (name, value) in &request.attributes {
            wanted.set(name, value)?;
        }
        // Somebody else may make it between the look and the change; then the second look finds it.
        for _ in 0..2 {
            if let Some(found) = self.queues.find(&queue) {
                if !who.may_reach(&found.urn) {
                    return Err(QueueError::Exists { queue, attribute: "owner" }.into());
                }
                let has = self.queues.attributes(&queue).await?;
                let differs = wanted.told().into_iter().find(|(name, value)| {
                    request.attributes.contains_key(*name) && has.get(name) != Some(value)
                });
                return match differs {
                    Some((attribute, _)) => Err(QueueError::Exists { queue, attribute }.into()),
                    None => Ok(json!({ "QueueUrl": self.queues.url(&queue) })),
                };
            }
            let urn = made::urn(who.stack(), &queue)?;
            let inputs = inputs(&queue, &wanted, &request);
            match self.target.change(&Change::Create { urn, inputs }).await {
                Ok(()) => {
                    self.set_the_rest(&queue, &request.attributes).await?;
                    return Ok(json!({ "QueueUrl": self.queues.url(&queue) }));
                }
                Err(_) if self.queues.find(&queue).is_some() => {}
                Err(report) => return Err(Refusal::Report(report)),
            }
        }
        Err(QueueError::Contended.into())
    }

    /// What only clients set.
    async fn set_the_rest(
        &self,
        queue: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Result<(), QueueError> {
        match attributes.get_key_value("RedriveAllowPolicy") {
            Some((name, value)) => {
                self.queues.set_attributes(queue, &BTreeMap::from([(name.clone(), value.clone())])).await
            }
            None => Ok(()),
        }
    }

    async fn delete_queue(&self, who: &Principal, request: OfQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let found = self.of_stack(who, &queue)?;
        if !is_made(&found.urn) {
            let what = format!(
                "deleting `{queue}`, which the program declares as {}: take it out of the program and run `tandem up`",
                found.urn.short()
            );
            return Err(QueueError::Unsupported { what }.into());
        }
        // As on AWS, with the messages that are in it.
        let change = Change::Delete { urn: found.urn.clone(), id: PhysicalId(queue), force: true };
        self.target.change(&change).await.map_err(Refusal::Report)?;
        Ok(json!({}))
    }

    async fn purge(&self, who: &Principal, request: OfQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.purge(&queue).await?;
        Ok(json!({}))
    }

    fn url(&self, who: &Principal, request: &QueueName) -> Answer {
        let found = self.of_stack(who, &request.queue_name)?;
        Ok(json!({ "QueueUrl": self.queues.url(&found.id.0) }))
    }

    fn list(&self, who: &Principal, request: &ListQueues) -> Answer {
        let prefix = request.queue_name_prefix.as_deref().unwrap_or_default();
        let names = self.names(who.stack()).into_iter().filter(|name| name.starts_with(prefix)).collect();
        let (page, next) = page(names, request.next_token.as_deref(), request.max_results)?;
        let mut answer = Map::new();
        if !page.is_empty() {
            answer.insert("QueueUrls".into(), page.iter().map(|name| self.queues.url(name)).collect());
        }
        // AWS tells where to go on only to who asked for pages.
        if let Some(next) = next.filter(|_| request.max_results.is_some()) {
            answer.insert("NextToken".into(), next.into());
        }
        Ok(Value::Object(answer))
    }

    fn names(&self, stack: &StackId) -> Vec<String> {
        let all = self.queues.resources.list(Some(stack)).into_iter().filter(|r| r.urn.kind == Kind::Queue);
        let mut names: Vec<_> = all.map(|recorded| recorded.id.0.clone()).collect();
        names.sort_unstable();
        names
    }

    fn list_sources(&self, who: &Principal, request: &ListSources) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let mut names = self.queues.sources_of(&queue);
        names.sort_unstable();
        let (page, next) = page(names, request.next_token.as_deref(), request.max_results)?;
        let mut answer =
            json!({ "queueUrls": page.iter().map(|name| self.queues.url(name)).collect::<Vec<_>>() });
        if let Some(next) = next {
            answer["NextToken"] = next.into();
        }
        Ok(answer)
    }

    async fn attributes(&self, who: &Principal, request: GetAttributes) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let all = self.queues.attributes(&queue).await?;
        let wanted = &request.attribute_names;
        const OTHERS: [&str; 10] = [
            "All",
            "Policy",
            "RedrivePolicy",
            "RedriveAllowPolicy",
            "FifoQueue",
            "ContentBasedDeduplication",
            "DeduplicationScope",
            "FifoThroughputLimit",
            "KmsMasterKeyId",
            "KmsDataKeyReusePeriodSeconds",
        ];
        if let Some(unknown) =
            wanted.iter().find(|name| !all.contains_key(name.as_str()) && !OTHERS.contains(&name.as_str()))
        {
            return Err(QueueError::AttributeName { name: unknown.clone() }.into());
        }
        let every = wanted.iter().any(|name| name == "All");
        let told: Map<_, _> = all
            .into_iter()
            .filter(|(name, _)| every || wanted.iter().any(|wanted| wanted == name))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        Ok(if told.is_empty() { json!({}) } else { json!({ "Attributes": told }) })
    }

    async fn set_attributes(&self, who: &Principal, request: SetAttributes) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.set_attributes(&queue, &request.attributes).await?;
        Ok(json!({}))
    }

    async fn tag(&self, who: &Principal, request: TagQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.tag(&queue, request.tags, &[]).await?;
        Ok(json!({}))
    }

    async fn untag(&self, who: &Principal, request: UntagQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.tag(&queue, BTreeMap::new(), &request.tag_keys).await?;
        Ok(json!({}))
    }

    async fn tags(&self, who: &Principal, request: OfQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let tags = self.queues.tags(&queue).await?;
        Ok(if tags.is_empty() { json!({}) } else { json!({ "Tags": tags }) })
    }

    async fn start_move(&self, who: &Principal, request: StartMove) -> Answer {
        let source = self.reach_arn(who, &request.source_arn)?;
        if self.queues.sources_of(&source).is_empty() {
            let what = format!("moving the messages of `{source}`, which is no queue's dead-letter queue");
            return Err(QueueError::Unsupported { what }.into());
        }
        let destination = request.destination_arn.as_ref().map(|arn| self.reach_arn(who, arn)).transpose()?;
        let rate = seconds("MaxNumberOfMessagesPerSecond", request.max_number_of_messages_per_second)?;
        let id = self.queues.start_move(&source, destination.as_deref(), rate).await?;
        Ok(json!({ "TaskHandle": URL_SAFE_NO_PAD.encode(format!("{source}/{id}")) }))
    }

    async fn cancel_move(&self, who: &Principal, request: CancelMove) -> Answer {
        let unknown = || QueueError::NoSuchTask { what: request.task_handle.clone() };
        let handle =
            URL_SAFE_NO_PAD.decode(&request.task_handle).ok().and_then(|b| String::from_utf8(b).ok());
        let handle = handle.ok_or_else(unknown)?;
        let (source, id) = handle.split_once('/').ok_or_else(unknown)?;
        self.of_stack(who, source).map_err(|_| unknown())?;
        let moved = self.queues.cancel_move(source, id).await?;
        Ok(json!({ "ApproximateNumberOfMessagesMoved": moved }))
    }

    fn list_moves(&self, who: &Principal, request: &ListMoves) -> Answer {
        let source = self.reach_arn(who, &request.source_arn)?;
        let most = request.max_results.unwrap_or(1);
        let most = usize::try_from(most).ok().filter(|most| (1..=ENTRIES).contains(most));
        let most = most.ok_or(QueueError::Parameter { name: "MaxResults", wrong: "it is 1 to 10".into() })?;
        let mut results = Vec::new();
        for (id, task) in self.queues.moves(&source)?.into_iter().take(most) {
            let mut told = json!({
                "Status": task.state,
                "SourceArn": arn(&source),
                "ApproximateNumberOfMessagesMoved": task.moved,
                "ApproximateNumberOfMessagesToMove": task.total,
                "StartedTimestamp": task.started,
            });
            if task.is_running() {
                told["TaskHandle"] = URL_SAFE_NO_PAD.encode(format!("{source}/{id}")).into();
            }
            for (name, value) in [
                ("DestinationArn", task.destination.as_deref().map(|queue| arn(queue).into())),
                ("MaxNumberOfMessagesPerSecond", task.per_second.map(Value::from)),
                ("FailureReason", task.failure.map(Value::from)),
            ] {
                if let Some(value) = value {
                    told[name] = value;
                }
            }
            results.push(told);
        }
        Ok(json!({ "Results": results }))
    }
}

/// What a program would declare of a queue that is asked for.
fn inputs(queue: &str, wanted: &Attributes, request: &CreateQueue) -> Map<String, Value> {
    let asked = |name: &str| request.attributes.contains_key(name);
    let mut inputs = Map::from_iter([("queueName".to_owned(), queue.into())]);
    for (name, property, value) in [
        ("FifoQueue", "fifo", json!(wanted.fifo)),
        ("VisibilityTimeout", "visibilityTimeout", json!(wanted.visibility_timeout)),
        ("MessageRetentionPeriod", "retention", json!(wanted.retention)),
        ("DelaySeconds", "delay", json!(wanted.delay)),
        ("ReceiveMessageWaitTimeSeconds", "receiveWait", json!(wanted.receive_wait)),
        ("MaximumMessageSize", "maxMessageSize", json!(wanted.max_message_size)),
        ("RedrivePolicy", "redrive", json!(wanted.redrive)),
        ("ContentBasedDeduplication", "contentBasedDeduplication", json!(wanted.content_based_deduplication)),
        ("DeduplicationScope", "deduplicationScope", json!(wanted.deduplication_scope)),
        ("FifoThroughputLimit", "fifoThroughputLimit", json!(wanted.fifo_throughput_limit)),
    ] {
        if asked(name) && !value.is_null() {
            inputs.insert(property.to_owned(), value);
        }
    }
    if !request.tags.is_empty() {
        inputs.insert("tags".to_owned(), json!(request.tags));
    }
    inputs
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

/// A page of sorted names, and the token of the next.
fn page(
    names: Vec<String>,
    token: Option<&str>,
    most: Option<i64>,
) -> Result<(Vec<String>, Option<String>), QueueError> {
    let most = most.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&most) {
        return Err(QueueError::Parameter {
            name: "MaxResults",
            wrong: format!("it is 1 to {PAGE}, not {most}"),
        });
    }
    let wrong = || QueueError::Parameter { name: "NextToken", wrong: "it is none of this cloud".into() };
    let after = match token {
        Some(token) => {
            let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
            String::from_utf8(bytes).map_err(|_| wrong())?
        }
        None => String::new(),
    };
    let mut left = names.into_iter().filter(|name| *name > after);
    let page: Vec<_> = left.by_ref().take(usize::try_from(most).unwrap_or(usize::MAX)).collect();
    let next = left.next().and(page.last()).map(|last| URL_SAFE_NO_PAD.encode(last));
    Ok((page, next))
}
