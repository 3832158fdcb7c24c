//! Which action a request asks for, on requests and answers in the form of the JSON protocol; and what all of them do: read
//! their parameters, and find the queue that is meant among those of the caller's stack.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tandem_model::Recorded;

use super::{Refusal, Wire};
use crate::{
    credential::Principal,
    queue::{QueueError, name_in_arn},
};

/// The most entries of a batch.
pub(super) const ENTRIES: usize = 10;

pub(super) type Answer = Result<Value, Refusal>;

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
pub(super) fn seconds(name: &'static str, given: Option<i64>) -> Result<Option<u32>, QueueError> {
    let seconds = given.map(u32::try_from).transpose();
    seconds.map_err(|_| QueueError::Parameter { name, wrong: "it is not negative, and not so large".into() })
}

impl Wire {
    /// The queue's name, if the principal reaches it. One of another stack is as good as absent.
    pub(super) fn reach(&self, who: &Principal, url: &str) -> Result<String, QueueError> {
        let queue = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        self.of_stack(who, queue).map(|found| found.id.0.clone())
    }

    pub(super) fn of_stack(
        &self,
        who: &Principal,
        queue: &str,
    ) -> Result<std::sync::Arc<Recorded>, QueueError> {
        let found = self.queues.find(queue).filter(|found| who.may_reach(&found.urn));
        found.ok_or_else(|| QueueError::NoSuchQueue { queue: queue.to_owned() })
    }

    pub(super) fn reach_arn(&self, who: &Principal, arn: &str) -> Result<String, QueueError> {
        let missing = || QueueError::NoSuchTask { what: format!("this stack has no queue `{arn}`") };
        let queue = name_in_arn(arn).ok_or_else(missing)?;
        self.of_stack(who, queue).map(|found| found.id.0.clone()).map_err(|_| missing())
    }
}
