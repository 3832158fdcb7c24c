//! The inputs of a timer.

use serde::{Deserialize, Serialize};

use crate::schedule::{Schedule, ScheduleError};

/// Something that ticks: at intervals, by a cron expression, or once. Exactly one of the three is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timer {
    /// In seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A name of the IANA database; UTC if none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// A moment in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Timer {
    /// # Errors
    /// [`ScheduleError`] that says what is wrong with it.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        match (self.every, &self.cron, &self.at) {
            (Some(seconds), None, None) => Schedule::every(seconds),
            (None, Some(text), None) => Schedule::cron(text, self.time_zone.as_deref()),
            (None, None, Some(text)) => Schedule::at(text),
            (None, None, None) => Err(ScheduleError::Kinds { given: "none" }),
            _ => Err(ScheduleError::Kinds { given: "several" }),
        }
    }
}
