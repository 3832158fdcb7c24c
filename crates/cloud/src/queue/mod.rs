//! Queues: messages that wait until somebody has received and deleted them. Compatible with Amazon SQS.
//!
//! A message is received by one consumer at a time: it is hidden for the visibility timeout, and comes back if it was not
//! deleted meanwhile. Every message is received at least once. In a FIFO queue the messages of a group are received in the
//! order in which they were sent, and a message that is sent twice within five minutes is there once.
//!
//! Who owns it: the rows of [`key`], written here and nowhere else. What is true is on disk; memory holds who has what
//! ([`core`]). Each operation is one commit, under the precondition that the queue is open, and memory follows when it is
//! made. What a restart finds at each gap:
//!
//! | killed | a restart |
//! |---|---|
//! | before the commit of a send | there is no message; the sender was not answered, and sends again |
//! | after it, before the answer | the message is there; a sender that sends again doubles it, unless the queue is FIFO |
//! | before the commit of a receive | the message is visible |
//! | after it, before the answer | the message is hidden until its timeout, and counted as received once more |
//! | before the commit of a delete | the message comes back after its timeout |
//! | after it | it is gone |
//! | between a purge's commits | some are gone; who asked was not answered, and asks again |
//! | between the commits of a move to another queue | those moved are there and not here, and the move goes on |
//!
//! A message that was received too often moves to its dead-letter queue in the commit of the receive that would have
//! been one more: it is never in both queues, nor in neither.
//!
//! Start at [`Queues`]. The wire is in [`http`].

mod attributes;
mod clock;
mod consume;
mod core;
mod deduplication;
mod deliver;
mod error;
mod find;
pub mod http;
mod key;
mod made;
mod message;
mod moves;
mod open;
mod provider;
mod purge;
mod receipt;
mod receive;
mod retention;
mod send;
mod settings;
mod settle;
mod status;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tandem_model::{Kind, PhysicalId, Recorded};
use tandem_store::{Batch, CommitError, Store};
use tokio::sync::{Notify, OnceCell};
use tokio_util::sync::CancellationToken;

use self::{
    clock::Clock,
    key::{OPEN, queue_row},
    open::Open,
};
pub use self::{
    consume::Subscribers,
    error::QueueError,
    made::is_made,
    message::Attribute,
    provider::Provided,
    receive::{Receive, Received},
    retention::run as run_retention,
    send::{Outgoing, Sent},
    status::{Depth, QueueStatus},
};
pub(crate) use self::{
    consume::shown,
    find::{Found, Hidden},
};
use crate::{
    dispatch::{Became, Step, Trail},
    endpoint::{Endpoint, OWNER, REGION},
    resource::Resources,
};

/// All queues of the cloud.
pub struct Queues {
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    endpoint: Endpoint,
    clock: Clock,
    /// Those that somebody has used since the start.
    open: Mutex<HashMap<String, Arc<OnceCell<Arc<Open>>>>>,
    /// The tasks that somebody sees through.
    moving: Mutex<HashSet<String>>,
    /// One of them has ended, or is left for the next start.
    moved: Notify,
    /// Receives wait no longer.
    closing: CancellationToken,
    trail: Trail,
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

impl Queues {
    pub fn new(store: Arc<dyn Store>, resources: Arc<Resources>, endpoint: Endpoint, trail: Trail) -> Self {
        Self { trail, ..Self::with_clock(store, resources, endpoint, clock::system()) }
    }

    fn with_clock(
        store: Arc<dyn Store>,
        resources: Arc<Resources>,
        endpoint: Endpoint,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            resources,
            endpoint,
            clock,
            open: Mutex::default(),
            moving: Mutex::default(),
            moved: Notify::new(),
            closing: CancellationToken::new(),
            trail: Trail::default(),
        }
    }

    /// Lets nobody wait for messages any more.
    pub fn drain(&self) {
        self.closing.cancel();
    }

    /// The queue of that name, if it is deployed.
    pub fn find(&self, queue: &str) -> Option<Arc<Recorded>> {
        self.resources.by_id(Kind::Queue, &PhysicalId(queue.to_owned()))
    }

    /// Where clients find it.
    pub fn url(&self, queue: &str) -> String {
        format!("{}/{OWNER}/{queue}", self.endpoint.url())
    }

    /// What is known of a queue, read at its first use.
    async fn open(&self, queue: &str) -> Result<Arc<Open>, QueueError> {
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.entry(queue.to_owned()).or_default().clone()
        };
        let loaded = cell.get_or_try_init(|| async {
            let (store, clock, name) = (self.store.clone(), self.clock.clone(), queue.to_owned());
            let load = move || Open::load(&*store, &clock, &name);
            match tokio::task::spawn_blocking(load).await {
                Ok(loaded) => loaded.map(Arc::new),
                Err(_) => Err(CommitError::Closed.into()),
            }
        });
        match loaded.await {
            Ok(open) => Ok(open.clone()),
            Err(error) => {
                self.forget(queue);
                Err(error)
            }
        }
    }

    /// Leaves a trace of what the queue did with a message by itself, for people.
    fn tell(&self, queue: &str, id: &str, became: Became) {
        if let Some(found) = self.find(queue) {
            let (queue, id) = (found.urn.clone(), id.to_owned());
            self.trail.write(Step::Message { time: Timestamp::now(), queue, id, became });
        }
    }

    /// How people call a queue: `queue/orders`.
    fn called(&self, queue: &str) -> String {
        self.find(queue).map_or_else(|| queue.to_owned(), |found| found.urn.short())
    }

    /// Drops what is known of a queue; the next use reads it.
    fn forget(&self, queue: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(queue);
    }
}

/// Requires that the queue is there and not being deleted.
fn expect_open(batch: &mut Batch, queue: &str) {
    batch.expect(queue_row(queue), Some(OPEN.into()));
}

/// The name that is in the address of a queue.
pub fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{OWNER}:{queue}")
}

/// The queue's name in an ARN of this cloud.
pub(crate) fn name_in_arn(arn: &str) -> Option<&str> {
    let name = arn.strip_prefix("arn:aws:sqs:")?.strip_prefix(REGION)?.strip_prefix(':')?;
    name.strip_prefix(OWNER)?.strip_prefix(':').filter(|name| !name.is_empty())
}

/// Sees something through even if whoever asked goes away meanwhile: memory must follow a commit that is made.
async fn through<T: Send + 'static>(
    work: impl Future<Output = Result<T, QueueError>> + Send + 'static,
) -> Result<T, QueueError> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(CommitError::Closed.into()))
}

#[cfg(test)]
mod tests;
