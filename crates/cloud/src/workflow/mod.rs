//! Workflows: orchestrators whose instances survive anything.
//!
//! An instance is a pure state machine over its history ([`core`]). A turn hands what is new to the orchestrator, a function,
//! and records the actions that it answers; one commit makes it true: the events, what is open from now on, the timers, the
//! instances that begin with it, and what its parent is told. An instance that waits is rows and nothing else.
//!
//! Who owns it: the rows under `workflow/` are written here and by nobody else ([`store`]); an instance's by its driver, of
//! which there is one at a time; others only add to its inbox. What a restart finds at each gap:
//!
//! | killed | record | open tasks | a restart |
//! |---|---|---|---|
//! | before the commit of a start | none | none | nothing happened, and nobody was told otherwise |
//! | after it | pending, `Started` in the inbox | none | takes the first turn |
//! | while the orchestrator works | as before the turn | as before | takes the turn again, from the history |
//! | after its answer, before the commit | as before the turn | as before | the same: what it answered is forgotten |
//! | after the commit | as after it | as after it | begins what is open |
//! | while an activity runs | as before | open | calls it again: at least once |
//! | after its result, before the turn that records it | as before | open | the same; the result that is recorded counts |
//! | while a container runs | as before | open | finds the run by its key |
//! | after a request of `callHttp` | as before | open | makes it again: at least once |
//! | after it was accepted (202), and that was committed | as before | open, says where to ask | asks there, when it is time |
//! | after a timer was due | as before | open, its row is there | it is due again |
//! | after a failed instance was rewound | as before its last turn | as then | begins what is open |
//! | after a message was committed | as before | as before | takes a turn with it |
//!
//! Entities are beside instances ([`entity`]): what a turn sends to them goes into their inboxes by its commit.
//!
//! A result is recorded once: a task that is no longer open is told to nobody. A generator goes on only from the attempt that
//! was committed: each has a name, the record has that of the last one, and a worker that has another one starts anew.
//!
//! Start at [`Workflows::start`].

mod action;
mod activities;
mod calls;
mod caused;
mod consumer;
mod core;
mod driver;
mod effects;
mod ending;
mod entity;
mod error;
mod history;
mod host;
pub mod http;
mod http_call;
mod orchestrate;
mod provider;
mod record;
mod rewind;
mod status;
mod store;
mod timers;
mod told;
mod turns;
mod web;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tandem_model::Report;
use tandem_store::Store;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    calls::Start,
    caused::{CallOutcome, CalledActivity, CausedInstance},
    ending::Ending,
    entity::{EntityKey, EntityProvider, EntityStatus, LockedBy},
    error::WorkflowError,
    host::{Call, Fault, Host},
    provider::code_in_use,
    record::{Failure, Status},
    status::{InstanceStatus, LockStatus, WorkflowStatus},
    store::InstanceKey,
    told::ToldEvent,
};
use self::{entity::Entities, record::Message, timers::Cursor, turns::Turns, web::Web};
use crate::resource::Resources;

/// How many activities are called at once. The others wait on disk, and in memory as a name.
const ACTIVITIES: usize = 256;

/// The workflows of one cloud. Cheap to clone.
#[derive(Clone)]
pub struct Workflows {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn Store>,
    resources: Arc<Resources>,
    host: Arc<dyn Host>,
    turns: Turns,
    /// The instances that have a driver now.
    driven: Mutex<HashMap<InstanceKey, Mail>>,
    /// The calls under way; and why one has not begun, if nobody had room for it.
    calling: Mutex<HashMap<activities::Called, Option<Report>>>,
    activities: Arc<Semaphore>,
    web: Web,
    entities: Entities,
    timers: Mutex<Cursor>,
    timers_changed: Notify,
    /// Somebody waits for an instance to end.
    ended: tokio::sync::broadcast::Sender<InstanceKey>,
    closing: CancellationToken,
    working: TaskTracker,
}

/// What a driver has not looked at.
#[derive(Debug, Default)]
struct Mail {
    messages: Vec<Message>,
    woken: bool,
    /// Tells a driver that it was woken.
    called: Arc<Notify>,
    /// There is something new on disk.
    news: Arc<Notify>,
}

impl fmt::Debug for Workflows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workflows").finish_non_exhaustive()
    }
}

impl Workflows {
    pub fn new(store: Arc<dyn Store>, resources: Arc<Resources>, host: Arc<dyn Host>) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                resources,
                turns: Turns::new(host.clone()),
                host,
                driven: Mutex::default(),
                calling: Mutex::default(),
                activities: Arc::new(Semaphore::new(ACTIVITIES)),
                web: Web::new(http_call::TIMEOUT),
                entities: Entities::default(),
                timers: Mutex::default(),
                timers_changed: Notify::new(),
                ended: tokio::sync::broadcast::Sender::new(1024),
                closing: CancellationToken::new(),
                working: TaskTracker::new(),
            }),
        }
    }

    /// Takes up every instance that has something to do. Call it when all functions and tasks are settled.
    ///
    /// # Errors
    /// [`WorkflowError`] if the instances cannot be read.
    pub async fn open(&self) -> Result<(), WorkflowError> {
        let shared = &self.shared;
        shared.open_entities().await?;
        for instance in store::restless(&*shared.store.snapshot()?)? {
            shared.take_up(&instance)?;
            shared.wake(&instance, None);
        }
        shared.working.spawn(shared.clone().run_timers());
        shared.working.spawn(shared.clone().run_forgetting());
        Ok(())
    }

    /// Begins nothing more, and waits at most `grace` for turns under way. What is open is taken up by the next start.
    pub async fn close(&self, grace: std::time::Duration) {
        self.shared.closing.cancel();
        self.shared.turns.close();
        self.shared.working.close();
        let _ = tokio::time::timeout(grace, self.shared.working.wait()).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
