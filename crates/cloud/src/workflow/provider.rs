//! Workflows as resources: what the target asks.
//!
//! Each version of a workflow's code stays callable under an id of its own, as long as an instance may need it: an instance
//! ends on the code that it began with.

use std::collections::HashSet;

use async_trait::async_trait;
use tandem_failpoint::hit;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn,
    plan::Change,
    resource::{Properties, Recorded},
};
use tandem_store::{Batch, CommitError, ReadError, Store};

use super::{
    WorkflowError, Workflows,
    entity::in_locks,
    record::Failure,
    store::{self, InstanceKey, VERSIONS},
};
use crate::provider::{Lines, Provider};

/// Names a version: the hash of its code, memory, timeout and environment.
pub(super) fn version_of(code: &Properties) -> String {
    let text = serde_json::to_vec(code).expect("properties are JSON");
    crate::archive::hash(&text)["sha256:".len()..][..16].to_owned()
}

/// The id under which a version can be called.
pub(super) fn version_id(workflow: &Urn, version: &str) -> PhysicalId {
    PhysicalId(format!("{workflow}@{version}"))
}

impl Workflows {
    /// Makes every version callable that an instance may need, and forgets the others. Instances whose workflow is gone go, too.
    ///
    /// # Errors
    /// [`WorkflowError`] if they cannot be read or the others not be forgotten.
    pub async fn settle_versions(&self) -> Result<(), WorkflowError> {
        let needed = self.versions_in_use()?;
        let mut all = versions(&*self.shared.store)?;
        let current =
            |version: &Version| self.shared.current(&version.workflow).as_ref() == Some(&version.name);
        // The newest comes last: it is the one that the urn means.
        all.sort_by_key(current);
        for version in all {
            let Version { row, workflow, name, code } = &version;
            if self.shared.current(workflow).is_none() {
                self.erase(workflow).await?;
            } else if current(&version) || needed.contains(&(workflow.clone(), name.clone())) {
                self.shared.host.define(workflow, &version_id(workflow, name), code);
                continue;
            }
            let mut batch = Batch::default();
            batch.delete(row.clone());
            self.shared.store.commit(batch).await?;
        }
        Ok(())
    }

    /// The workflows and versions that instances go on with.
    fn versions_in_use(&self) -> Result<HashSet<(Urn, String)>, WorkflowError> {
        let mut needed = HashSet::new();
        for record in store::records(&*self.shared.store.snapshot()?, store::RECORDS)? {
            let record = record?;
            if !record.status.ended() {
                needed.insert((record.workflow, record.version));
            }
        }
        Ok(needed)
    }
}

/// The archives that instances may need.
///
/// # Errors
/// [`WorkflowError`] if the versions cannot be read.
pub fn code_in_use(store: &dyn Store) -> Result<Vec<String>, WorkflowError> {
    let code = |code: Properties| Some(code.get("code")?.as_str()?.to_owned());
    Ok(versions(store)?.into_iter().filter_map(|version| code(version.code)).collect())
}

/// A version of a workflow's code.
struct Version {
    row: bytes::Bytes,
    workflow: Urn,
    name: String,
    code: Properties,
}

fn versions(store: &dyn Store) -> Result<Vec<Version>, WorkflowError> {
    let snapshot = store.snapshot()?;
    let mut found = Vec::new();
    for entry in snapshot.prefix(VERSIONS.as_bytes())? {
        let (row, code) = entry?;
        let text = std::str::from_utf8(&row).ok().and_then(|text| text.strip_prefix(VERSIONS));
        let Some((workflow, name)) = text.and_then(|text| text.rsplit_once('/')) else { continue };
        let (Ok(workflow), name) = (workflow.parse(), name.to_owned()) else { continue };
        let code = serde_json::from_slice(&code).map_err(|error| ReadError(Box::new(error)))?;
        found.push(Version { row: row.clone(), workflow, name, code });
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
    /// The workflow is deleted, and its instances with it: nothing can take a turn of them any more.
    async fn forget(&self, urn: &Urn) {
        debug_assert_eq!(urn.kind, Kind::Workflow);
        if let Err(error) = self.forget_all(urn).await {
            tracing::error!(%urn, %error, code = error.code(), "the instances of a deleted workflow cannot be erased");
        }
    }

    /// The versions go last: as long as there is one, the next start erases what is left.
    async fn forget_all(&self, urn: &Urn) -> Result<(), WorkflowError> {
        self.erase(urn).await?;
        hit("workflow.instances.erased");
        let mut batch = Batch::default();
        for version in versions(&*self.shared.store)?.into_iter().filter(|version| version.workflow == *urn) {
            batch.delete(version.row);
            let id = version_id(urn, &version.name);
            self.shared.turns.forget(&id);
            self.shared.host.forget(urn, &id);
        }
        Ok(self.shared.store.commit(batch).await.map(drop)?)
    }

    /// Deletes all instances of a workflow. Those that wait for one are told that it failed.
    async fn erase(&self, workflow: &Urn) -> Result<(), WorkflowError> {
        let found: Vec<_> = {
            let snapshot = self.shared.store.snapshot()?;
            let records = store::records(&*snapshot, &store::records_of(&workflow.stack))?;
            records
                .filter(|record| record.as_ref().map_or(true, |one| one.workflow == *workflow))
                .collect::<Result<_, _>>()?
        };
        for record in found {
            let key = InstanceKey { stack: workflow.stack.clone(), id: record.id };
            while let Err(CommitError::Conflict { .. }) = self.erase_one(&key, workflow).await? {}
        }
        Ok(())
    }

    async fn erase_one(
        &self,
        key: &InstanceKey,
        workflow: &Urn,
    ) -> Result<Result<(), CommitError>, WorkflowError> {
        let mut batch = Batch::default();
        let (parent, unlocked) = {
            let snapshot = self.shared.store.snapshot()?;
            let Some(loaded) = store::load(&*snapshot, key)? else { return Ok(Ok(())) };
            if loaded.record.workflow != *workflow {
                return Ok(Ok(()));
            }
            store::erase(&mut batch, &*snapshot, key, &loaded)?;
            let unlocked = in_locks(key, &loaded);
            let waits = loaded.record.parent.filter(|_| !loaded.record.status.ended());
            let parent = waits.map(|parent| {
                let to = InstanceKey { stack: key.stack.clone(), id: parent.instance.clone() };
                let reason = format!("{} was deleted", workflow.short());
                store::tell(&mut batch, &to, &parent.done(Err(Failure { reason, details: String::new() })));
                to
            });
            (parent, unlocked)
        };
        match self.shared.store.commit(batch).await {
            Ok(_) => {}
            Err(conflict @ CommitError::Conflict { .. }) => return Ok(Err(conflict)),
            Err(error) => return Err(error.into()),
        }
        if let Some(parent) = parent {
            self.shared.wake(&parent, None);
        }
        unlocked.iter().for_each(|entity| self.shared.wake_entity(entity));
        // Whoever waits for its end learns that there is none.
        let _ = self.shared.ended.send(key.clone());
        Ok(Ok(()))
    }
}
