//! What a queue is set to, by its program and by clients.
//!
//! Who owns it: `queue-setting/<queue>`, written by the commit that makes the queue, by each change of its program, and by
//! clients (SetQueueAttributes, TagQueue). A change of the program sets what the program says, and takes back what it no
//! longer says; what a client set otherwise stays.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use tandem_model::inputs::{DeduplicationScope, Queue, RedrivePolicy, ThroughputLimit};

use super::error::QueueError;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    /// When the queue was made, and last set otherwise: seconds since 1970.
    pub(super) created: u64,
    pub(super) modified: u64,
    pub(super) attributes: Attributes,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
}

/// The attributes that can be set. Times in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attributes {
    pub(super) fifo: bool,
    pub(super) visibility_timeout: u32,
    pub(super) retention: u32,
    pub(super) delay: u32,
    pub(super) receive_wait: u32,
    pub(super) max_message_size: u32,
    pub(super) redrive: Option<RedrivePolicy>,
    pub(super) content_based_deduplication: bool,
    pub(super) deduplication_scope: DeduplicationScope,
    pub(super) fifo_throughput_limit: ThroughputLimit,
    /// Kept and told as it was given.
    #[serde(default)]
    pub(super) redrive_allow: Option<String>,
}

/// Source of the ranges and defaults: Amazon SQS, SetQueueAttributes.
impl Default for Attributes {
    fn default() -> Self {
        Self {
            fifo: false,
            visibility_timeout: 30,
            retention: 345_600,
            delay: 0,
            receive_wait: 0,
            max_message_size: *Queue::MAX_MESSAGE_SIZE.end(),
            redrive: None,
            content_based_deduplication: false,
            deduplication_scope: DeduplicationScope::Queue,
            fifo_throughput_limit: ThroughputLimit::PerQueue,
            redrive_allow: None,
        }
    }
}

/// The longest that a message can be hidden, in seconds.
pub(super) const LONGEST_VISIBILITY: u32 = *Queue::VISIBILITY_TIMEOUT.end();
/// The longest delay of a message.
pub(super) const LONGEST_DELAY: u32 = *Queue::DELAY.end();
/// The longest wait of a receive.
pub(super) const LONGEST_WAIT: u32 = *Queue::RECEIVE_WAIT.end();

const SETTABLE: [&str; 10] = [
    "VisibilityTimeout",
    "MessageRetentionPeriod",
    "DelaySeconds",
    "ReceiveMessageWaitTimeSeconds",
    "MaximumMessageSize",
    "RedrivePolicy",
    "RedriveAllowPolicy",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
];

