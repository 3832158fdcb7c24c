//! Instances in the chain of causes: what started them, and what they called.

use std::collections::HashMap;

use jiff::Timestamp;
use tandem_model::{Kind, StackId, Urn};

use super::{
    InstanceStatus, WorkflowError, Workflows, activities,
    history::EventType,
    store::{self, InstanceKey},
};

/// An instance, with its place in the chain.
#[derive(Debug)]
pub struct CausedInstance {
    pub status: InstanceStatus,
    /// What started it.
    pub traceparent: Option<String>,
    /// The cause of all that it calls.
    pub cause: String,
}

/// A call of an activity.
#[derive(Debug, Clone, PartialEq)]
pub struct CalledActivity {
    pub function: Urn,
    /// The id of the request, as the log has it.
    pub request: String,
    pub began: Timestamp,
    pub outcome: CallOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    Open,
    Done,
    Failed(String),
}

impl Workflows {
    /// The instances of a stack.
    ///
    /// # Errors
    /// [`WorkflowError`] if they cannot be read.
    pub fn caused(&self, stack: &StackId) -> Result<Vec<CausedInstance>, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let mut all = Vec::new();
        for record in store::records(&*snapshot, &store::records_of(stack))? {
            let record = record?;
            let (traceparent, cause) = (record.traceparent.clone(), record.cause());
            all.push(CausedInstance { status: record.into(), traceparent, cause });
        }
        Ok(all)
    }

    /// The activities that an instance has called in its present execution, the last `most` of them in their order.
    ///
    /// # Errors
    /// [`WorkflowError`] if there is no such instance, or it cannot be read.
    pub fn called(&self, instance: &InstanceKey, most: usize) -> Result<Vec<CalledActivity>, WorkflowError> {
        let snapshot = self.shared.store.snapshot()?;
        let record = self.known(instance)?;
        let (mut calls, mut places) = (Vec::new(), HashMap::new());
        for turn in store::turns(&*snapshot, instance, &record.execution, 0)? {
            for event in turn?.0 {
                let ends = event.task_scheduled_id.and_then(|task| places.get(&task).copied());
                match event.event_type {
                    EventType::TaskScheduled if !event.is_run => {
                        let name = event.name.as_deref().and_then(|name| name.parse().ok());
                        let (Some(name), Ok(task)) = (name, u32::try_from(event.event_id)) else { continue };
                        places.insert(task, calls.len());
                        calls.push(CalledActivity {
                            function: Urn::new(instance.stack.clone(), Kind::Function, name),
                            request: activities::key(&record.execution, task),
                            began: event.timestamp,
                            outcome: CallOutcome::Open,
                        });
                    }
                    EventType::TaskCompleted => {
                        if let Some(at) = ends {
                            calls[at].outcome = CallOutcome::Done;
                        }
                    }
                    EventType::TaskFailed => {
                        if let Some(at) = ends {
                            calls[at].outcome = CallOutcome::Failed(event.reason.unwrap_or_default());
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(calls.split_off(calls.len().saturating_sub(most)))
    }
}
