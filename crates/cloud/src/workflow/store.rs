//! The rows of workflows. `<instance>` is `<project>/<stack>/<id>`; numbers are padded, so that they sort.
//!
//! | row | holds |
//! |---|---|
//! | `workflow/i/<instance>` | its [`Record`] |
//! | `workflow/h/<instance>/<execution>/<turn>` | the events of one turn |
//! | `workflow/o/<instance>/<execution>/<task>` | an [`Open`] task |
//! | `workflow/t/<time>/<instance>/<execution>/<task>` | nothing: it says that this timer is due then |
//! | `workflow/m/<instance>/<message>` | a [`Message`] that it has not been told |
//! | `workflow/f/<instance>` | how it stood [`Before`] the turn in which it failed |
//! | `workflow/v/<workflow>/<version>` | a version's code, memory, timeout and environment, as long as an instance may need it |

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tandem_model::StackId;
use tandem_store::{Batch, ReadError, Snapshot};
use uuid::Uuid;

use super::{
    core::Turned,
    history::HistoryEvent,
    record::{Message, Open, Record, Status, Work},
    rewind::Before,
};

/// An instance of a stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey {
    pub stack: StackId,
    pub id: String,
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stack, self.id)
    }
}

impl InstanceKey {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let (project, stack, id) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { stack: format!("{project}/{stack}").parse().ok()?, id: id.to_owned() })
    }
}

/// A message that waits, and its row.
pub(super) type Waiting = (Bytes, Message);

pub(super) fn record_key(instance: &InstanceKey) -> Bytes {
    format!("{RECORDS}{instance}").into()
}

/// Before all records.
pub(super) const RECORDS: &str = "workflow/i/";

pub(super) fn records_of(stack: &StackId) -> String {
    format!("{RECORDS}{stack}/")
}

/// The records whose rows begin so, by their ids.
pub(super) fn records<'a>(
    snapshot: &'a dyn Snapshot,
    prefix: &str,
) -> Result<impl Iterator<Item = Result<Record, ReadError>> + 'a, ReadError> {
    Ok(snapshot.prefix(prefix.as_bytes())?.map(|entry| entry.and_then(|(_, row)| parse(&row))))
}

fn history_prefix(instance: &InstanceKey, execution: &str) -> String {
    format!("workflow/h/{instance}/{execution}/")
}

fn open_prefix(instance: &InstanceKey, execution: &str) -> String {
    format!("workflow/o/{instance}/{execution}/")
}

pub(super) fn open_key(instance: &InstanceKey, execution: &str, task: u32) -> Bytes {
    format!("{}{task:010}", open_prefix(instance, execution)).into()
}

/// The row of a timer, which sorts by its time.
pub(super) fn timer_key(at: Timestamp, instance: &InstanceKey, execution: &str, task: u32) -> Bytes {
    format!("workflow/t/{}/{instance}/{execution}/{task:010}", sortable(at)).into()
}

/// Milliseconds since 1970; whatever is before is due anyhow.
fn sortable(at: Timestamp) -> String {
    format!("{:016}", at.as_millisecond().max(0))
}

fn inbox_prefix(instance: &InstanceKey) -> String {
    format!("workflow/m/{instance}/")
}

pub(super) fn version_key(workflow: &tandem_model::Urn, version: &str) -> Bytes {
    format!("workflow/v/{workflow}/{version}").into()
}

pub(super) const VERSIONS: &str = "workflow/v/";

/// A row, as it is written.
pub(super) fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).expect("rows are structs with string keys").into()
}

pub(super) fn parse<T: DeserializeOwned>(row: &[u8]) -> Result<T, ReadError> {
    serde_json::from_slice(row).map_err(|error| ReadError(Box::new(error)))
}

/// Adds a message to an instance's inbox.
pub(super) fn tell(batch: &mut Batch, instance: &InstanceKey, message: &Message) {
    batch.put(format!("{}{}", inbox_prefix(instance), Uuid::now_v7()), json(message));
}

/// Everything about an instance but its history, as one snapshot has it.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) record: Record,
    pub(super) open: BTreeMap<u32, Open>,
}

impl Loaded {
    /// The same after a turn that is committed.
    pub(super) fn after(self, turned: Turned) -> Self {
        let mut open = if turned.renewed { BTreeMap::new() } else { self.open };
        open.retain(|task, _| !turned.closed.contains(task));
        open.extend(turned.opened);
        Self { record: turned.record, open }
    }
}

