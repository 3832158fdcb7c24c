//! Subscriptions as resources: what the target asks, and what the outbox must then know.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tandem_model::{
    Explain, PhysicalId, Report, Urn,
    inputs::{self, InputsError},
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, Store};
use uuid::Uuid;

use super::{
    outbox::{Outbox, Subscribed, version_key},
    row::{DEAD, DELIVERIES, prefix},
};
use crate::{
    provider::{Lines, Provider},
    resource::Resources,
};

/// The service behind [`Kind::Subscription`](tandem_model::Kind::Subscription).
///
/// Every change of a subscription gives its source a new version in the same commit, so an event that was matched
/// against the old subscriptions cannot commit after it. Deleting a subscription drops its undelivered events and its
/// dead letters with it.
#[derive(Debug)]
pub struct Subscriptions {
    store: Arc<dyn Store>,
    outbox: Arc<Outbox>,
    resources: Arc<Resources>,
}

impl Subscriptions {
    pub fn new(store: Arc<dyn Store>, outbox: Arc<Outbox>, resources: Arc<Resources>) -> Self {
        Self { store, outbox, resources }
    }
}

fn invalid(error: InputsError) -> Report {
    Report { code: "E0302".into(), message: error.to_string(), help: String::new(), causes: vec![] }
}

#[async_trait]
impl Provider for Subscriptions {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let (Change::Create { urn, inputs } | Change::Update { urn, new: inputs, .. }) = change else {
            return Ok(Properties::new());
        };
        let typed: inputs::Subscription = inputs::read(urn, inputs).map_err(invalid)?;
        for other in [&typed.source, &typed.consumer] {
            // Another stack's resources do not exist for this one (I8).
            if other.stack != urn.stack || self.resources.by_urn(other).is_none() {
                return Err(Report {
                    code: "E0302".into(),
                    message: format!("{} names {}, which does not exist", urn.short(), other.short()),
                    help: "declare it in the same program, before the subscription".into(),
                    causes: vec![],
                });
            }
        }
        typed.filter.policies().map_err(|error| error.report())?;
        Ok(Properties::from_iter([("id".to_owned(), id.0.clone().into())]))
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        let urn = change.urn();
        let source = match change {
            Change::Create { inputs, .. } | Change::Update { new: inputs, .. } => {
                inputs::read::<inputs::Subscription>(urn, inputs).map_err(invalid)?.source
            }
            Change::Delete { .. } => {
                let Some(recorded) = self.resources.by_id(urn.kind, id) else { return Ok(()) };
                let snapshot = self.store.snapshot().map_err(|e| e.report())?;
                for table in [DELIVERIES, DEAD] {
                    for entry in snapshot.prefix(&prefix(table, urn)).map_err(|e| e.report())? {
                        batch.delete(entry.map_err(|e| e.report())?.0);
                    }
                }
                inputs::read::<inputs::Subscription>(urn, &recorded.inputs).map_err(invalid)?.source
            }
        };
        batch.put(version_key(&source), Bytes::from(Uuid::now_v7().to_string()));
        Ok(())
    }

    async fn settle(&self, urn: &Urn, _: &PhysicalId, now: Option<&Recorded>) {
        // A replaced subscription's old id goes away under a urn that lives on: the newest record decides.
        let newest = self.resources.by_urn(urn);
        let typed =
            newest.as_deref().or(now).filter(|r| self.resources.by_id(r.urn.kind, &r.id).is_some()).and_then(
                |r| {
                    inputs::read::<inputs::Subscription>(urn, &r.inputs)
                        .inspect_err(
                            |error| tracing::error!(%urn, %error, "a recorded subscription cannot be read"),
                        )
                        .ok()
                },
            );
        let mut sources = self.outbox.sources_with(urn);
        sources.extend(typed.as_ref().map(|t| t.source.clone()));
        for source in sources {
            // Read under the outbox's lock: of two settlings at once, the later one then sees the later version.
            self.outbox.change(&source, |known| {
                match self.store.snapshot().and_then(|s| s.get(&version_key(&source))) {
                    Ok(version) => known.version = version,
                    Err(error) => return tracing::error!(%urn, %error, "cannot read the version of a source"),
                }
                known.subscriptions.retain(|s| s.urn != *urn);
                if let Some(inputs) = typed.clone().filter(|t| t.source == source) {
                    match inputs.filter.policies() {
                        Ok(policies) => {
                            known.subscriptions.push(Arc::new(Subscribed {
                                urn: urn.clone(),
                                inputs,
                                policies,
                            }));
                        }
                        Err(error) => tracing::error!(%urn, %error, "a recorded subscription cannot be read"),
                    }
                }
            });
        }
    }
}
