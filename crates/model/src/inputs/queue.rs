//! What a program says of a queue. Whole seconds and bytes, in the ranges of Amazon SQS; the queue checks them.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

/// `None` means the default, or for what clients may set over the wire too: what they set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Queue {
    /// Pins the queue's name; otherwise it is derived from the resource's name. That of a FIFO queue ends in `.fifo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_name: Option<String>,
    /// Whether messages of a group keep their order, and repeated ones are recognised. Never changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fifo: bool,
    /// How long a received message is hidden from others, in seconds: 0 to 43,200; 30 if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility_timeout: Option<u32>,
    /// How long a message is kept, in seconds: 60 to 1,209,600; 345,600 if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<u32>,
    /// How long a message is hidden after it was sent, in seconds: 0 to 900.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u32>,
    /// How long a receive waits for a message, in seconds: 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_wait: Option<u32>,
    /// The most bytes of a message: 1,024 to 1,048,576, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_message_size: Option<u32>,
    /// Where a message goes that was received too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrive: Option<RedrivePolicy>,
    /// Of FIFO queues: a message without a deduplication id is recognised by its body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_based_deduplication: Option<bool>,
    /// Of FIFO queues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deduplication_scope: Option<DeduplicationScope>,
    /// Of FIFO queues; kept and told, without effect: nothing is throttled here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fifo_throughput_limit: Option<ThroughputLimit>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Lets `destroy` delete it with its messages.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force_destroy: bool,
}

/// Source of the ranges: Amazon SQS, SetQueueAttributes.
impl Queue {
    pub const VISIBILITY_TIMEOUT: RangeInclusive<u32> = 0..=43_200;
    pub const RETENTION: RangeInclusive<u32> = 60..=1_209_600;
    pub const DELAY: RangeInclusive<u32> = 0..=900;
    pub const RECEIVE_WAIT: RangeInclusive<u32> = 0..=20;
    /// Up to 1 MiB, since August 2025.
    pub const MAX_MESSAGE_SIZE: RangeInclusive<u32> = 1024..=1_048_576;
    pub const MAX_RECEIVE_COUNT: RangeInclusive<u32> = 1..=1000;

    /// What is wrong with it, by the name of the property.
    ///
    /// # Errors
    /// For people.
    pub fn check(&self) -> Result<(), String> {
        let redrive = self.redrive.as_ref().map(|redrive| redrive.max_receive_count);
        for (name, value, range) in [
            ("visibilityTimeout", self.visibility_timeout, Self::VISIBILITY_TIMEOUT),
            ("retention", self.retention, Self::RETENTION),
            ("delay", self.delay, Self::DELAY),
            ("receiveWait", self.receive_wait, Self::RECEIVE_WAIT),
            ("maxMessageSize", self.max_message_size, Self::MAX_MESSAGE_SIZE),
            ("maxReceiveCount", redrive, Self::MAX_RECEIVE_COUNT),
        ] {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                return Err(format!("`{name}` is {} to {}, not {value}", range.start(), range.end()));
            }
        }
        let of_fifo = [
            ("contentBasedDeduplication", self.content_based_deduplication == Some(true)),
            ("deduplicationScope", self.deduplication_scope.is_some()),
            ("fifoThroughputLimit", self.fifo_throughput_limit.is_some()),
        ];
        if let Some((name, _)) = of_fifo.iter().find(|(_, given)| *given && !self.fifo) {
            return Err(format!("`{name}` is for FIFO queues: say `fifo: true`"));
        }
        let name = self.queue_name.as_deref().map_or(Ok(()), |name| Self::check_name(name, self.fifo));
        name.map_err(|wrong| {
            format!("`queueName` cannot be {:?}: {wrong}", self.queue_name.as_deref().unwrap_or_default())
        })
    }

    /// Whether a queue can have the name. Source: Amazon SQS, CreateQueue.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_name(name: &str, fifo: bool) -> Result<(), &'static str> {
        let stem = match (name.strip_suffix(".fifo"), fifo) {
            (None, true) => return Err("that of a FIFO queue ends in `.fifo`"),
            (Some(_), false) => return Err("only that of a FIFO queue ends in `.fifo`"),
            (stem, _) => stem.unwrap_or(name),
        };
        if stem.is_empty() || name.len() > 80 {
            return Err("it has 1 to 80 characters");
        }
        match stem.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            true => Ok(()),
            false => Err("it has other characters than letters, digits, `-` and `_`"),
        }
    }
}

/// After how many receives a message goes where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedrivePolicy {
    /// The ARN of the queue that takes them.
    pub dead_letter_target_arn: String,
    /// 1 to 1,000.
    pub max_receive_count: u32,
}

/// Among which messages a deduplication id is unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeduplicationScope {
    Queue,
    MessageGroup,
}

/// What Amazon SQS throttles by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ThroughputLimit {
    PerQueue,
    PerMessageGroupId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ranges_that_cannot_be_are_told_before_anything_is_made() {
        let named = |name: &str, fifo| Queue { queue_name: Some(name.to_owned()), fifo, ..Queue::default() };
        for queue in [
            named("a b", false),
            named("", false),
            named(".fifo", true),
            named("a.fifo", false),
            named("a", true),
            named(&"x".repeat(81), false),
            Queue { retention: Some(59), ..Queue::default() },
            Queue { delay: Some(901), ..Queue::default() },
            Queue { content_based_deduplication: Some(true), ..Queue::default() },
        ] {
            assert!(queue.check().is_err(), "{queue:?}");
        }
        for queue in [named("a-b_C9", false), named("a.fifo", true), named(&"x".repeat(80), false)] {
            assert_eq!(queue.check(), Ok(()));
        }
    }
}
