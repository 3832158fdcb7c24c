//! When a timer ticks next, and for which time. Pure: a schedule, what was recorded, and the time that it is.

use jiff::{SignedDuration, Timestamp};
use tandem_model::schedule::Schedule;

use super::store::Record;

/// Clocks are set back by a little all the time.
pub(super) const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);
/// A cron timer whose last tick is further ahead than this had a clock that was wrong.
const SET_RIGHT: SignedDuration = SignedDuration::from_hours(24);

/// The moment after which the next tick comes: the last tick, or the beginning. If the clock was set back since, that may be
/// now. Asked once for each clock that is set, and not again and again: an interval would never end.
pub(super) fn base(schedule: &Schedule, record: &Record, now: Timestamp) -> Timestamp {
    let base = record.last.unwrap_or(record.since);
    let ahead = base.duration_since(now);
    let most = match schedule {
        Schedule::Every(_) => TOLERANCE,
        Schedule::Cron(_) | Schedule::At(_) => SET_RIGHT,
    };
    if ahead > most { now } else { base }
}

/// The next tick. One that is past is due.
pub(super) fn next(schedule: &Schedule, record: &Record, base: Timestamp) -> Option<Timestamp> {
    match schedule {
        // Wherever the clock was when it was made.
        Schedule::At(moment) => Some(*moment).filter(|_| record.last.is_none()),
        schedule => schedule.next(base),
    }
}

/// The time to tick for, if one has come: of several, the last.
pub(super) fn due(
    schedule: &Schedule,
    record: &Record,
    base: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    match schedule {
        Schedule::At(_) => next(schedule, record, base).filter(|moment| *moment <= now),
        schedule => schedule.latest(base, now),
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn moment(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn ticked(last: &str) -> Record {
        Record { last: Some(moment(last)), ..Record::new(moment("2026-01-01T00:00:00Z")) }
    }

    #[test]
    fn ticks_that_were_missed_are_made_up_by_one_for_the_last() {
        let daily = Schedule::cron("0 6 * * *", None).unwrap();
        let record = ticked("2026-11-20T06:00:00Z");
        let now = moment("2026-11-26T05:00:00Z");
        let base = base(&daily, &record, now);
        assert_eq!(due(&daily, &record, base, now), Some(moment("2026-11-25T06:00:00Z")));
        let after = ticked("2026-11-25T06:00:00Z");
        assert_eq!(due(&daily, &after, self::base(&daily, &after, now), now), None);
    }

    #[test]
    fn of_a_clock_that_is_set_back_an_hour_a_cron_timer_waits_and_an_interval_begins_anew() {
        let record = ticked("2026-11-26T12:00:00Z");
        let now = moment("2026-11-26T11:00:01Z");
        let cron = Schedule::cron("*/5 * * * *", None).unwrap();
        assert_eq!(next(&cron, &record, base(&cron, &record, now)), Some(moment("2026-11-26T12:05:00Z")));
        let every = Schedule::every(300.0).unwrap();
        assert_eq!(next(&every, &record, base(&every, &record, now)), Some(moment("2026-11-26T11:05:01Z")));
    }

    #[test]
    fn a_clock_that_was_years_ahead_silences_nobody() {
        let record = ticked("2035-01-01T00:00:00Z");
        let now = moment("2026-11-26T11:00:00Z");
        for schedule in [Schedule::cron("0 12 * * *", None).unwrap(), Schedule::every(3600.0).unwrap()] {
            let next = next(&schedule, &record, base(&schedule, &record, now));
            assert_eq!(next, Some(moment("2026-11-26T12:00:00Z")), "{schedule}");
        }
    }

    #[test]
    fn once_is_once_even_if_it_was_missed_or_the_clock_is_set_back() {
        let once = Schedule::at("2026-11-26T11:00:00Z").unwrap();
        let new = Record::new(moment("2026-11-26T10:00:00Z"));
        let late = moment("2026-12-26T10:00:00Z");
        assert_eq!(due(&once, &new, base(&once, &new, late), late), Some(moment("2026-11-26T11:00:00Z")));
        let early = moment("2020-01-01T00:00:00Z");
        let done = ticked("2026-11-26T11:00:00Z");
        for now in [early, late] {
            assert_eq!(due(&once, &done, base(&once, &done, now), now), None);
        }
    }

    proptest! {
        /// However the clock goes, an interval that is asked for at its next time ticks, and is never silent for longer
        /// than its length from now.
        #[test]
        fn an_interval_is_never_further_away_than_its_length(
            seconds in 1u32..1_000_000,
            last in 0i64..4_000_000_000,
            now in 0i64..4_000_000_000,
        ) {
            let (last, now) = (Timestamp::from_second(last).unwrap(), Timestamp::from_second(now).unwrap());
            let every = Schedule::every(f64::from(seconds)).unwrap();
            let record = Record { last: Some(last), ..Record::new(last) };
            let base = base(&every, &record, now);
            let next = next(&every, &record, base).unwrap();
            prop_assert!(next <= now + i64::from(seconds).seconds() + 1.second());
            let due = due(&every, &record, base, next).unwrap();
            prop_assert_eq!(due, next);
            let at_once = self::due(&every, &record, base, now);
            prop_assert!(at_once.is_none_or(|tick| tick <= now && now.duration_since(tick).as_secs() < i64::from(seconds)));
        }
    }
}
