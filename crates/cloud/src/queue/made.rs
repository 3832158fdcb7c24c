//! Queues that clients make over SQS. As buckets that clients make (0105): resources of the stack of whoever made them,
//! called `sqs.<queue>`, a name that programs cannot declare for a queue.

use tandem_model::{Kind, StackId, Urn};

use super::error::QueueError;

const PREFIX: &str = "sqs.";

/// Whether a client made the queue, so that no program declares it.
pub fn is_made(queue: &Urn) -> bool {
    queue.kind == Kind::Queue && queue.name.as_str().starts_with(PREFIX)
}

/// What a queue that a client makes is called as a resource.
pub(super) fn urn(stack: &StackId, queue: &str) -> Result<Urn, QueueError> {
    let name = format!("{PREFIX}{queue}").parse();
    let wrong = "it has other characters than letters, digits, `-` and `_`";
    let name = name.map_err(|_| QueueError::Name { name: queue.to_owned(), wrong })?;
    Ok(Urn::new(stack.clone(), Kind::Queue, name))
}
