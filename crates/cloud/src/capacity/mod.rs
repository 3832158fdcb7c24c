//! What the machine has, who holds of it, and who waits: memory, processors and devices, for runs and for replicas alike.
//!
//! Tasks and services do not know each other; each [claims](Claim) here what one of its containers needs. The
//! [order](queue) is decided by a pure queue; a claim that may start is told by its `wake`.
//!
//! Nobody is admitted while a [`Survey`] goes on: at its start the cloud first finds out what runs already, and that counts.

mod asked;
mod machine;
mod queue;
mod room;
mod status;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use self::queue::Queue;
pub(crate) use self::{
    asked::{Asked, unusable},
    machine::memory_of,
};
pub use self::{
    queue::{Claim, Waiting},
    room::Room,
    status::{CapacityStatus, DeviceUse, Fit, Holder, Waiter},
};

/// Tells that a claim was admitted. Called once, outside of every lock of this module.
pub type Wake = Box<dyn FnOnce() + Send>;

/// The one place where room is handed out. Cheap to clone.
#[derive(Clone)]
pub struct Capacity {
    inner: Arc<Mutex<Inner>>,
    total: Room,
}

impl fmt::Debug for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capacity").field("total", &self.total).finish_non_exhaustive()
    }
}

struct Inner {
    queue: Queue,
    wakes: HashMap<String, Wake>,
}

impl Capacity {
    pub fn new(total: Room) -> Self {
        Self { inner: Arc::new(Mutex::new(Inner { queue: Queue::new(total), wakes: HashMap::new() })), total }
    }

    /// What there is in all.
    pub fn total(&self) -> Room {
        self.total
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, then tells those who may start.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner();
        let answer = change(&mut inner);
        let admitted = inner.queue.admit();
        let wakes: Vec<Wake> = admitted.iter().filter_map(|id| inner.wakes.remove(id)).collect();
        drop(inner);
        wakes.into_iter().for_each(|wake| wake());
        answer
    }

    /// Until that is dropped, nobody is admitted.
    pub fn survey(&self) -> Survey {
        self.inner().queue.surveys += 1;
        Survey(self.clone())
    }

    /// Admits nobody any more.
    pub fn close(&self) {
        let mut inner = self.inner();
        inner.queue.closed = true;
        inner.wakes.clear();
    }

    /// A place for what is yet to be recorded: see [`Queue::place`].
    pub(crate) fn place(&self, claim: Claim, now: Timestamp) -> Timestamp {
        self.inner().queue.place(claim, now)
    }

    /// It is on disk: it is admitted when it is its turn.
    pub(crate) fn recorded(&self, claim: Claim, accepted: Timestamp, wake: Wake) {
        self.change(|inner| {
            inner.wakes.insert(claim.id.clone(), wake);
            inner.queue.recorded(claim, accepted);
        });
    }

    /// It could not be recorded: its place is given up.
    pub(crate) fn not_recorded(&self, id: &str) {
        self.change(|inner| inner.queue.not_recorded(id));
    }

    /// Sets room aside for what runs already, free or not.
    pub(crate) fn hold(&self, claim: Claim) {
        self.change(|inner| inner.queue.hold(claim));
    }

    /// Gives back what it holds, or its place.
    pub(crate) fn leave(&self, id: &str) {
        self.change(|inner| {
            inner.wakes.remove(id);
            inner.queue.leave(id);
        });
    }

    /// Waits until there is room, and holds it until that is dropped. At once if it is held already.
    pub(crate) async fn take(&self, claim: Claim) -> Held {
        let held = Held { capacity: self.clone(), id: claim.id.clone() };
        let (admitted, wait) = oneshot::channel();
        let has = self.change(|inner| {
            let has = inner.queue.is_held(&claim.id);
            if has {
                inner.queue.hold(claim);
            } else {
                inner.wakes.insert(claim.id.clone(), Box::new(move || _ = admitted.send(())));
                let accepted = inner.queue.place(claim.clone(), Timestamp::now());
                inner.queue.recorded(claim, accepted);
            }
            has
        });
        // A closed capacity admits nobody; whoever waits looks at the close itself.
        if !has && wait.await.is_err() {
            std::future::pending::<()>().await;
        }
        held
    }

    /// Changes what is set aside for one that holds room, or waits for it.
    pub(crate) fn resize(&self, claim: Claim) {
        self.change(|inner| inner.queue.resize(claim));
    }

    /// Why it waits; `None` if it does not.
    pub(crate) fn why(&self, id: &str) -> Option<String> {
        self.inner().queue.why(id).map(|why| why.to_string())
    }

    /// Why each waits that does, and what `look` sees at that moment: nobody gives back room meanwhile.
    pub(crate) fn all_waiting<T>(&self, look: impl FnOnce() -> T) -> (HashMap<String, String>, T) {
        let inner = self.inner();
        let seen = look();
        let waiting = inner.queue.all_waiting().into_iter();
        (waiting.map(|(claim, _, why)| (claim.id.clone(), why.to_string())).collect(), seen)
    }
}

/// It is being found out what runs already.
#[must_use]
#[derive(Debug)]
pub struct Survey(Capacity);

impl Drop for Survey {
    fn drop(&mut self) {
        self.0.change(|inner| inner.queue.surveys -= 1);
    }
}

/// Room that is held, or waited for.
#[must_use]
#[derive(Debug)]
pub(crate) struct Held {
    capacity: Capacity,
    id: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.capacity.leave(&self.id);
    }
}
