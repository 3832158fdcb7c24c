//! What is deployed: every resource of every stack, kept in memory and in the store.
//!
//! The target is the only writer. A record is `resource/<kind>/<physical id>`; its urn points at the newest physical id,
//! since a replacement creates before it deletes.

use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

use tandem_model::{Kind, PhysicalId, StackId, Urn, resource::Recorded};

/// A shared, current view of what is deployed.
#[derive(Debug, Default)]
pub struct Resources {
    inner: RwLock<Index>,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<(Kind, PhysicalId), Arc<Recorded>>,
    by_urn: HashMap<Urn, Arc<Recorded>>,
}

impl Resources {
    fn read<T>(&self, f: impl FnOnce(&Index) -> T) -> T {
        f(&self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut Index) -> T) -> T {
        f(&mut self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The resource of that physical id.
    pub fn by_id(&self, kind: Kind, id: &PhysicalId) -> Option<Arc<Recorded>> {
        self.read(|index| index.by_id.get(&(kind, id.clone())).cloned())
    }

    /// The newest resource of that urn.
    pub fn by_urn(&self, urn: &Urn) -> Option<Arc<Recorded>> {
        self.read(|index| index.by_urn.get(urn).cloned())
    }

    /// All resources of a stack, or of all stacks, ordered by urn.
    pub fn list(&self, stack: Option<&StackId>) -> Vec<Arc<Recorded>> {
        let mut all: Vec<_> = self.read(|index| {
            index.by_id.values().filter(|r| stack.is_none_or(|s| r.urn.stack == *s)).cloned().collect()
        });
        all.sort_by(|a, b| (&a.urn, &a.id).cmp(&(&b.urn, &b.id)));
        all
    }

    /// Whether anything is deployed in the stack.
    pub fn has_stack(&self, stack: &StackId) -> bool {
        self.read(|index| index.by_id.values().any(|r| r.urn.stack == *stack))
    }

    /// Tells what was committed. The caller has committed the same to the store.
    pub fn put(&self, recorded: Recorded) -> Arc<Recorded> {
        let recorded = Arc::new(recorded);
        self.write(|index| {
            index.by_id.insert((recorded.urn.kind, recorded.id.clone()), recorded.clone());
            index.by_urn.insert(recorded.urn.clone(), recorded.clone());
        });
        recorded
    }

    /// Forgets a resource whose deletion was committed.
    pub fn remove(&self, kind: Kind, id: &PhysicalId) {
        self.write(|index| {
            if let Some(gone) = index.by_id.remove(&(kind, id.clone()))
                && index.by_urn.get(&gone.urn).is_some_and(|newest| newest.id == *id)
            {
                index.by_urn.remove(&gone.urn);
                // After a restart the order of replacements is not known: the one that is left is the newest.
                if let Some(left) = index.by_id.values().find(|r| r.urn == gone.urn).cloned() {
                    index.by_urn.insert(gone.urn.clone(), left);
                }
            }
        });
    }
}
