//! One task that waits for the next tick of all timers.

use std::{future::Future, sync::Weak, time::Duration};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tandem_failpoint::hit;
use tandem_model::{
    Event, PhysicalId,
    event::{SpecVersion, TIMER_TICK, TickData},
};
use tandem_store::{Batch, CommitError};
use uuid::Uuid;

use super::{
    LOOK, Timers, core,
    error::TimerError,
    store::{Record, encode, row},
    table::Armed,
};

/// How many ticks are committed at once: they share their commits.
const AT_ONCE: usize = 256;
/// How long a tick that could not be committed is left alone.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
/// No wait is shorter: what wakes a task is not more exact.
const SHORTEST: Duration = Duration::from_millis(1);

/// Makes every tick at its time, until it is dropped or the timers are gone.
pub async fn run<S: Future<Output = ()>>(timers: Weak<Timers>, sleep: impl Fn(Duration) -> S) {
    let (changed, mut subscriptions) = {
        let Some(timers) = timers.upgrade() else { return };
        (timers.changed.clone(), timers.outbox.changes())
    };
    loop {
        let pause = {
            let Some(timers) = timers.upgrade() else { return };
            timers.fire().await
        };
        let rest = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = rest => {}
            () = changed.notified() => {}
            Ok(()) = subscriptions.changed() => {
                let Some(timers) = timers.upgrade() else { return };
                timers.table().look_at_unheard();
            }
        }
    }
}

/// What became of a timer that was looked at.
enum Looked {
    /// It has ticked, or it was too early.
    Ahead(Record),
    Unheard,
    /// It is gone, or has another schedule: whoever changed it settles it.
    Changed,
}

impl Timers {
    /// Ticks with all that are due, and answers how long to wait then; `None` if there is nothing to wait for.
    pub(super) async fn fire(&self) -> Option<Duration> {
        let now = self.now();
        if self.table().was_set_back(now) {
            tracing::info!(%now, "the clock was set back: the timers are looked at anew");
            self.arm_all_anew();
        }
        let due = self.table().take_due(now);
        stream::iter(due).for_each_concurrent(AT_ONCE, |id| async move { self.look(&id, now).await }).await;
        let look = self.table().next_look()?;
        let pause = look.duration_since(self.now());
        Some(Duration::try_from(pause).unwrap_or_default().clamp(SHORTEST, LOOK))
    }

    fn arm_all_anew(&self) {
        let all = self.table().all();
        for (id, armed) in all {
            if let Err(error) = self.arm(&armed.urn, &id, armed.declared) {
                tracing::error!(urn = %armed.urn, %error, "cannot look at a timer anew");
            }
        }
    }

    /// Looks at one timer, and decides when to look at it again.
    async fn look(&self, id: &PhysicalId, now: Timestamp) {
        let Some(armed) = self.table().get(id).cloned() else { return };
        let looked = self.tick(id, &armed, now).await;
        let mut table = self.table();
        if !table.is_at(id, armed.turn) {
            return;
        }
        match looked {
            Ok(Looked::Ahead(record)) => match armed.declared.schedule() {
                Ok(schedule) => table.arm(&armed.urn, id, armed.declared, &schedule, &record, self.now()),
                Err(error) => tracing::error!(urn = %armed.urn, %error, "a timer has no schedule any more"),
            },
            Ok(Looked::Unheard) => table.keep_unheard(id),
            Ok(Looked::Changed) => {}
            Err(TickError::Commit(CommitError::Closed)) => {}
            Err(error) => {
                tracing::error!(urn = %armed.urn, %error, "cannot record the tick of a timer; trying again");
                if let Ok(again) = now.checked_add(AGAIN) {
                    table.look_at(id, again);
                }
            }
        }
    }

    /// Commits the tick that is due, with its deliveries.
    async fn tick(&self, id: &PhysicalId, armed: &Armed, now: Timestamp) -> Result<Looked, TickError> {
        let schedule = armed.declared.schedule().map_err(TimerError::from)?;
        loop {
            let Some((record, bytes)) = self.record(id)? else { return Ok(Looked::Changed) };
            if record.since != armed.record.since {
                return Ok(Looked::Changed);
            }
            if record != armed.record {
                // It has ticked while it was armed.
                return Ok(Looked::Ahead(record));
            }
            let Some(scheduled) = core::due(&schedule, &record, armed.base, now) else {
                return Ok(Looked::Ahead(record));
            };
            let after = Record { last: Some(scheduled), ticks: record.ticks + 1, ..record.clone() };
            let mut batch = Batch::default();
            batch.expect(row(id), Some(bytes)).put(row(id), encode(&after));
            let enqueued = self.outbox.enqueue(&mut batch, &event(armed, &record, &after, scheduled, now));
            if enqueued.is_empty() {
                return Ok(Looked::Unheard);
            }
            hit("timer.tick.due");
            match self.outbox.commit(&self.store, batch, [enqueued]).await {
                Ok(()) => {
                    hit("timer.tick.committed");
                    return Ok(Looked::Ahead(after));
                }
                // The timer or who hears it has changed meanwhile.
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum TickError {
    #[error(transparent)]
    Timer(#[from] TimerError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// The event of a tick. Its id is the same whenever this tick is tried again: the time and the number of the tick, for a
/// clock that is set back may come to the same time again.
fn event(armed: &Armed, before: &Record, after: &Record, scheduled: Timestamp, now: Timestamp) -> Event {
    let data =
        TickData { timer: armed.urn.name.to_string(), scheduled_time: scheduled, previous_time: before.last };
    let (trace, parent) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u128() as u64);
    Event {
        specversion: SpecVersion::V1,
        id: format!("{scheduled}/{}", after.ticks),
        source: armed.urn.to_string(),
        kind: TIMER_TICK.to_owned(),
        subject: None,
        time: now,
        traceparent: Some(format!("00-{trace:032x}-{parent:016x}-01")),
        datacontenttype: "application/json".to_owned(),
        data: json!(data),
    }
}
