//! Manifests that are recorded and about to get their tag. A deletion of another tag must not take them away in between.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::name::{Digest, Repository};

type Key = (Repository, Digest);

#[derive(Debug, Clone, Default)]
pub(super) struct Arriving(Arc<Mutex<HashMap<Key, usize>>>);

/// One that arrives, until dropped.
#[derive(Debug)]
pub(super) struct Arrival {
    all: Arriving,
    key: Key,
}

impl Arriving {
    fn all(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, repository: &Repository, digest: &Digest) -> Arrival {
        let key = (repository.clone(), digest.clone());
        *self.all().entry(key.clone()).or_default() += 1;
        Arrival { all: self.clone(), key }
    }

    pub(super) fn contains(&self, repository: &Repository, digest: &Digest) -> bool {
        self.all().contains_key(&(repository.clone(), digest.clone()))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut all = self.all.all();
        if let Some(count) = all.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.key);
            }
        }
    }
}
