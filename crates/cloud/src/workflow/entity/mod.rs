//! Entities: states that operations change, one after the other.
//!
//! An entity is a row with its state, and an inbox of operations. Whoever sends one, an orchestrator, another entity or a
//! function, puts it there in the commit that makes the sending true. The entity's driver, of which there is one at a time,
//! hands the operations that wait to the entity's function as one batch. One commit makes the batch true: the state, the
//! answers to those who called, what the operations send to others, and that they wait no more. So an operation counts once,
//! however often the cloud was killed; what its code does outside of the entity may be done again.
//!
//! An instance may have several entities to itself for a time ([`locks`]).
//!
//! Operations have numbers, in the order in which they are sent: those of one sender are applied in its order.
//!
//! | killed | state | inbox | a restart |
//! |---|---|---|---|
//! | before an operation was committed | as before | without it | nobody was told that it was sent |
//! | after that, before whoever sent it heard so | as before | has it | applies it; a handler that sends it again sends it once |
//! | while the entity's function works | as before | has the batch | hands the batch over again |
//! | after its answer, before the commit | as before | has the batch | the same: what it answered is forgotten |
//! | after the commit | as after the batch | without it | tells those who called, and wakes those that were sent to |
//!
//! A deletion of the function commits that its states are to go; they go then, or with the next start.
//!
//! An entity at rest is its row. Its code is that of the day, not of the day on which it was made.

mod batch;
mod calls;
mod driver;
pub(super) mod http;
mod locks;
mod operation;
mod provider;
pub(super) mod store;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tandem_model::StackId;
use tokio::sync::Semaphore;

pub use self::{calls::EntityStatus, locks::LockedBy, provider::EntityProvider};
pub(super) use self::{
    locks::{in_locks, locked_by},
    operation::{Operation, Sent, response},
};

/// How many entities work at once. The others wait on disk, and in memory as a name.
const AT_ONCE: usize = 64;

/// An entity of a stack: the name that the program declares, in lower case, and a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKey {
    pub stack: StackId,
    name: String,
    pub key: String,
}

impl EntityKey {
    /// Names have no case.
    pub fn new(stack: StackId, name: &str, key: &str) -> Self {
        Self { stack, name: name.to_lowercase(), key: key.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads `@name@key`.
    pub fn parse(stack: &StackId, id: &str) -> Option<Self> {
        let (name, key) = id.strip_prefix('@')?.split_once('@')?;
        (!name.is_empty()).then(|| Self::new(stack.clone(), name, key))
    }
}

/// `@name@key`.
impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}@{}", self.name, self.key)
    }
}

/// What all entities of a cloud share.
pub(super) struct Entities {
    /// The entities that have a driver now, and whether it has something to look at.
    driven: Mutex<HashMap<EntityKey, bool>>,
    /// The number of the next operation.
    next: AtomicU64,
    room: Semaphore,
}

impl Default for Entities {
    fn default() -> Self {
        Self { driven: Mutex::default(), next: AtomicU64::new(0), room: Semaphore::new(AT_ONCE) }
    }
}

impl Entities {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
