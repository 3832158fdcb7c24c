//! When which timer is due. What a timer calls is kept in JavaScript, in `runtime/globals.js`.
//!
//! Our own, and not LLRT's: there, a callback that throws stops every later timer, and the state outlives its runtime.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Longer delays than this are taken as this, as Node takes them as 1 ms; a program never waits that long.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a timer holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `setTimeout`: the program is not done before it fired.
    Once,
    /// `setInterval`: never done, so nobody waits for it except a module that is still loading.
    Repeating,
    /// `unref()` was called: nobody waits for it.
    Background,
}

impl Kind {
    pub(crate) fn from_js(text: &str) -> Self {
        match text {
            "repeating" => Self::Repeating,
            "background" => Self::Background,
            _ => Self::Once,
        }
    }
}

/// The timers that are armed, in the order in which they fire.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<(Instant, u64), (u32, Kind)>,
    armed: u64,
}

impl Timers {
    pub(crate) fn arm(&mut self, id: u32, milliseconds: f64, kind: Kind) {
        let delay = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or(Duration::ZERO).min(LONGEST);
        self.armed += 1;
        self.due.insert((Instant::now() + delay, self.armed), (id, kind));
    }

    pub(crate) fn disarm(&mut self, id: u32) {
        self.due.retain(|_, (armed, _)| *armed != id);
    }

    pub(crate) fn set_kind(&mut self, id: u32, kind: Kind) {
        for (armed, known) in self.due.values_mut() {
            if *armed == id {
                *known = kind;
            }
        }
    }

    /// When the next timer fires, of whatever kind.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.keys().next().map(|(due, _)| *due)
    }

    /// Whether a timer is armed that the program waits for.
    pub(crate) fn hold_up(&self, repeating_too: bool) -> bool {
        self.due.values().any(|(_, kind)| match kind {
            Kind::Once => true,
            Kind::Repeating => repeating_too,
            Kind::Background => false,
        })
    }

    /// Takes the next timer if it is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u32> {
        let key = *self.due.keys().next().filter(|(due, _)| *due <= now)?;
        self.due.remove(&key).map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_by_deadline_and_then_in_the_order_they_were_armed() {
        let mut timers = Timers::default();
        timers.arm(1, 20.0, Kind::Once);
        timers.arm(2, 0.0, Kind::Once);
        timers.arm(3, f64::NAN, Kind::Repeating);
        timers.disarm(1);
        let later = Instant::now() + Duration::from_millis(50);
        assert_eq!(std::iter::from_fn(|| timers.take_due(later)).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn an_interval_holds_up_only_who_asks_for_it() {
        let mut timers = Timers::default();
        timers.arm(1, 1e300, Kind::Repeating);
        assert!(!timers.hold_up(false));
        assert!(timers.hold_up(true));
        timers.set_kind(1, Kind::Background);
        assert!(!timers.hold_up(true));
    }
}
