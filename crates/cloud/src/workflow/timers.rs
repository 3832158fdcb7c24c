//! One task that waits for the next timer of all instances. Timers are rows, ordered by time; in memory there is the place
//! up to which they were told.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Shared, lock,
    record::Message,
    store::{self, InstanceKey},
};

/// How many timers are read at once.
const AT_ONCE: usize = 256;
/// How long it may take until a clock that was set is noticed.
const LOOK: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Rows tell milliseconds, and a timer never fires early.
const SHORTEST: Duration = Duration::from_millis(1);

impl Shared {
    /// A timer was committed.
    pub(super) fn arm(self: &Arc<Self>, at: Timestamp, instance: &InstanceKey, execution: &str, task: u32) {
        {
            let mut told = lock(&self.timers);
            let row = store::timer_row(at, instance, execution, task);
            if row.as_ref() <= &told[..] {
                // Due already, or the clock was set back: those from here on are looked at anew.
                told.clear();
                told.extend_from_slice(&row);
                told.pop();
            }
        }
        self.timers_changed.notify_one();
    }

    /// Tells every instance when a timer of it is due, until the cloud closes.
    pub(super) async fn run_timers(self: Arc<Self>) {
        loop {
            let pause = match self.fire() {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the timers of workflows cannot be read; trying again");
                    AFTER_ERROR
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.timers_changed.notified() => {}
                () = self.closing.cancelled() => return,
            }
        }
    }

    /// Tells what is due, and answers how long to wait then.
    fn fire(self: &Arc<Self>) -> Result<Duration, tandem_store::ReadError> {
        loop {
            let cursor = lock(&self.timers).clone();
            let timers = store::timers(&*self.store.snapshot()?, &cursor, AT_ONCE)?;
            let now = Timestamp::now();
            let full = timers.len() == AT_ONCE;
            for due in timers {
                if due.at > now {
                    let pause = Duration::try_from(due.at.duration_since(now)).unwrap_or_default();
                    return Ok(pause.clamp(SHORTEST, LOOK));
                }
                {
                    let mut told = lock(&self.timers);
                    if *told != cursor && due.key.as_ref() <= &told[..] {
                        // One that is earlier was committed meanwhile, or this was told already.
                        break;
                    }
                    told.clear();
                    told.extend_from_slice(&due.key);
                }
                let message = Message::Fired { execution: due.execution, task: due.task };
                self.wake(&due.instance, Some(message));
            }
            if !full && *lock(&self.timers) >= cursor {
                return Ok(LOOK);
            }
        }
    }
}