pub(super) fn record(snapshot: &dyn Snapshot, instance: &InstanceKey) -> Result<Option<Record>, ReadError> {
    snapshot.get(&record_key(instance))?.map(|row| parse(&row)).transpose()
}

pub(super) fn load(snapshot: &dyn Snapshot, instance: &InstanceKey) -> Result<Option<Loaded>, ReadError> {
    let Some(record) = record(snapshot, instance)? else { return Ok(None) };
    let prefix = open_prefix(instance, &record.execution);
    let mut open = BTreeMap::new();
    for entry in snapshot.prefix(prefix.as_bytes())? {
        let (key, row) = entry?;
        if let Some(task) = number(&key[prefix.len()..]) {
            open.insert(task, parse(&row)?);
        }
    }
    Ok(Some(Loaded { record, open }))
}

/// One open task of an execution, if that is the instance's.
pub(super) fn task(
    snapshot: &dyn Snapshot,
    instance: &InstanceKey,
    execution: &str,
    task: u32,
) -> Result<Option<(Record, Open)>, ReadError> {
    let Some(record) = record(snapshot, instance)?.filter(|record| record.execution == execution) else {
        return Ok(None);
    };
    let row = snapshot.get(&open_key(instance, execution, task))?;
    row.map(|row| Ok((record, parse(&row)?))).transpose()
}

fn number(digits: &[u8]) -> Option<u32> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// What an instance has not been told, oldest first; `most` at most.
pub(super) fn inbox(
    snapshot: &dyn Snapshot,
    instance: &InstanceKey,
    most: usize,
) -> Result<Vec<Waiting>, ReadError> {
    let rows = snapshot.prefix(inbox_prefix(instance).as_bytes())?.take(most);
    rows.map(|entry| entry.and_then(|(key, row)| Ok((key, parse(&row)?)))).collect()
}

/// The events of an execution from turn `from` on, a turn at a time.
pub(super) fn turns<'a>(
    snapshot: &'a dyn Snapshot,
    instance: &InstanceKey,
    execution: &str,
    from: u32,
) -> Result<impl Iterator<Item = Result<(Vec<HistoryEvent>, usize), ReadError>> + 'a, ReadError> {
    let prefix = history_prefix(instance, execution);
    let (from, to) = (format!("{prefix}{from:010}"), tandem_store::after_prefix(prefix.as_bytes()));
    let rows = snapshot.range(from.as_bytes(), &to, tandem_store::Direction::Ascending)?;
    Ok(rows.map(|entry| entry.and_then(|(_, row)| Ok((parse(&row)?, row.len())))))
}

/// The rows that one turn writes, under the precondition that nobody else changed the instance.
pub(super) fn commit(
    batch: &mut Batch,
    instance: &InstanceKey,
    before: &Loaded,
    turned: &Turned,
    told: impl IntoIterator<Item = Bytes>,
) {
    let execution = &before.record.execution;
    batch.expect(record_key(instance), Some(json(&before.record)));
    batch.put(record_key(instance), json(&turned.record));
    if turned.renewed {
        forget_history(batch, instance, &before.record);
        tell(batch, instance, &Message::Started);
    } else {
        let turn = before.record.turns;
        let key = format!("{}{turn:010}", history_prefix(instance, execution));
        batch.put(key, json(&turned.events));
    }
    if turned.record.status == Status::Failed {
        batch.put(failure_key(instance), json(&Before::of(before)));
    }
    let over = turned.record.status.ended() || turned.renewed;
    for (task, open) in &before.open {
        if over || turned.closed.contains(task) {
            drop_open(batch, instance, execution, *task, open);
        }
    }
    for (task, open) in &turned.opened {
        put_open(batch, instance, execution, *task, open);
    }
    for row in told {
        batch.delete(row);
    }
}

fn put_open(batch: &mut Batch, instance: &InstanceKey, execution: &str, task: u32, open: &Open) {
    batch.put(open_key(instance, execution, task), json(open));
    if let Work::Timer { fire_at, .. } = open.work {
        batch.put(timer_key(fire_at, instance, execution, task), Bytes::new());
    }
}

fn drop_open(batch: &mut Batch, instance: &InstanceKey, execution: &str, task: u32, open: &Open) {
    batch.delete(open_key(instance, execution, task));
    if let Work::Timer { fire_at, .. } = open.work {
        batch.delete(timer_key(fire_at, instance, execution, task));
    }
}

