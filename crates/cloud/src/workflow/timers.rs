//! One task that waits for the next timer of all instances. Timers are rows, ordered by time; in memory there is a cursor:
//! the place up to which they were told.
//!
//! A timer is committed, then armed; a pass reads a snapshot, then moves the cursor. Whichever way these four fall, it is told:
//!
//! | the commit is | and it is armed | |
//! |---|---|---|
//! | before the snapshot | whenever | the pass reads it; it may be told twice, and an instance hears of a task once |
//! | after the snapshot | before the cursor passes it | the pass sees that it was armed, and reads anew |
//! | after the snapshot | after the cursor passed it | the cursor goes back before it |

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
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

/// How far the timers were told.
#[derive(Debug)]
pub(super) struct Cursor {
    /// All timers up to this row, and with it, were told.
    told: Vec<u8>,
    /// The first row that was armed since the cursor was taken for a pass.
    armed: Option<Bytes>,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { told: store::TIMERS.as_bytes().to_vec(), armed: None }
    }
}

impl Cursor {
    fn arm(&mut self, row: Bytes) {
        if self.armed.as_ref().is_none_or(|first| row < *first) {
            self.armed = Some(row);
        }
    }

    /// Where a pass begins, which knows of everything that was armed until now.
    fn begin(&mut self) -> Vec<u8> {
        if let Some(first) = self.armed.take().filter(|first| first.as_ref() <= &self.told[..]) {
            // Due already, or the clock was set back: those from here on are told anew.
            self.told.clear();
            self.told.extend_from_slice(&first);
            self.told.pop();
        }
        self.told.clone()
    }

    /// Whether the pass may tell this row, and goes on behind it.
    fn advance(&mut self, row: &Bytes) -> bool {
        if self.armed.as_ref().is_some_and(|first| first <= row) {
            return false;
        }
        self.told.clear();
        self.told.extend_from_slice(row);
        true
    }
}

impl Shared {
    /// A timer was committed.
    pub(super) fn arm(&self, at: Timestamp, instance: &InstanceKey, execution: &str, task: u32) {
        lock(&self.timers).arm(store::timer_key(at, instance, execution, task));
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

    /// Tells what is due, and answers how long to wait then. What is armed meanwhile notifies, and is not waited for.
    fn fire(self: &Arc<Self>) -> Result<Duration, tandem_store::ReadError> {
        loop {
            let from = lock(&self.timers).begin();
            let timers = store::timers(&*self.store.snapshot()?, &from, AT_ONCE)?;
            let (now, read) = (Timestamp::now(), timers.len());
            let mut told = 0;
            for due in timers {
                if due.at > now {
                    let pause = Duration::try_from(due.at.duration_since(now)).unwrap_or_default();
                    return Ok(pause.clamp(SHORTEST, LOOK));
                }
                if !lock(&self.timers).advance(&due.key) {
                    break;
                }
                told += 1;
                let message = Message::Fired { execution: due.execution, task: due.task };
                self.wake(&due.instance, Some(message));
            }
            if told == read && read < AT_ONCE {
                return Ok(LOOK);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u8) -> Bytes {
        Bytes::from(vec![b'w', b'o', b'r', b'k', b'x', n, 0])
    }

    #[test]
    fn what_is_armed_between_a_snapshot_and_its_telling_is_read_anew() {
        let mut cursor = Cursor::default();
        cursor.begin();
        cursor.arm(row(3));
        assert!(cursor.advance(&row(2)), "an earlier one is told all the same");
        assert!(!cursor.advance(&row(5)), "the pass would go past it");
        assert!(cursor.begin() < row(3).to_vec());
    }

    #[test]
    fn the_cursor_goes_back_before_what_is_armed_behind_it() {
        let mut cursor = Cursor::default();
        cursor.begin();
        assert!(cursor.advance(&row(5)));
        cursor.arm(row(4));
        cursor.arm(row(7));
        cursor.arm(row(3));
        assert!(cursor.begin() < row(3).to_vec());
        assert!(cursor.advance(&row(3)) && cursor.advance(&row(4)));
    }
}
