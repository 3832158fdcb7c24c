//! A queue that is in use: what memory knows of it, and who waits for it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use tandem_store::Store;
use tokio::sync::Notify;

use super::{
    clock::Clock,
    core::{Core, Flight, Rows},
    deduplication::Memory,
    error::{QueueError, damaged},
    key::{Lease, OPEN, key_of, queue_row, settings_row, table},
    message::Times,
    settings::Settings,
};

pub(super) struct Open {
    pub(super) name: String,
    clock: Clock,
    /// By how much the clock of this queue is ahead: its newest message was sent when the wall clock was.
    ahead: u64,
    core: Mutex<Core>,
    settings: RwLock<Arc<Settings>>,
    /// The last number that a message was given.
    number: AtomicU64,
    /// Whoever sends to a FIFO queue: one after the other, so that the order of commits is that of numbers.
    pub(super) sending: tokio::sync::Mutex<Memory>,
    /// Held for reading by each operation; for writing by what deletes all.
    pub(super) gate: Arc<tokio::sync::RwLock<()>>,
    /// Something can be received that could not before.
    pub(super) arrival: Notify,
    /// A message is not held any more.
    pub(super) released: Notify,
    /// No message of it was sent before, as far as it was looked for; 0: not yet.
    pub(super) oldest: AtomicU64,
    /// When it was purged last; 0: never.
    pub(super) purged: AtomicU64,
}

impl Open {
    /// Reads the keys of all messages, and the leases. The only work that grows with the number of messages.
    pub(super) fn load(store: &dyn Store, clock: &Clock, queue: &str) -> Result<Self, QueueError> {
        let snapshot = store.snapshot()?;
        let missing = || QueueError::NoSuchQueue { queue: queue.to_owned() };
        if snapshot.get(&queue_row(queue))?.as_deref() != Some(OPEN) {
            return Err(missing());
        }
        let settings = snapshot.get(&settings_row(queue))?.ok_or_else(missing)?;
        let settings: Settings = serde_json::from_slice(&settings).map_err(damaged)?;
        let mut core = Core::new(settings.attributes.fifo);
        let (mut newest, mut number) = (0, 0);
        for entry in (Rows { snapshot: &*snapshot, queue }).range(&[], &[])? {
            let (key, row) = entry?;
            let times = Times::of(&row)?;
            core.found(&key, times.due);
            newest = newest.max(times.sent);
            number = number.max(key.number());
        }
        let wall = clock();
        let ahead = newest.saturating_sub(wall);
        let now = wall + ahead;
        let leases = table("lease", queue);
        for entry in snapshot.prefix(&leases)? {
            let (row, value) = entry?;
            let lease: Lease = serde_json::from_slice(&value).map_err(damaged)?;
            if lease.until > now && !lease.own {
                let flight = Flight { until: lease.until, secret: lease.secret, received: lease.last };
                core.flies(&key_of(&row, &leases), flight);
            }
        }
        let memory = Memory::load(&*snapshot, queue)?;
        Ok(Self {
            name: queue.to_owned(),
            clock: clock.clone(),
            ahead,
            core: Mutex::new(core),
            settings: RwLock::new(Arc::new(settings)),
            // Numbers grow over restarts, too, though the messages that had the last ones are gone.
            number: AtomicU64::new(number.max(now << 16)),
            sending: tokio::sync::Mutex::new(memory),
            gate: Arc::default(),
            arrival: Notify::new(),
            released: Notify::new(),
            oldest: AtomicU64::new(0),
            purged: AtomicU64::new(0),
        })
    }

    /// Milliseconds since 1970, by the clock of this queue.
    pub(super) fn now(&self) -> u64 {
        (self.clock)() + self.ahead
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was committed.
    pub(super) fn set(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        // Receives that wait look again.
        self.arrival.notify_waiters();
    }

    pub(super) fn next_number(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }
}
