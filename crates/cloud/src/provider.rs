//! What the target asks of whoever provides a kind of resource.
//!
//! The target owns the record of a resource and commits it; a provider prepares what must exist before, adds what must
//! become true in the same commit, and adapts what runs afterwards.

use async_trait::async_trait;
use tandem_model::{
    PhysicalId, Report, Urn,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::Batch;

/// Receives the lines of long work (a build), to show.
pub trait Lines: Send + Sync {
    fn line(&self, line: &str);
}

/// How much a data resource holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holding {
    pub items: u64,
    pub bytes: u64,
    pub unit: &'static str,
    /// What is on its way in: uploads that are neither completed nor aborted. Their bytes count.
    pub unfinished: u64,
}

/// One kind of resource, as the target sees it.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Does what must be done before the change can be committed, and answers the resource's outputs (for a delete:
    /// nothing). May take long; must leave nothing behind that a repetition does not find or a sweep not remove.
    ///
    /// # Errors
    /// A [`Report`] for the user; the change does not happen.
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report>;

    /// Adds to the batch what must become true together with the resource's record.
    ///
    /// # Errors
    /// A [`Report`] for the user; nothing is committed. A bucket that is not empty refuses its deletion here.
    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        let _ = (batch, change, id);
        Ok(())
    }

    /// Called after the resource was committed, and for each resource at start. `None`: it was deleted.
    /// Must be idempotent; failures are logged by the service and mended at the next call or start.
    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let _ = (urn, id, now);
    }

    /// What a data resource holds; `None` for the others.
    ///
    /// # Errors
    /// A [`Report`] if it cannot be read.
    async fn holding(&self, id: &PhysicalId) -> Result<Option<Holding>, Report> {
        let _ = id;
        Ok(None)
    }
}
