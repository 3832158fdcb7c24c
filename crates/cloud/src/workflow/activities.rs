//! Calls of activities and container tasks, from their begin until the instance is told what came of them.

use std::{collections::hash_map::Entry, sync::Arc, time::Duration};

use serde_json::Value;
use tandem_failpoint::hit;
use tandem_model::{Kind, Report, Urn};
use tokio::time::sleep;

use super::{
    Shared, WorkflowError,
    host::{Call, Fault},
    lock,
    record::{Failure, Message, Work},
    store::{self, InstanceKey},
};

/// How long a call is left alone that nobody could begin.
const BUSY: Duration = Duration::from_millis(100);
/// How long a call is left alone whose instance could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// How often an activity is called whose worker was lost.
const ATTEMPTS: u32 = 3;

/// A call: the instance, its execution, the task.
pub(super) type Called = (InstanceKey, String, u32);

/// Names a call, the same for every attempt at it.
pub(super) fn key(execution: &str, task: u32) -> String {
    format!("{execution}-{task}")
}

impl Shared {
    /// Begins what an instance has open, after a start of the cloud.
    pub(super) fn take_up(self: &Arc<Self>, instance: &InstanceKey) -> Result<(), WorkflowError> {
        let Some(loaded) = store::load(&*self.store.snapshot()?, instance)? else { return Ok(()) };
        for (task, open) in &loaded.open {
            if matches!(open.work, Work::Activity { .. } | Work::Run { .. } | Work::Http { .. }) {
                self.call(instance, &loaded.record.execution, *task);
            }
        }
        Ok(())
    }

    /// Calls an activity or a container task, and tells the instance what came of it.
    pub(super) fn call(self: &Arc<Self>, instance: &InstanceKey, execution: &str, task: u32) {
        let of = (instance.clone(), execution.to_owned(), task);
        match lock(&self.calling).entry(of.clone()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(free) => free.insert(None),
        };
        let shared = self.clone();
        self.working.spawn(async move {
            let (instance, execution, task) = &of;
            let called = tokio::select! {
                called = shared.called(instance, execution, *task) => called,
                () = shared.closing.cancelled() => None,
            };
            if let Some(result) = called {
                hit("workflow.activity.done");
                let message = Message::Done { execution: execution.clone(), task: *task, result };
                shared.wake(instance, Some(message));
            }
            lock(&shared.calling).remove(&of);
        });
    }

    fn hold_up(&self, instance: &InstanceKey, execution: &str, task: u32, why: Option<Report>) {
        if let Some(held) = lock(&self.calling).get_mut(&(instance.clone(), execution.to_owned(), task)) {
            *held = why;
        }
    }

    /// The result of a call; `None` if nobody waits for it any more.
    async fn called(
        &self,
        instance: &InstanceKey,
        execution: &str,
        task: u32,
    ) -> Option<Result<Value, Failure>> {
        let mut room = Some(self.activities.clone().acquire_owned().await.ok()?);
        let mut lost = 0;
        loop {
            let read = self.store.snapshot().and_then(|s| store::task(&*s, instance, execution, task));
            let (record, open) = match read {
                Ok(found) => found?,
                Err(error) => {
                    tracing::error!(%instance, %error, "an instance cannot be read; trying again");
                    sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            let (kind, name, input) = match open.work {
                Work::Activity { name, input } => (Kind::Function, name, input),
                Work::Run { name, input } => (Kind::Task, name, input),
                Work::Http { .. } => {
                    drop(room.take());
                    return self.requested(instance, execution, task).await;
                }
                Work::Child { .. } | Work::Timer { .. } | Work::Entity { .. } | Work::Lock { .. } => {
                    return None;
                }
            };
            let callee = name.parse().ok().map(|name| Urn::new(instance.stack.clone(), kind, name));
            let Some(callee) = callee.filter(|callee| self.resources.by_urn(callee).is_some()) else {
                let reason = format!("there is no {kind} `{name}` in this stack");
                return Some(Err(Failure { reason, details: String::new() }));
            };
            let call = Call {
                callee,
                key: key(execution, task),
                input: input.unwrap_or_default(),
                traceparent: Some(record.cause()),
            };
            let result = match kind {
                Kind::Function => self.host.activity(call).await,
                _ => {
                    // A container waits for room of its own, and may take hours.
                    drop(room.take());
                    self.host.run(call).await
                }
            };
            match result {
                Ok(result) => return Some(result),
                Err(Fault::Busy(why)) => {
                    self.hold_up(instance, execution, task, Some(why));
                    sleep(BUSY).await;
                    self.hold_up(instance, execution, task, None);
                }
                Err(Fault::Lost(report)) if lost + 1 < ATTEMPTS => {
                    tracing::warn!(%instance, task, %report, "an activity is called again");
                    lost += 1;
                }
                Err(Fault::Lost(report)) => {
                    let details = report.to_string();
                    return Some(Err(Failure { reason: report.message, details }));
                }
            }
        }
    }
}