impl Attributes {
    /// Sets one, given as on the wire. An empty value takes back what was set.
    ///
    /// # Errors
    /// [`QueueError`] names the attribute.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), QueueError> {
        let standard = Self::default();
        let number = |range: RangeInclusive<u32>, default: u32| -> Result<u32, QueueError> {
            if value.is_empty() {
                return Ok(default);
            }
            let number = value.parse().ok().filter(|number| range.contains(number));
            let (least, most) = (range.start(), range.end());
            number.ok_or_else(|| refused(name, value, format!("a whole number of {least} to {most}")))
        };
        match name {
            "VisibilityTimeout" => {
                self.visibility_timeout = number(Queue::VISIBILITY_TIMEOUT, standard.visibility_timeout)?;
            }
            "MessageRetentionPeriod" => self.retention = number(Queue::RETENTION, standard.retention)?,
            "DelaySeconds" => self.delay = number(Queue::DELAY, 0)?,
            "ReceiveMessageWaitTimeSeconds" => self.receive_wait = number(Queue::RECEIVE_WAIT, 0)?,
            "MaximumMessageSize" => {
                self.max_message_size = number(Queue::MAX_MESSAGE_SIZE, standard.max_message_size)?;
            }
            "RedrivePolicy" => self.redrive = redrive(value)?,
            "RedriveAllowPolicy" => {
                let object = value.is_empty() || serde_json::from_str::<serde_json::Map<_, _>>(value).is_ok();
                if !object {
                    return Err(refused(name, value, "a JSON object".into()));
                }
                self.redrive_allow = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
            "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit" if !self.fifo => {
                return Err(refused(name, value, "only FIFO queues have it".into()));
            }
            "ContentBasedDeduplication" => {
                self.content_based_deduplication = match value {
                    "true" => true,
                    "false" | "" => false,
                    _ => return Err(refused(name, value, "`true` or `false`".into())),
                };
            }
            "DeduplicationScope" => {
                self.deduplication_scope = match value {
                    "queue" | "" => DeduplicationScope::Queue,
                    "messageGroup" => DeduplicationScope::MessageGroup,
                    _ => return Err(refused(name, value, "`queue` or `messageGroup`".into())),
                };
            }
            "FifoThroughputLimit" => {
                self.fifo_throughput_limit = match value {
                    "perQueue" | "" => ThroughputLimit::PerQueue,
                    "perMessageGroupId" => ThroughputLimit::PerMessageGroupId,
                    _ => return Err(refused(name, value, "`perQueue` or `perMessageGroupId`".into())),
                };
            }
            "FifoQueue" => {
                let given = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(refused(name, value, "`true` or `false`".into())),
                };
                if given != self.fifo {
                    return Err(refused(
                        name,
                        value,
                        "it is said when the queue is made, by a name that ends in `.fifo`".into(),
                    ));
                }
            }
            // Who may do what follows from the stack, and nothing is encrypted by keys of a key service. What says the same
            // is taken.
            "SqsManagedSseEnabled" if matches!(value, "true" | "false") => {}
            "Policy" | "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" if value.is_empty() => {}
            "Policy" | "KmsMasterKeyId" | "KmsDataKeyReusePeriodSeconds" => {
                return Err(QueueError::Unsupported { what: format!("the attribute `{name}`") });
            }
            _ => return Err(QueueError::AttributeName { name: name.to_owned() }),
        }
        Ok(())
    }

    /// Those that can be set, as on the wire.
    pub(super) fn told(&self) -> BTreeMap<&'static str, String> {
        let mut told = BTreeMap::from([
            ("VisibilityTimeout", self.visibility_timeout.to_string()),
            ("MessageRetentionPeriod", self.retention.to_string()),
            ("DelaySeconds", self.delay.to_string()),
            ("ReceiveMessageWaitTimeSeconds", self.receive_wait.to_string()),
            ("MaximumMessageSize", self.max_message_size.to_string()),
            ("SqsManagedSseEnabled", "false".to_owned()),
        ]);
        if let Some(redrive) = &self.redrive {
            told.insert("RedrivePolicy", serde_json::to_string(redrive).unwrap_or_default());
        }
        if let Some(allow) = &self.redrive_allow {
            told.insert("RedriveAllowPolicy", allow.clone());
        }
        if self.fifo {
            let scope = match self.deduplication_scope {
                DeduplicationScope::Queue => "queue",
                DeduplicationScope::MessageGroup => "messageGroup",
            };
            let limit = match self.fifo_throughput_limit {
                ThroughputLimit::PerQueue => "perQueue",
                ThroughputLimit::PerMessageGroupId => "perMessageGroupId",
            };
            told.insert("FifoQueue", "true".to_owned());
            told.insert("ContentBasedDeduplication", self.content_based_deduplication.to_string());
            told.insert("DeduplicationScope", scope.to_owned());
            told.insert("FifoThroughputLimit", limit.to_owned());
        }
        told
    }

    /// Takes over what a program says, and takes back what it said `before` and no longer says.
    ///
    /// # Errors
    /// [`QueueError`] names what cannot be.
    pub(super) fn declare(&mut self, before: &Queue, now: &Queue) -> Result<(), QueueError> {
        let (before, now) = (declared(before), declared(now));
        for name in SETTABLE {
            match (before.get(name), now.get(name)) {
                (_, Some(value)) => self.set(name, value)?,
                (Some(_), None) => self.set(name, "")?,
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// What a program says of a queue, as on the wire.
pub(super) fn declared(inputs: &Queue) -> BTreeMap<&'static str, String> {
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let text = |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned));
    let all = [
        ("VisibilityTimeout", number(inputs.visibility_timeout)),
        ("MessageRetentionPeriod", number(inputs.retention)),
        ("DelaySeconds", number(inputs.delay)),
        ("ReceiveMessageWaitTimeSeconds", number(inputs.receive_wait)),
        ("MaximumMessageSize", number(inputs.max_message_size)),
        ("RedrivePolicy", inputs.redrive.as_ref().and_then(|policy| serde_json::to_string(policy).ok())),
        ("ContentBasedDeduplication", inputs.content_based_deduplication.map(|given| given.to_string())),
        ("DeduplicationScope", text(inputs.deduplication_scope.map(|scope| serde_json::json!(scope)))),
        ("FifoThroughputLimit", text(inputs.fifo_throughput_limit.map(|limit| serde_json::json!(limit)))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// On the wire the count may be a text.
fn redrive(value: &str) -> Result<Option<RedrivePolicy>, QueueError> {
    if value.is_empty() || value == "{}" {
        return Ok(None);
    }
    let wrong = |wrong: &str| refused("RedrivePolicy", value, wrong.to_owned());
    let given: serde_json::Value = serde_json::from_str(value).map_err(|_| wrong("it is not JSON"))?;
    let target = given.get("deadLetterTargetArn").and_then(|arn| arn.as_str());
    let count = given.get("maxReceiveCount").and_then(|count| match count {
        serde_json::Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    });
    let (Some(target), Some(count)) = (target, count) else {
        return Err(wrong("it is an object of `deadLetterTargetArn` and `maxReceiveCount`"));
    };
    let count = u32::try_from(count).ok().filter(|count| Queue::MAX_RECEIVE_COUNT.contains(count));
    let max_receive_count = count.ok_or_else(|| wrong("`maxReceiveCount` is 1 to 1000"))?;
    Ok(Some(RedrivePolicy { dead_letter_target_arn: target.to_owned(), max_receive_count }))
}

fn refused(name: &str, value: &str, wrong: String) -> QueueError {
    QueueError::AttributeValue { name: name.to_owned(), value: value.to_owned(), wrong }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_no_longer_says_goes_back_and_what_a_client_set_stays() {
        let says = |visibility_timeout| Queue { visibility_timeout, ..Queue::default() };
        let mut attributes = Attributes::default();
        attributes.declare(&says(None), &says(Some(5))).unwrap();
        attributes.set("DelaySeconds", "7").unwrap();
        attributes.declare(&says(Some(5)), &says(Some(6))).unwrap();
        assert_eq!((attributes.visibility_timeout, attributes.delay), (6, 7));
        attributes.declare(&says(Some(6)), &says(None)).unwrap();
        assert_eq!((attributes.visibility_timeout, attributes.delay), (30, 7));
    }

    #[test]
    fn values_out_of_range_and_unknown_names_are_refused() {
        for (name, value) in [
            ("VisibilityTimeout", "43201"),
            ("VisibilityTimeout", "-1"),
            ("MessageRetentionPeriod", "59"),
            ("DelaySeconds", "901"),
            ("MaximumMessageSize", "1048577"),
            ("RedrivePolicy", r#"{"maxReceiveCount": 3}"#),
            (
                "RedrivePolicy",
                r#"{"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:d", "maxReceiveCount": 0}"#,
            ),
            ("ContentBasedDeduplication", "true"),
            ("FifoQueue", "true"),
            ("Policy", "{}"),
            ("Color", "red"),
        ] {
            assert!(Attributes::default().set(name, value).is_err(), "{name} {value}");
        }
    }

    #[test]
    fn a_redrive_policy_is_taken_with_its_count_as_a_text() {
        let mut attributes = Attributes::default();
        let arn = "arn:aws:sqs:us-east-1:000000000000:dead";
        attributes
            .set("RedrivePolicy", &format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"3"}}"#))
            .unwrap();
        assert_eq!(attributes.redrive.as_ref().map(|policy| policy.max_receive_count), Some(3));
        attributes.set("RedrivePolicy", "").unwrap();
        assert_eq!(attributes.redrive, None);
    }
}
