//! Which instances a deploy would take with it, or take something from that they call.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tandem_model::{Kind, StackId, Urn};
use tandem_store::Snapshot;

use super::{
    WorkflowError, Workflows,
    history::EventType,
    record::Record,
    store::{self, InstanceKey},
};

/// How many instances of a workflow are looked at, to see what it calls.
const LOOKED_AT: usize = 100;

/// Instances that have not ended, and what would be deleted that they are of or call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The workflow itself, or a function, a task or a workflow that it has called.
    pub deleted: Urn,
    pub workflow: Urn,
    pub instances: usize,
}

impl Workflows {
    /// What instances of a stack would miss if these were deleted, by workflow and by what is deleted.
    ///
    /// # Errors
    /// [`WorkflowError`] if the instances cannot be read.
    pub fn ending(&self, stack: &StackId, deleted: &[Urn]) -> Result<Vec<Ending>, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let mut of_workflow: BTreeMap<Urn, Vec<Record>> = BTreeMap::new();
        let mut unended: BTreeMap<Urn, usize> = BTreeMap::new();
        for record in store::records(&*snapshot, &store::records_of(stack))? {
            let record = record?;
            let waits = !record.status.ended();
            *unended.entry(record.workflow.clone()).or_default() += usize::from(waits);
            let kept = of_workflow.entry(record.workflow.clone()).or_default();
            if kept.len() < LOOKED_AT {
                kept.push(record);
            }
        }
        let mut found = Vec::new();
        for (workflow, instances) in unended.into_iter().filter(|(_, instances)| *instances > 0) {
            if deleted.contains(&workflow) {
                found.push(Ending { deleted: workflow.clone(), workflow, instances });
                continue;
            }
            let called = called(&*snapshot, &of_workflow[&workflow], deleted)?;
            found.extend(called.into_iter().map(|deleted| Ending {
                deleted,
                workflow: workflow.clone(),
                instances,
            }));
        }
        Ok(found)
    }
}

/// Which of these the instances have called.
fn called(
    snapshot: &dyn Snapshot,
    instances: &[Record],
    deleted: &[Urn],
) -> Result<BTreeSet<Urn>, WorkflowError> {
    let mut found = BTreeSet::new();
    for record in instances {
        let key = InstanceKey { stack: record.workflow.stack.clone(), id: record.id.clone() };
        for turn in store::turns(snapshot, &key, &record.execution, 0)? {
            for event in turn?.0 {
                let kinds: &[Kind] = match event.event_type {
                    EventType::TaskScheduled => &[Kind::Function, Kind::Task],
                    EventType::SubOrchestrationInstanceCreated => &[Kind::Workflow],
                    _ => continue,
                };
                let named = |urn: &&Urn| {
                    kinds.contains(&urn.kind) && event.name.as_deref() == Some(urn.name.as_str())
                };
                found.extend(deleted.iter().filter(named).cloned());
            }
        }
    }
    Ok(found)
}
