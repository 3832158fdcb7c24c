//! Timers: events at times.
//!
//! A tick is an event, and it is committed together with the timer's record, which says that it has happened: so a tick is
//! neither lost nor made twice, whenever the process ends.
//!
//! Who owns it: the rows `timer/<id>` are written here; the deliveries of a tick are added by the outbox. What a restart
//! finds at each gap:
//!
//! | killed | record | deliveries | a restart |
//! |---|---|---|---|
//! | before the commit of a tick | the tick before | none | ticks, for what is due by then |
//! | after it | this tick | there | the dispatcher delivers; the next tick is in time |
//! | before the commit of the timer | none | none | knows no timer |
//!
//! The rules, which [`core`] has:
//! - Ticks that were missed, while the cloud was down or the clock jumped ahead, are made up by one: for the last of them.
//! - A clock that is set back makes no tick a second time. A cron timer waits until the clock is where it was, unless that
//!   is more than a day: then the clock was wrong before. An interval begins anew.
//! - A timer that nobody has subscribed to does not tick. What became due meanwhile counts as missed: so a new timer does
//!   not tick before its handler is deployed.
//!
//! One task waits for the next tick of all timers. It looks at the clock at least every [`LOOK`], because nobody tells when
//! a clock was set.

mod core;
mod driver;
mod error;
mod provider;
mod store;
mod table;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_model::{PhysicalId, StackId, Urn};
use tandem_store::Store;
use tokio::sync::Notify;

use self::table::Table;
pub use self::{driver::run, error::TimerError, provider::refusal};
use crate::dispatch::Outbox;

/// How long it may take until a clock that was set is noticed.
const LOOK: Duration = Duration::from_secs(10);

type Clock = Box<dyn Fn() -> Timestamp + Send + Sync>;

/// The timers of one cloud.
pub struct Timers {
    store: Arc<dyn Store>,
    outbox: Arc<Outbox>,
    clock: Clock,
    table: Mutex<Table>,
    /// Another timer may be the next.
    changed: Arc<Notify>,
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

/// A timer, as of now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TimerStatus {
    pub urn: Urn,
    /// For people: `every 5m`, `0 12 * * * (Europe/Berlin)`.
    pub schedule: String,
    /// Absent if it ticks no more.
    pub next: Option<Timestamp>,
    /// The time of the last tick.
    pub last: Option<Timestamp>,
    /// How often it has ticked.
    pub ticks: u64,
}

impl Timers {
    pub fn new(
        store: Arc<dyn Store>,
        outbox: Arc<Outbox>,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Self {
        let clock: Clock = Box::new(clock);
        let table = Mutex::new(Table::new(clock()));
        Self { store, outbox, clock, table, changed: Arc::default() }
    }

    /// The timers of a stack, or of all, ordered by urn.
    pub fn status(&self, stack: Option<&StackId>) -> Vec<TimerStatus> {
        self.table().status(stack)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Takes a timer up as its record has it, or lets it go.
    ///
    /// # Errors
    /// [`TimerError`] if its record cannot be read.
    fn arm(
        &self,
        urn: &Urn,
        id: &PhysicalId,
        declared: tandem_model::inputs::Timer,
    ) -> Result<(), TimerError> {
        let schedule = declared.schedule()?;
        let record = self.record(id)?.map(|(record, _)| record);
        let now = self.now();
        let record = record.unwrap_or_else(|| store::Record::new(now));
        self.table().arm(urn, id, declared, &schedule, &record, now);
        self.changed.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
