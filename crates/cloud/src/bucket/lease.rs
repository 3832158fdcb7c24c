//! Blobs that are being read are deleted only when the last reader is done.
//!
//! A reader takes its lease and then looks again whether the object still refers to the blobs; a deletion commits and
//! then looks for leases. So one of the two always sees the other.
//!
//! A [`Hold`] is a lease on everything, for a backup: taken before its snapshot, it keeps whatever that snapshot refers
//! to, because what was deleted before the hold was committed before the snapshot.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tandem_store::{BlobId, Blobs};

/// Who reads what. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    blobs: Arc<dyn Blobs>,
    held: Arc<Mutex<HashMap<BlobId, Held>>>,
    all: Arc<Mutex<All>>,
}

/// Those who hold everything, and what was deleted meanwhile.
#[derive(Debug, Default)]
struct All {
    holders: usize,
    deferred: Vec<BlobId>,
}

/// Keeps every blob while it lives; what was deleted meanwhile goes when the last one is dropped.
#[derive(Debug)]
pub struct Hold {
    leases: Leases,
}

#[derive(Debug, Default)]
struct Held {
    readers: usize,
    /// Nothing refers to it any more: the last reader deletes it.
    condemned: bool,
}

/// Keeps blobs while it lives.
#[derive(Debug)]
pub(super) struct Lease {
    leases: Leases,
    ids: Vec<BlobId>,
}

impl Leases {
    pub(super) fn new(blobs: Arc<dyn Blobs>) -> Self {
        Self { blobs, held: Arc::default(), all: Arc::default() }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hold(&self) -> Hold {
        self.all().holders += 1;
        Hold { leases: self.clone() }
    }

    /// Whether somebody may still read the blob, though nothing refers to it.
    pub(super) fn keeps(&self, id: BlobId) -> bool {
        self.all().holders > 0 || self.held().contains_key(&id)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<BlobId, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, ids: Vec<BlobId>) -> Lease {
        let mut held = self.held();
        for id in &ids {
            held.entry(*id).or_default().readers += 1;
        }
        Lease { leases: self.clone(), ids }
    }

    /// Deletes blobs to which nothing refers any more, those that are read as soon as they are not. One that cannot be
    /// deleted is left to the sweep after the next start.
    pub(super) async fn delete(&self, ids: impl IntoIterator<Item = BlobId>) {
        let free: Vec<BlobId> = {
            let mut all = self.all();
            if all.holders > 0 {
                all.deferred.extend(ids);
                return;
            }
            let mut held = self.held();
            ids.into_iter()
                .filter(|id| match held.get_mut(id) {
                    Some(held) => {
                        held.condemned = true;
                        false
                    }
                    None => true,
                })
                .collect()
        };
        for id in free {
            if let Err(error) = self.blobs.delete(id).await {
                tracing::warn!(%id, %error, "cannot delete a blob; the next start will");
            }
        }
    }

    /// As [`Leases::delete`], without waiting.
    pub(super) fn delete_later(&self, ids: Vec<BlobId>) {
        if ids.is_empty() {
            return;
        }
        // Without a runtime the process is ending, and the next start sweeps.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let leases = self.clone();
            runtime.spawn(async move { leases.delete(ids).await });
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut condemned = Vec::new();
        {
            let mut held = self.leases.held();
            for id in &self.ids {
                if let Some(entry) = held.get_mut(id) {
                    entry.readers -= 1;
                    if entry.readers == 0 && held.remove(id).is_some_and(|h| h.condemned) {
                        condemned.push(*id);
                    }
                }
            }
        }
        self.leases.delete_later(condemned);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let deferred = {
            let mut all = self.leases.all();
            all.holders -= 1;
            if all.holders > 0 { Vec::new() } else { std::mem::take(&mut all.deferred) }
        };
        self.leases.delete_later(deferred);
    }
}
