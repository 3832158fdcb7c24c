//! A store in memory, for tests of what is built on the port. Nothing outlives it.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::port::{Batch, CommitError, Direction, Entries, ReadError, Snapshot, Store, Write};

type Map = BTreeMap<Bytes, Bytes>;

/// Keeps everything in a map that snapshots share: a commit beside a living snapshot copies the map once.
#[derive(Debug)]
pub struct MemoryStore {
    /// `None` once closed.
    map: Mutex<Option<Arc<Map>>>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self { map: Mutex::new(Some(Arc::default())) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the store is closed")]
struct Closed;

#[async_trait]
impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Box::new(MemorySnapshot(map.ok_or_else(|| ReadError(Box::new(Closed)))?)))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let map = map.as_mut().ok_or(CommitError::Closed)?;
        if let Some(broken) = batch.preconditions.iter().find(|p| map.get(&p.key) != p.value.as_ref()) {
            return Err(CommitError::Conflict { key: broken.key.clone() });
        }
        let map = Arc::make_mut(map);
        for write in batch.writes {
            match write {
                Write::Put { key, value } => map.insert(key, value),
                Write::Delete { key } => map.remove(&key),
            };
        }
        Ok(())
    }

    async fn close(&self) {
        self.map.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

struct MemorySnapshot(Arc<Map>);

impl Snapshot for MemorySnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.0.get(key).cloned())
    }

    fn range(&self, from: &[u8], to: &[u8], direction: Direction) -> Result<Entries<'_>, ReadError> {
        // A map panics on a range that ends before it starts; the port answers nothing.
        if from >= to {
            return Ok(Box::new(std::iter::empty()));
        }
        let range = self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let entries = range.map(|(key, value)| Ok((key.clone(), value.clone())));
        Ok(match direction {
            Direction::Ascending => Box::new(entries),
            Direction::Descending => Box::new(entries.rev()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::conformance_tests!(|_folder: &std::path::Path| Arc::new(MemoryStore::new()));
}
