//! What queues hold, for `tandem ps` and `tandem dead-letters`.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tandem_model::{Kind, PhysicalId, StackId, Urn};

use super::{
    Queues, arn,
    error::QueueError,
    moves::{Move, State},
};

/// A queue and how many messages it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    pub urn: Urn,
    pub id: PhysicalId,
    #[serde(flatten)]
    pub depth: Depth,
    /// The queues whose messages come here that were received too often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_letters_of: Vec<Urn>,
}

/// How many messages there are, by whether they can be received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Depth {
    pub visible: u64,
    /// Somebody has received them.
    pub in_flight: u64,
    /// They were sent with a delay that is not over.
    pub delayed: u64,
}

impl Depth {
    pub fn messages(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

impl Queues {
    /// All queues of the stack, or of all stacks, in the order of their urns.
    ///
    /// # Errors
    /// Those of the store. A queue that is deleted meanwhile is left out.
    pub async fn status(&self, stack: Option<&StackId>) -> Result<Vec<QueueStatus>, QueueError> {
        let all = self.resources.list(stack).into_iter().filter(|r| r.urn.kind == Kind::Queue);
        let mut all: Vec<_> = all.map(|recorded| (recorded.urn.clone(), recorded.id.clone())).collect();
        all.sort();
        let mut sources: HashMap<String, Vec<Urn>> = HashMap::new();
        for (urn, id) in &all {
            if let Some(target) = self.dead_letters_of(&id.0) {
                sources.entry(target).or_default().push(urn.clone());
            }
        }
        let mut told = Vec::new();
        for (urn, id) in all {
            let depth = match self.depth(&id.0).await {
                Ok(depth) => depth,
                Err(QueueError::NoSuchQueue { .. }) => continue,
                Err(error) => return Err(error),
            };
            let dead_letters_of = sources.remove(&arn(&id.0)).unwrap_or_default();
            told.push(QueueStatus { urn, id, depth, dead_letters_of });
        }
        Ok(told)
    }

    /// Moves the messages of a dead-letter queue back to where they were received too often, and waits until that is done;
    /// answers how many. It goes on if whoever asked goes away.
    ///
    /// # Errors
    /// [`QueueError::MoveEnded`] if some stayed; those of [`start_move`](Self::start_move).
    pub async fn move_back(self: &Arc<Self>, queue: &str) -> Result<u64, QueueError> {
        if self.find(queue).is_none() {
            return Err(QueueError::NoSuchQueue { queue: queue.to_owned() });
        }
        if self.sources_of(queue).is_empty() {
            let what = format!("moving messages back from `{queue}`, which is no queue's dead-letter queue,");
            return Err(QueueError::Unsupported { what });
        }
        let id = self.start_move(queue, None, None).await?;
        loop {
            let mut ended = std::pin::pin!(self.moved.notified());
            ended.as_mut().enable();
            match self.find_move(queue, &id)? {
                Some(task) if task.is_running() => {}
                Some(Move { moved, state: State::Completed, .. }) => return Ok(moved),
                Some(Move { moved, failure, .. }) => {
                    let why = failure.unwrap_or_else(|| "somebody cancelled it".to_owned());
                    return Err(QueueError::MoveEnded { queue: queue.to_owned(), moved, why });
                }
                None => return Err(QueueError::NoSuchQueue { queue: queue.to_owned() }),
            }
            tokio::select! {
                () = ended => {}
                () = self.closing.cancelled() => return Err(tandem_store::CommitError::Closed.into()),
            }
        }
    }
}