/// Deletes everything about an instance.
pub(super) fn erase(
    batch: &mut Batch,
    snapshot: &dyn Snapshot,
    instance: &InstanceKey,
    loaded: &Loaded,
) -> Result<(), ReadError> {
    batch.expect(record_key(instance), Some(json(&loaded.record)));
    batch.delete(record_key(instance));
    forget_history(batch, instance, &loaded.record);
    for (task, open) in &loaded.open {
        drop_open(batch, instance, &loaded.record.execution, *task, open);
    }
    for entry in snapshot.prefix(inbox_prefix(instance).as_bytes())? {
        batch.delete(entry?.0);
    }
    Ok(())
}

/// Takes the turn back in which an instance failed, and opens what was open before it.
pub(super) fn rewind(
    batch: &mut Batch,
    instance: &InstanceKey,
    failed: &Record,
    record: &Record,
    open: &BTreeMap<u32, Open>,
) {
    batch.expect(record_key(instance), Some(json(failed)));
    batch.put(record_key(instance), json(record)).delete(failure_key(instance));
    batch.delete(format!("{}{:010}", history_prefix(instance, &record.execution), record.turns));
    for (task, open) in open {
        put_open(batch, instance, &record.execution, *task, open);
    }
}

fn failure_key(instance: &InstanceKey) -> Bytes {
    format!("workflow/f/{instance}").into()
}

pub(super) fn before_failure(
    snapshot: &dyn Snapshot,
    instance: &InstanceKey,
) -> Result<Option<Before>, ReadError> {
    snapshot.get(&failure_key(instance))?.map(|row| parse(&row)).transpose()
}

/// Deletes the events of an execution that is over.
pub(super) fn forget_history(batch: &mut Batch, instance: &InstanceKey, record: &Record) {
    if record.status == Status::Failed {
        batch.delete(failure_key(instance));
    }
    for turn in 0..record.turns {
        batch.delete(format!("{}{turn:010}", history_prefix(instance, &record.execution)));
    }
}

/// A timer that is due at a time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Due {
    pub(super) key: Bytes,
    pub(super) at: Timestamp,
    pub(super) instance: InstanceKey,
    pub(super) execution: String,
    pub(super) task: u32,
}

/// The timers after `cursor`, soonest first; `most` at most.
pub(super) fn timers(snapshot: &dyn Snapshot, cursor: &[u8], most: usize) -> Result<Vec<Due>, ReadError> {
    let mut from = cursor.to_vec();
    from.push(0);
    let rows = snapshot.range(
        &from,
        &tandem_store::after_prefix(TIMERS.as_bytes()),
        tandem_store::Direction::Ascending,
    )?;
    let mut due = Vec::new();
    for entry in rows.take(most) {
        let (key, _) = entry?;
        due.extend(read_timer(&key));
    }
    Ok(due)
}

/// Before all timers.
pub(super) const TIMERS: &str = "workflow/t/";

fn read_timer(key: &Bytes) -> Option<Due> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix(TIMERS)?;
    let (millis, rest) = text.split_once('/')?;
    let (rest, task) = rest.rsplit_once('/')?;
    let (instance, execution) = rest.rsplit_once('/')?;
    Some(Due {
        key: key.clone(),
        at: Timestamp::from_millisecond(millis.parse().ok()?).ok()?,
        instance: InstanceKey::parse(instance)?,
        execution: execution.to_owned(),
        task: task.parse().ok()?,
    })
}

/// The instances that have work open, or something to be told. Timers, entities and locks tell them by themselves.
pub(super) fn restless(snapshot: &dyn Snapshot) -> Result<Vec<InstanceKey>, ReadError> {
    let mut found = Vec::new();
    let mut note = |instance: Option<InstanceKey>| {
        if let Some(instance) = instance.filter(|instance| found.last() != Some(instance)) {
            found.push(instance);
        }
    };
    for entry in snapshot.prefix(b"workflow/o/")? {
        let (key, row) = entry?;
        if matches!(parse::<Open>(&row)?.work, Work::Timer { .. } | Work::Entity { .. } | Work::Lock { .. }) {
            continue;
        }
        let text = std::str::from_utf8(&key).ok().and_then(|text| text.strip_prefix("workflow/o/"));
        note(text.and_then(|text| {
            let (rest, _task) = text.rsplit_once('/')?;
            InstanceKey::parse(rest.rsplit_once('/')?.0)
        }));
    }
    for entry in snapshot.prefix(b"workflow/m/")? {
        let (key, _) = entry?;
        let text = std::str::from_utf8(&key).ok().and_then(|text| text.strip_prefix("workflow/m/"));
        note(text.and_then(|text| InstanceKey::parse(text.rsplit_once('/')?.0)));
    }
    found.sort();
    found.dedup();
    Ok(found)
}
