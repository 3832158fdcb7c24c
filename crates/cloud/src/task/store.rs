//! The records of runs, and how long they are kept.
//!
//! | key | value |
//! |---|---|
//! | `run/record/<id>` | [`Record`] |
//! | `run/input/<id>` | JSON: what the run is given, if anything; there as long as its log |
//! | `run/event/<id>` | JSON: the event that started it, if one did; as long as its input |
//! | `run/result/<id>` | JSON: what the run left, if anything; there as long as its record |
//! | `run/open/<id>` | empty; there while the run has not ended, so that a start reads only those |
//! | `run/task/<task urn>/<accepted>-<id>` | empty; the runs of a task whose logs are kept, in the order of acceptance |
//! | `run/spent/<task urn>/<accepted>-<id>` | empty; ended runs whose logs are gone and whose id must still be found |
//!
//! Of the ended runs of a task the last [`KEPT`] are kept with their logs. An older one that has a key stays findable,
//! without its log, until it is [`SPENT_AFTER`] old: an event that is delivered again by then finds its run (I4).

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_container::{ContainerId, Spec, exchange::Exchange};
use tandem_model::{
    ByteSize, StackId, Urn,
    inputs::{Code, Device},
};
use tandem_store::{Batch, Direction, ReadError, Snapshot, port::after_prefix};

use super::{
    RunError, RunId,
    core::{Phase, Run},
};
use crate::{
    capacity::{Claim, Room},
    log::{Filter, RunLog},
    program::Tenant,
};

/// How many ended runs of a task are kept with their logs.
pub(super) const KEPT: usize = 200;
/// Retention sets in when so many more are there, so that not every end has to look.
const SLACK: usize = 20;
/// How long the id of a run that was given a key is found at least.
pub(super) const SPENT_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// All that is needed to start a run, also after a restart or a change of its task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: RunId,
    pub(super) task: Urn,
    /// The idempotency key that the id was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) accepted: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) traceparent: Option<String>,
    /// With the image's environment only: credentials are derived at the start, never stored.
    pub(super) spec: Spec,
    /// What its containers run, unless that is in their image: the code that the task had when the run was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<Code>,
    /// The task's and the run's variables; they win over the image's and the cloud's.
    pub(super) environment: BTreeMap<String, String>,
    pub(super) reservation: ByteSize,
    #[serde(default)]
    pub(super) priority: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) concurrency: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) devices: Vec<Device>,
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) timeout: Option<f64>,
    #[serde(flatten)]
    pub(super) run: Run,
}

impl Record {
    /// The container that is there, or comes next.
    pub(super) fn container(&self) -> ContainerId {
        self.container_of(self.run.attempt)
    }

    /// The container of an attempt, counted from 1. The first has the run's id.
    pub(super) fn container_of(&self, attempt: u32) -> ContainerId {
        ContainerId(match attempt {
            1 => self.id.0.clone(),
            n => format!("{}-{n}", self.id),
        })
    }

    /// Who is in its containers, if that is code of the program. Each attempt asks by the name of the run: what one started,
    /// the next one finds (I4).
    pub(super) fn tenant(&self) -> Option<Tenant> {
        let (of, request) = (self.task.clone(), self.id.0.clone());
        Some(Tenant { of, request, traceparent: self.traceparent.clone(), code: self.code.clone()? })
    }

    /// What the run asks for before it starts.
    pub(super) fn claim(&self) -> Claim {
        Claim {
            id: self.id.0.clone(),
            of: self.task.clone(),
            needs: Room::of(self.reservation, self.spec.cpu),
            devices: self.devices.clone(),
            priority: self.priority,
            concurrency: self.concurrency,
        }
    }

    /// The log of an attempt, which is in `file`.
    pub(super) fn log_of(&self, attempt: u32, file: std::path::PathBuf) -> RunLog {
        let ended_of = |attempt: usize| self.run.failed.get(attempt).map(|failed| failed.ended);
        let index = attempt.saturating_sub(1) as usize;
        let ended = ended_of(index).or(match self.run.phase {
            Phase::Ended { ended, .. } => Some(ended),
            _ => None,
        });
        let since = index.checked_sub(1).and_then(ended_of).unwrap_or(self.accepted);
        RunLog { task: self.task.clone(), id: self.id.0.clone(), file, since, ended }
    }

    fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("a record has string keys only").into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, RunError> {
        serde_json::from_slice(bytes).map_err(RunError::Damaged)
    }
}

const RECORDS: &str = "run/record/";
const INPUTS: &str = "run/input/";
const EVENTS: &str = "run/event/";
const RESULTS: &str = "run/result/";
const OPEN: &str = "run/open/";
const BY_TASK: &str = "run/task/";
const SPENT: &str = "run/spent/";

fn record_key(id: &RunId) -> Bytes {
    format!("{RECORDS}{id}").into()
}

fn event_key(id: &RunId) -> Bytes {
    format!("{EVENTS}{id}").into()
}

fn input_key(id: &RunId) -> Bytes {
    format!("{INPUTS}{id}").into()
}

fn result_key(id: &RunId) -> Bytes {
    format!("{RESULTS}{id}").into()
}

fn open_key(id: &RunId) -> Bytes {
    format!("{OPEN}{id}").into()
}

/// `<accepted>-<id>`: sorts by time.
fn indexed_key(index: &str, record: &Record) -> Bytes {
    let accepted = record.accepted.as_microsecond();
    format!("{index}{}/{accepted:020}-{}", record.task, record.id).into()
}

fn indexed_id(key: &[u8]) -> Option<RunId> {
    let entry = std::str::from_utf8(key).ok()?.rsplit_once('/')?.1;
    Some(RunId(entry.split_once('-')?.1.to_owned()))
}

fn task_of(key: &[u8], index: &str) -> Option<Urn> {
    std::str::from_utf8(key).ok()?.strip_prefix(index)?.split_once('/')?.0.parse().ok()
}

/// The commit that accepts a run. It conflicts if there is a run of that id.
pub(super) fn accept(record: &Record, given: &Exchange) -> Batch {
    let mut batch = Batch::default();
    batch
        .expect(record_key(&record.id), None)
        .put(record_key(&record.id), record.encode())
        .put(open_key(&record.id), Bytes::new())
        .put(indexed_key(BY_TASK, record), Bytes::new());
    for (key, text) in [(input_key(&record.id), &given.input), (event_key(&record.id), &given.event)] {
        if let Some(text) = text {
            batch.put(key, text.clone());
        }
    }
    batch
}

/// The commit that makes a run's state true.
pub(super) fn advance(record: &Record) -> Batch {
    let mut batch = Batch::default();
    batch.put(record_key(&record.id), record.encode());
    if record.run.is_ended() {
        batch.delete(open_key(&record.id));
    }
    batch
}

/// The commit that ends a run which left a result.
pub(super) fn conclude(record: &Record, result: &str) -> Batch {
    let mut batch = advance(record);
    batch.put(result_key(&record.id), result.to_owned());
    batch
}

