//! Streams: records that are kept for a time, in order for each key, and read as often as one likes. Compatible with
//! Amazon Kinesis Data Streams.
//!
//! A stream has shards; the hash of a record's key says which one it goes to. The records of a shard have numbers that grow in
//! the order in which they were put. Whoever reads says where to begin; nothing goes by being read.
//!
//! Who owns it: the rows of [`key`], written here and nowhere else. Records that are put while a commit is under way share
//! the next one, and one row for each shard, so that the number of rows and commits does not follow that of records. What is
//! true is on disk; memory holds the next number of each shard. A put is true by its one commit, which is refused if memory
//! does not hold what the commit before it left: see [`append`]. What a restart finds at each gap:
//!
//! | killed | a restart |
//! |---|---|
//! | before the commit of a put | there are no such records; whoever put them was not answered, and puts again |
//! | after it, before the answer | they are there; one that puts again doubles them |
//! | before the commit that hands a batch to a consumer | the consumer has not seen it, and gets it, or one with more in it |
//! | after it, while the consumer works | the same batch under the same id, as the next attempt: at least once |
//! | after the consumer's answer, before the commit of the checkpoint | the same |
//! | after that commit | the batch is done |
//! | between the commits of a retention's sweep, or of a deletion | some old records are gone; it goes on |
//!
//! A record that a subscription gives up moves to the dead letters in the commit that moves the checkpoint past it: it is
//! never in both, nor in neither. What is older than the retention goes, whether or not somebody has read it.
//!
//! Start at [`Streams`]; at [`Subscribers`] for who handles records, whose life is in [`lane`]. The wire is in [`http`].

mod append;
mod consume;
mod error;
pub mod http;
mod key;
mod lane;
mod open;
mod position;
mod provider;
mod read;
mod retention;
mod row;
mod shard;
mod tail;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tandem_model::{Kind, PhysicalId, Recorded};
use tandem_store::{CommitError, Store};
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

pub use self::{
    append::{Outgoing, Put},
    consume::Subscribers,
    error::StreamError,
    provider::{Provided, refusal},
    retention::run as run_retention,
    row::Record,
    tail::{Cursor, Tail},
};
pub(crate) use self::{
    consume::{record_failed, shown},
    key::lanes_of,
    shard::{id as shard_id, sequence},
};
use self::{error::damaged, open::Open};
use crate::{
    endpoint::{OWNER, REGION},
    resource::Resources,
};

/// Tells the time, in milliseconds since 1970. Tests tell their own.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// All streams of the cloud.
pub struct Streams {
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    clock: Clock,
    /// Those that somebody has used since the start.
    open: Mutex<HashMap<String, Arc<OnceCell<Arc<Open>>>>>,
    /// Changes whenever there are others.
    changed: watch::Sender<()>,
    /// Nobody waits any longer.
    closing: CancellationToken,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl Streams {
    pub fn new(store: Arc<dyn Store>, resources: Arc<Resources>) -> Self {
        let wall = || u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        Self::with_clock(store, resources, Arc::new(wall))
    }

    fn with_clock(store: Arc<dyn Store>, resources: Arc<Resources>, clock: Clock) -> Self {
        let (open, changed, closing) = (Mutex::default(), watch::Sender::new(()), CancellationToken::new());
        Self { store, resources, clock, open, changed, closing }
    }

    /// Lets nobody wait for records any more: who does is told that the cloud stops.
    pub fn drain(&self) {
        self.closing.cancel();
    }

    /// The stream of that name, if it is deployed.
    pub fn find(&self, stream: &str) -> Option<Arc<Recorded>> {
        self.resources.by_id(Kind::Stream, &PhysicalId(stream.to_owned()))
    }

    /// What is known of a stream, read at its first use.
    async fn open(&self, stream: &str) -> Result<Arc<Open>, StreamError> {
        loop {
            let cell = {
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                open.entry(stream.to_owned()).or_default().clone()
            };
            let open = self.read_into(stream, &cell).await?;
            // One that was forgotten while it was read is none that others find.
            let all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            match all.get(stream).is_some_and(|its| Arc::ptr_eq(its, &cell)) {
                true => return Ok(open),
                false => open.gone.cancel(),
            }
        }
    }

    async fn read_into(
        &self,
        stream: &str,
        cell: &Arc<OnceCell<Arc<Open>>>,
    ) -> Result<Arc<Open>, StreamError> {
        let loaded = cell.get_or_try_init(|| async {
            let (store, name) = (self.store.clone(), stream.to_owned());
            blocking(move || Open::load(&*store, &name)).await.map(Arc::new)
        });
        match loaded.await {
            Ok(open) => Ok(open.clone()),
            Err(error) => {
                // Not what another one has read meanwhile.
                let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
                if open.get(stream).is_some_and(|its| Arc::ptr_eq(its, cell) && !its.initialized()) {
                    open.remove(stream);
                }
                Err(error)
            }
        }
    }

    /// Drops what is known of a stream; the next use reads it. Whoever waits for its records finds that it is gone.
    fn forget(&self, stream: &str) {
        let gone = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(stream);
        if let Some(open) = gone.as_deref().and_then(OnceCell::get) {
            open.gone.cancel();
        }
    }

    /// Drops what is not true any more, and nothing that was read since.
    fn drop_stale(&self, stale: &Open) {
        stale.gone.cancel();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let held = open.get(&stale.name).and_then(|cell| cell.get());
        if held.is_some_and(|held| std::ptr::eq(&**held, stale)) {
            open.remove(&stale.name);
        }
    }

    fn now(&self) -> u64 {
        (self.clock)()
    }

    fn loaded(&self, stream: &str) -> Option<Arc<Open>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(stream).and_then(|cell| cell.get().cloned())
    }
}

/// The name that is in the address of a stream.
pub fn arn(stream: &str) -> String {
    format!("arn:aws:kinesis:{REGION}:{OWNER}:stream/{stream}")
}

/// The stream's name in an ARN of this cloud.
fn name_in_arn(arn: &str) -> Option<&str> {
    let name = arn.strip_prefix("arn:aws:kinesis:")?.strip_prefix(REGION)?.strip_prefix(':')?;
    name.strip_prefix(OWNER)?.strip_prefix(":stream/").filter(|name| !name.is_empty())
}

/// Reads from the disk beside the tasks that wait for the network.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StreamError> + Send + 'static,
) -> Result<T, StreamError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => Err(damaged(error)),
        // The runtime ends.
        Err(_) => Err(CommitError::Closed.into()),
    }
}

#[cfg(test)]
mod tests;
