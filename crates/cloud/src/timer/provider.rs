//! Timers as resources: what the target asks.

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use tandem_model::{
    Explain, Kind, PhysicalId, Report, Urn, inputs,
    plan::Change,
    resource::{Properties, Recorded},
    schedule::{Schedule, ScheduleError},
    value,
};
use tandem_store::Batch;

use super::{
    Timers,
    error::TimerError,
    store::{Record, encode, row},
};
use crate::provider::{Lines, Provider};

/// Why a timer that is new, or gets another schedule, would never tick: its time is over. One that is as it was may be
/// over, or a program could not be deployed again after it. `None` of anything else.
pub fn refusal(urn: &Urn, old: Option<&Properties>, new: &Properties, now: Timestamp) -> Option<Report> {
    if urn.kind != Kind::Timer || new.values().any(value::has_unknown) {
        return None;
    }
    let declared = read(urn, new).ok()?;
    if old.and_then(|old| read(urn, old).ok()).is_some_and(|old| old == declared) {
        return None;
    }
    let schedule = declared.schedule().ok()?;
    let over = match &schedule {
        Schedule::At(moment) => *moment <= now,
        schedule => schedule.next(now).is_none(),
    };
    over.then(|| {
        let mut report = ScheduleError::Over { schedule: schedule.to_string(), now }.report();
        report.message = format!("{}: {}", urn.short(), report.message);
        report
    })
}

fn read(urn: &Urn, inputs: &Properties) -> Result<inputs::Timer, TimerError> {
    Ok(inputs::read(urn, inputs)?)
}

#[async_trait]
impl Provider for Timers {
    async fn prepare(&self, change: &Change, id: &PhysicalId, _: &dyn Lines) -> Result<Properties, Report> {
        let (urn, old, new) = match change {
            Change::Create { urn, inputs } => (urn, None, inputs),
            Change::Update { urn, old, new, .. } => (urn, Some(old), new),
            Change::Delete { .. } => return Ok(Properties::new()),
        };
        let checked = read(urn, new).and_then(|declared| Ok(declared.schedule()?));
        checked.map_err(|error| error.report())?;
        if let Some(report) = refusal(urn, old, new, self.now()) {
            return Err(report);
        }
        Ok(Properties::from_iter([("id".to_owned(), json!(id.0))]))
    }

    fn write(&self, batch: &mut Batch, change: &Change, id: &PhysicalId) -> Result<(), Report> {
        match change {
            Change::Create { .. } => batch.put(row(id), encode(&Record::new(self.now()))),
            Change::Update { urn, old, new, .. } => {
                let read = |inputs| read(urn, inputs).map_err(|error| error.report());
                if read(old)? == read(new)? {
                    return Ok(());
                }
                // Under another schedule it begins anew; its ticks are counted on.
                let before = self.record(id).map_err(|error| error.report())?;
                let ticks = before.map_or(0, |(record, _)| record.ticks);
                batch.put(row(id), encode(&Record { ticks, ..Record::new(self.now()) }))
            }
            Change::Delete { .. } => batch.delete(row(id)),
        };
        Ok(())
    }

    async fn settle(&self, urn: &Urn, id: &PhysicalId, now: Option<&Recorded>) {
        let Some(recorded) = now else { return self.table().disarm(id) };
        let armed = read(urn, &recorded.inputs).and_then(|declared| self.arm(urn, id, declared));
        if let Err(error) = armed {
            tracing::error!(%urn, %error, "a timer does not tick");
        }
    }
}
