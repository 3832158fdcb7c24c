//! How runs stand, for people and programs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_model::{StackId, Urn};

use super::{
    Attempt, Outcome, RunError, RunId, Shared, Stages,
    core::Phase,
    store::{self, Record},
};
use crate::capacity;

/// How many ended runs of a task are shown.
const RECENT: usize = 10;

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    pub id: RunId,
    pub task: Urn,
    pub state: RunState,
    pub accepted: Timestamp,
    /// Which attempt it is, counted from 1.
    pub attempt: u32,
    /// Those before, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// On the way to the start.
    #[serde(flatten)]
    pub stages: Stages,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// When its end was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// There if and only if it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What a process that stands for the run exits with; see [`Outcome::exit_code`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it did not succeed: names the run, its task and the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of a run that did not succeed, the last lines that its last attempt printed. Only told to who waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_tail: Vec<String>,
    /// What it left in the file that `TANDEM_RESULT` named. Not told in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it has not started: `needs 512 MiB; 88 MiB free`, `the disk is full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// The main process, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// What its container uses now, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    Queued,
    Starting,
    Running,
    Ended,
}

impl Shared {
    pub(super) fn status_of(&self, record: &Record) -> Result<RunStatus, RunError> {
        let waits = self.parts.capacity.why(record.id.as_str());
        let mut status = RunStatus::of(record, waits.or_else(|| self.roomless.why(&record.id)));
        if record.run.is_ended() {
            status.result = store::result(&*self.parts.store.snapshot()?, &record.id)?;
        }
        Ok(status)
    }

    pub(super) fn status(&self, stack: Option<&StackId>) -> Result<Vec<RunStatus>, RunError> {
        let live: Vec<_> = {
            // Meanwhile nothing gives back its room: who is seen to run holds it, and nobody else has it.
            let look = || self.live().values().map(|live| live.record.borrow().clone()).collect();
            let (mut waiting, live): (_, Vec<_>) = self.parts.capacity.all_waiting(look);
            let mut why = |id: &RunId| waiting.remove(id.as_str()).or_else(|| self.roomless.why(id));
            live.into_iter().map(|record| (why(&record.id), record)).collect()
        };
        let wanted = live.iter().filter(|(_, record)| stack.is_none_or(|stack| record.task.stack == *stack));
        let mut shown: Vec<_> = wanted.map(|(waits, record)| RunStatus::of(record, waits.clone())).collect();
        let snapshot = self.parts.store.snapshot()?;
        for task in store::tasks(&*snapshot, stack)? {
            let records = store::of_task(&*snapshot, &task, store::KEPT)?;
            let ended = records.into_iter().filter(|record| record.run.is_ended()).take(RECENT);
            // One that ended since is still shown as it was.
            for record in ended {
                if !shown.iter().any(|status| status.id == record.id) {
                    shown.push(RunStatus::of(&record, None));
                }
            }
        }
        shown.sort_by(|a, b| (b.accepted, &b.id).cmp(&(a.accepted, &a.id)));
        Ok(shown)
    }
}

impl RunStatus {
    fn of(record: &Record, waits: Option<String>) -> Self {
        let outcome = record.run.outcome().cloned();
        let mut status = Self {
            id: record.id.clone(),
            task: record.task.clone(),
            state: RunState::Queued,
            accepted: record.accepted,
            attempt: record.run.attempt,
            attempts: record.run.failed.clone(),
            stages: record.run.stages,
            started: record.run.started(),
            ended: None,
            exit_code: outcome.as_ref().map(Outcome::exit_code),
            error: outcome.as_ref().filter(|outcome| !outcome.is_success()).map(|outcome| {
                let (id, task) = (record.id.clone(), record.task.clone());
                RunError::Failed { id, task, outcome: outcome.clone().into() }.to_string()
            }),
            log_tail: Vec::new(),
            outcome,
            result: None,
            waits: None,
            pid: None,
            memory_bytes: None,
        };
        match record.run.phase {
            Phase::Queued { until: Some(until) } if until > Timestamp::now() => {
                status.waits = Some(format!("attempt {} begins at {until:.0}", record.run.attempt));
            }
            Phase::Queued { .. } | Phase::Starting => {
                status.waits = waits;
                if status.waits.is_none() {
                    status.state = RunState::Starting;
                }
            }
            Phase::Running { pid, .. } => {
                status.state = RunState::Running;
                status.pid = pid;
                status.memory_bytes = pid.and_then(capacity::memory_of).map(|memory| memory.0);
            }
            Phase::Ended { ended, .. } => {
                status.state = RunState::Ended;
                status.ended = Some(ended);
            }
        }
        status
    }
}