/// What a run is given.
pub(super) fn given(snapshot: &dyn Snapshot, id: &RunId) -> Result<Exchange, RunError> {
    let text = |key: Bytes| {
        let text = snapshot.get(&key)?;
        Ok::<_, RunError>(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
    };
    Ok(Exchange { input: text(input_key(id))?, event: text(event_key(id))? })
}

/// What a run left.
pub(super) fn result(snapshot: &dyn Snapshot, id: &RunId) -> Result<Option<Value>, RunError> {
    let text = snapshot.get(&result_key(id))?;
    text.map(|text| serde_json::from_slice(&text).map_err(RunError::Damaged)).transpose()
}

pub(super) fn get(snapshot: &dyn Snapshot, id: &RunId) -> Result<Option<Record>, RunError> {
    snapshot.get(&record_key(id))?.map(|bytes| Record::decode(&bytes)).transpose()
}

/// The runs that have not ended, by the time of acceptance.
pub(super) fn open(snapshot: &dyn Snapshot) -> Result<Vec<Record>, RunError> {
    let mut records = Vec::new();
    for entry in snapshot.prefix(OPEN.as_bytes())? {
        let (key, _) = entry?;
        let id = RunId(String::from_utf8_lossy(&key[OPEN.len()..]).into_owned());
        records.extend(get(snapshot, &id)?);
    }
    records.sort_by(|a, b| (a.accepted, &a.id).cmp(&(b.accepted, &b.id)));
    Ok(records)
}

/// The tasks that have runs, of a stack or of all.
pub(super) fn tasks(snapshot: &dyn Snapshot, stack: Option<&StackId>) -> Result<Vec<Urn>, ReadError> {
    let prefix = match stack {
        Some(StackId { project, stack }) => format!("{BY_TASK}urn:tandem:{project}:{stack}:"),
        None => BY_TASK.to_owned(),
    };
    let (mut from, to) = (prefix.clone().into_bytes(), after_prefix(prefix.as_bytes()));
    let mut tasks = Vec::new();
    // From task to task, not from run to run.
    while let Some(entry) = snapshot.range(&from, &to, Direction::Ascending)?.next() {
        let (key, _) = entry?;
        let end = key.iter().rposition(|b| *b == b'/').map_or(key.len(), |slash| slash + 1);
        tasks.extend(task_of(&key, BY_TASK));
        from = after_prefix(&key[..end]);
    }
    Ok(tasks)
}

/// The runs of a task whose logs are kept, newest first, at most so many.
pub(super) fn of_task(snapshot: &dyn Snapshot, task: &Urn, limit: usize) -> Result<Vec<Record>, RunError> {
    let prefix = format!("{BY_TASK}{task}/").into_bytes();
    let mut records = Vec::new();
    for entry in snapshot.range(&prefix, &after_prefix(&prefix), Direction::Descending)?.take(limit) {
        let (key, _) = entry?;
        if let Some(id) = indexed_id(&key) {
            records.extend(get(snapshot, &id)?);
        }
    }
    Ok(records)
}

/// The kept runs whose lines a reader may want.
pub(super) fn logged(snapshot: &dyn Snapshot, filter: &Filter) -> Result<Vec<Record>, RunError> {
    if let Some(id) = &filter.id
        && let Some(found) = get(snapshot, &RunId(id.clone()))?
    {
        return Ok(Some(found).filter(|record| filter.wants(&record.task)).into_iter().collect());
    }
    let mut records = Vec::new();
    for task in tasks(snapshot, filter.stack.as_ref())?.iter().filter(|task| filter.wants(task)) {
        records.extend(of_task(snapshot, task, usize::MAX)?);
    }
    records.retain(|record| filter.wants_id(record.id.as_str()));
    Ok(records)
}

/// What is too old to be kept of a task's runs.
#[derive(Debug, Default)]
pub(super) struct Excess {
    /// Their logs go, before the commit.
    pub(super) logs: Vec<ContainerId>,
    pub(super) batch: Batch,
}

/// What retention removes of a task's runs; with `all`, when the task is gone, every ended one.
pub(super) fn excess(
    snapshot: &dyn Snapshot,
    task: &Urn,
    now: Timestamp,
    all: bool,
) -> Result<Excess, RunError> {
    let mut excess = Excess::default();
    let kept = format!("{BY_TASK}{task}/").into_bytes();
    if !all && snapshot.prefix(&kept)?.count() <= KEPT + SLACK {
        return Ok(excess);
    }
    let keep = if all { 0 } else { KEPT };
    let mut ended = 0;
    for record in of_task(snapshot, task, usize::MAX)?.into_iter().filter(|r| r.run.is_ended()) {
        ended += 1;
        if ended <= keep {
            continue;
        }
        excess.batch.delete(indexed_key(BY_TASK, &record)).delete(input_key(&record.id));
        excess.batch.delete(event_key(&record.id));
        if record.key.is_some() && !all {
            excess.batch.put(indexed_key(SPENT, &record), Bytes::new());
        } else {
            excess.batch.delete(record_key(&record.id)).delete(result_key(&record.id));
        }
        excess.logs.extend((1..=record.run.attempt).map(|attempt| record.container_of(attempt)));
    }
    let prefix = format!("{SPENT}{task}/").into_bytes();
    for entry in snapshot.prefix(&prefix)? {
        let (key, _) = entry?;
        let Some(record) = indexed_id(&key).map(|id| get(snapshot, &id)).transpose()?.flatten() else {
            continue;
        };
        if !all && now.duration_since(record.accepted) < SPENT_AFTER {
            break;
        }
        excess.batch.delete(record_key(&record.id)).delete(result_key(&record.id)).delete(key);
    }
    Ok(excess)
}
