//! The backends of the [`Store`](crate::Store) port.

mod memory;
mod redb;

pub use memory::MemoryStore;
pub use redb::{OpenError, Options, RedbStore};
