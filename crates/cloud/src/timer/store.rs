//! The rows of timers: `timer/<physical id>` holds a [`Record`].

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::PhysicalId;

use super::{Timers, error::TimerError};

/// What is remembered of a timer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// When it was made, or got the schedule that it has.
    pub(super) since: Timestamp,
    /// The time of the last tick by that schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<Timestamp>,
    /// How often it has ticked.
    #[serde(default)]
    pub(super) ticks: u64,
}

impl Record {
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, last: None, ticks: 0 }
    }
}

pub(super) fn row(id: &PhysicalId) -> Bytes {
    format!("timer/{id}").into()
}

pub(super) fn encode(record: &Record) -> Bytes {
    serde_json::to_vec(record).expect("a record is a struct with string keys").into()
}

impl Timers {
    /// What is remembered, and the row that says so.
    pub(super) fn record(&self, id: &PhysicalId) -> Result<Option<(Record, Bytes)>, TimerError> {
        let Some(bytes) = self.store.snapshot()?.get(&row(id))? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).map_err(|source| TimerError::Damaged { source })?;
        Ok(Some((record, bytes)))
    }
}
