//! The actions on queues as a whole: make, find, list, set, tag, purge, delete.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use tandem_model::{Kind, PhysicalId, StackId, plan::Change};

use super::{
    Refusal, Wire,
    actions::Answer,
    request::{
        CreateQueue, GetAttributes, ListQueues, ListSources, OfQueue, QueueName, SetAttributes, TagQueue,
        UntagQueue,
    },
};
use crate::{
    credential::Principal,
    queue::{QueueError, is_made, made, provider::check_name, settings::Attributes},
};

/// The most of a page. Source: Amazon SQS, ListQueues.
const PAGE: i64 = 1000;

impl Wire {
    /// Makes a queue of the caller's stack. One that it has is answered if it is as the request wants it.
    pub(super) async fn create(&self, who: &Principal, request: CreateQueue) -> Answer {
        let queue = request.queue_name.clone();
        let fifo = request.attributes.get("FifoQueue").is_some_and(|value| value == "true");
        check_name(&queue, fifo)?;
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

    pub(super) async fn delete_queue(&self, who: &Principal, request: OfQueue) -> Answer {
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

    pub(super) async fn purge(&self, who: &Principal, request: OfQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.purge(&queue).await?;
        Ok(json!({}))
    }

    pub(super) fn url(&self, who: &Principal, request: &QueueName) -> Answer {
        let found = self.of_stack(who, &request.queue_name)?;
        Ok(json!({ "QueueUrl": self.queues.url(&found.id.0) }))
    }

    pub(super) fn list(&self, who: &Principal, request: &ListQueues) -> Answer {
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

    pub(super) fn list_sources(&self, who: &Principal, request: &ListSources) -> Answer {
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

    pub(super) async fn attributes(&self, who: &Principal, request: GetAttributes) -> Answer {
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

    pub(super) async fn set_attributes(&self, who: &Principal, request: SetAttributes) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.set_attributes(&queue, &request.attributes).await?;
        Ok(json!({}))
    }

    pub(super) async fn tag(&self, who: &Principal, request: TagQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.tag(&queue, request.tags, &[]).await?;
        Ok(json!({}))
    }

    pub(super) async fn untag(&self, who: &Principal, request: UntagQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        self.queues.tag(&queue, BTreeMap::new(), &request.tag_keys).await?;
        Ok(json!({}))
    }

    pub(super) async fn tags(&self, who: &Principal, request: OfQueue) -> Answer {
        let queue = self.reach(who, &request.queue_url)?;
        let tags = self.queues.tags(&queue).await?;
        Ok(if tags.is_empty() { json!({}) } else { json!({ "Tags": tags }) })
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
