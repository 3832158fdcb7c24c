//! Workflows as resources: what the target asks.
//!
//! Each version of a workflow's code stays callable under an id of its own, as long as an instance may need it: an instance
//! ends on the code that it began with.

use async_trait::async_trait;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, ReadError, Store};

use super::{
    WorkflowError, Workflows,
    record::Record,
    store::{self, VERSIONS},
};
use crate::provider::{Lines, Provider};

/// Names a version: the hash of its code, memory, timeout and environment.
pub(super) fn version_of(code: &Properties) -> String {
    let text = serde_json::to_vec(code).expect("properties are JSON");
    crate::archive::hash(&text)["sha256:".len()..][..16].to_owned()
}

/// The id under which a version can be called.
pub(super) fn version_id(workflow: &Urn, version: &str) -> PhysicalId {
    PhysicalId(format!(
        "{}-{}-{}@{version}",
        workflow.stack.to_string().replace('/', "-"),
        workflow.name,
        workflow.kind
    ))
}

impl Workflows {
    /// Makes every version callable that an instance may need, and forgets the others.
    ///
    /// # Errors
    /// [`WorkflowError`] if they cannot be read or the others not be forgotten.
    pub async fn settle_versions(&self) -> Result<(), WorkflowError> {
        for (key, workflow, version, code) in versions(&*self.shared.store)? {
            let current = self.shared.current(&workflow).as_ref() == Some(&version);
            if current || self.is_needed(&workflow, &version)? {
                self.shared.host.define(&workflow, &version_id(&workflow, &version), &code);
            } else {
                let mut batch = Batch::default();
                batch.delete(key);
                self.shared.store.commit(batch).await?;
            }
        }
        // The newest is the one that the urn means.
        for (_, workflow, version, code) in versions(&*self.shared.store)? {
            if self.shared.current(&workflow).as_ref() == Some(&version) {
                self.shared.host.define(&workflow, &version_id(&workflow, &version), &code);
            }
        }
        Ok(())
    }

    fn is_needed(&self, workflow: &Urn, version: &str) -> Result<bool, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        for entry in snapshot.prefix(store::records_of(&workflow.stack).as_bytes())? {
            let (_, row) = entry?;
            let record: Record = serde_json::from_slice(&row).map_err(|error| ReadError(Box::new(error)))?;
            if record.workflow == *workflow && record.version == version && !record.status.ended() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The archives that instances may need.
///
/// # Errors
/// [`WorkflowError`] if the versions cannot be read.
pub fn code_in_use(store: &dyn Store) -> Result<Vec<String>, WorkflowError> {
    let code = |code: Properties| Some(code.get("code")?.as_str()?.to_owned());
    Ok(versions(store)?.into_iter().filter_map(|(_, _, _, properties)| code(properties)).collect())
}

/// Every version: its row, the workflow, its name, the code.
fn versions(store: &dyn Store) -> Result<Vec<(bytes::Bytes, Urn, String, Properties)>, WorkflowError> {
    let snapshot = store.snapshot()?;
    let mut found = Vec::new();
    for entry in snapshot.prefix(VERSIONS.as_bytes())? {
        let (key, row) = entry?;
        let text = std::str::from_utf8(&key).ok().and_then(|text| text.strip_prefix(VERSIONS));
        let Some((workflow, version)) = text.and_then(|text| text.rsplit_once('/')) else { continue };
        let Ok(workflow) = workflow.parse() else { continue };
        let code = serde_json::from_slice(&row).map_err(|error| ReadError(Box::new(error)))?;
        found.push((key.clone(), workflow, version.to_owned(), code));
    }
    Ok(found)
}

#[async_trait]
impl Provider for Workflows {
    async fn prepare(
        &self,
        change: &Change,
        id: &PhysicalId,
        lines: &dyn Lines,
    ) -> Result<Properties, Report> {
        self.shared.host.prepare(change, id, lines).await
    }

    fn write(&self, batch: &mut Batch, change: &Change, _: &PhysicalId) -> Result<(), Report> {
        let (urn, code) = match change {
            Change::Create { urn, inputs } => (urn, inputs),
            Change::Update { urn, new, .. } => (urn, new),
            Change::Delete { .. } => return Ok(()),
        };
        let row = serde_json::to_vec(code).expect("properties are JSON");
        batch.put(store::version_key(urn, &version_of(code)), row);
        Ok(())
    }

    async fn settle(&self, urn: &Urn, _: &PhysicalId, now: Option<&Recorded>) {
        match now {
            Some(recorded) => {
                let version = version_id(urn, &version_of(&recorded.inputs));
                self.shared.host.define(urn, &version, &recorded.inputs);
            }
            None => self.forget(urn).await,
        }
    }
}

impl Workflows {
    /// The workflow is deleted: nothing can take a turn of its instances any more.
    async fn forget(&self, urn: &Urn) {
        debug_assert_eq!(urn.kind, Kind::Workflow);
        let stopped = self.stop_all(urn).await;
        if let Err(error) = stopped {
            tracing::error!(%urn, %error, code = error.code(), "the instances of a deleted workflow cannot be ended");
        }
    }

    async fn stop_all(&self, urn: &Urn) -> Result<(), WorkflowError> {
        for status in self.unended(&urn.stack)? {
            if status.name == urn.name.to_string() {
                let instance = store::InstanceKey { stack: urn.stack.clone(), id: status.instance_id };
                match self.terminate(&instance, "its workflow was deleted".to_owned()).await {
                    Ok(()) | Err(WorkflowError::Ended { .. } | WorkflowError::NoInstance { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        for (key, workflow, version, _) in versions(&*self.shared.store)? {
            if workflow == *urn {
                let mut batch = Batch::default();
                batch.delete(key);
                self.shared.store.commit(batch).await?;
                let id = version_id(urn, &version);
                self.shared.turns.forget(&id);
                self.shared.host.forget(urn, &id);
            }
        }
        Ok(())
    }
}
