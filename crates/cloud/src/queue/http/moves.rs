//! The actions on moves of messages: start, cancel, list.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    Wire,
    actions::{Answer, ENTRIES, seconds},
    request::{CancelMove, ListMoves, StartMove},
};
use crate::{
    credential::Principal,
    queue::{QueueError, arn},
};

impl Wire {
    pub(super) async fn start_move(&self, who: &Principal, request: StartMove) -> Answer {
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

    pub(super) async fn cancel_move(&self, who: &Principal, request: CancelMove) -> Answer {
        let unknown = || QueueError::NoSuchTask { what: request.task_handle.clone() };
        let handle =
            URL_SAFE_NO_PAD.decode(&request.task_handle).ok().and_then(|b| String::from_utf8(b).ok());
        let handle = handle.ok_or_else(unknown)?;
        let (source, id) = handle.split_once('/').ok_or_else(unknown)?;
        self.of_stack(who, source).map_err(|_| unknown())?;
        let moved = self.queues.cancel_move(source, id).await?;
        Ok(json!({ "ApproximateNumberOfMessagesMoved": moved }))
    }

    pub(super) fn list_moves(&self, who: &Principal, request: &ListMoves) -> Answer {
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
