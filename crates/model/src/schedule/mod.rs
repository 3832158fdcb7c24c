//! When a timer ticks: at intervals, by a cron expression, or once.
//!
//! Pure but for one thing: a time zone is looked up in the machine's database, or in the one that is built in. No clock:
//! every question names the moment that it is asked about.
//!
//! Daylight saving: intervals go by the time that passes. A cron expression that names hours goes by the clock on the
//! wall: a time that the clock leaves out ticks once, at the moment when it goes on, and a time that comes twice ticks
//! the first time. One that is for every hour ticks in both of the hours that come twice.

mod cron;

use std::fmt;

use jiff::{SignedDuration, Timestamp};

pub use self::cron::Cron;
use crate::Explain;

/// The shortest interval.
const SHORTEST: SignedDuration = SignedDuration::from_secs(1);
/// The longest: longer than any timer lives.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 366 * 100);

/// When a timer ticks.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// So much time after the last tick.
    Every(SignedDuration),
    Cron(Box<Cron>),
    /// Once.
    At(Timestamp),
}

/// A schedule that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("`{text}` is not a cron expression: {wrong}")]
    Cron { text: String, wrong: String },
    #[error("the cron expression `{text}` never comes true")]
    Never { text: String },
    #[error("the interval is {given}; it is at least 1 second")]
    Interval { given: String },
    #[error("`{zone}` is not a time zone that this machine knows")]
    TimeZone { zone: String },
    #[error("`{text}` is not a moment: {wrong}")]
    Moment { text: String, wrong: String },
    #[error("{schedule} lies in the past: it is {now} now")]
    Over { schedule: String, now: Timestamp },
    #[error("it has {given}; a timer has exactly one of `every`, `cron` and `at`")]
    Kinds { given: &'static str },
}

impl Explain for ScheduleError {
    fn code(&self) -> &'static str {
        match self {
            Self::Cron { .. } | Self::Kinds { .. } => "E0670",
            Self::Never { .. } => "E0671",
            Self::Interval { .. } => "E0672",
            Self::TimeZone { .. } => "E0673",
            Self::Moment { .. } => "E0674",
            Self::Over { .. } => "E0675",
        }
    }

    fn help(&self) -> String {
        match self {
            Self::Cron { .. } => "write five fields as in a crontab, `0 12 * * MON-FRI`, or six as on AWS, `cron(0 12 ? * MON-FRI *)`",
            Self::Kinds { .. } => "use `cloud.timer.interval`, `cloud.timer.cron` or `cloud.timer.at`",
            Self::Never { .. } => "choose a day that the month has",
            Self::Interval { .. } => "write for example `{ minutes: 5 }`",
            Self::TimeZone { .. } => "use a name of the IANA database, such as `Europe/Berlin` or `UTC`",
            Self::Moment { .. } => "pass a `Date`, or a text with an offset such as `2027-01-31T12:00:00Z`",
            Self::Over { .. } => "choose a time to come, or remove the timer",
        }
        .to_owned()
    }
}

impl Schedule {
    /// An interval.
    ///
    /// # Errors
    /// [`ScheduleError::Interval`] if it is shorter than a second, or no number.
    pub fn every(seconds: f64) -> Result<Self, ScheduleError> {
        let wrong = || ScheduleError::Interval { given: format!("{seconds} seconds") };
        let every = SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        if every < SHORTEST || every > LONGEST {
            return Err(wrong());
        }
        Ok(Self::Every(every))
    }

    /// A cron expression, or AWS's `rate(5 minutes)`. Without a time zone it is in UTC.
    ///
    /// # Errors
    /// [`ScheduleError`] that says what is wrong with it.
    pub fn cron(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        if let Some(rate) = text.trim().strip_prefix("rate(") {
            return rate_of(text, rate);
        }
        Ok(Self::Cron(Box::new(Cron::parse(text, zone)?)))
    }

    /// A moment in RFC 3339.
    ///
    /// # Errors
    /// [`ScheduleError::Moment`] if it is none.
    pub fn at(text: &str) -> Result<Self, ScheduleError> {
        let moment = text.parse();
        let wrong =
            |error: jiff::Error| ScheduleError::Moment { text: text.to_owned(), wrong: error.to_string() };
        Ok(Self::At(moment.map_err(wrong)?))
    }

    /// The first tick after a moment. Of an interval, the moment is that of the tick before.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => after.checked_add(*every).ok(),
            Self::Cron(cron) => cron.next(after),
            Self::At(moment) => Some(*moment).filter(|moment| *moment > after),
        }
    }

    /// The last tick after a moment that is not later than `now`. Asks [`next`](Self::next) some thirty times at most,
    /// however much time is between.
    pub fn latest(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let first = self.next(after).filter(|first| *first <= now)?;
        if let Self::Every(every) = self {
            let more = now.duration_since(first).as_millis() / every.as_millis();
            let more = i32::try_from(more).unwrap_or(i32::MAX);
            return Some(
                every.checked_mul(more).and_then(|more| first.checked_add(more).ok()).unwrap_or(first),
            );
        }
        // No tick is later than `found` and not later than `now`, unless it is after `low` and comes from before `high`.
        let (mut found, mut low, mut high) = (first, first, now);
        while high.duration_since(low) > SHORTEST {
            let Ok(middle) = low.checked_add(high.duration_since(low) / 2) else { break };
            match self.next(middle).filter(|tick| *tick <= now) {
                Some(tick) => (found, low) = (tick, tick),
                None => high = middle,
            }
        }
        match self.next(found) {
            Some(tick) if tick <= now => Some(tick),
            _ => Some(found),
        }
    }
}

/// `every 5m`, `0 12 * * * (Europe/Berlin)`, `2027-01-31T12:00:00Z`
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(every) => write!(f, "every {every:#}"),
            Self::Cron(cron) => cron.fmt(f),
            Self::At(moment) => moment.fmt(f),
        }
    }
}

/// What follows `rate(`. The unit is singular for 1 only, as AWS has it.
fn rate_of(text: &str, rate: &str) -> Result<Schedule, ScheduleError> {
    let wrong = |wrong: &str| ScheduleError::Cron { text: text.to_owned(), wrong: wrong.to_owned() };
    let inner = rate.trim_end().strip_suffix(')').ok_or_else(|| wrong("a `)` is missing at its end"))?;
    let mut words = inner.split_whitespace();
    let (Some(number), Some(unit), None) = (words.next(), words.next(), words.next()) else {
        return Err(wrong("a rate has a number and a unit, `rate(5 minutes)`"));
    };
    let number: u32 = number.parse().map_err(|_| wrong("the number of a rate is whole and above zero"))?;
    let seconds = match unit {
        "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 60 * 60,
        "day" | "days" => 24 * 60 * 60,
        _ => return Err(wrong("the unit of a rate is minutes, hours or days")),
    };
    if (number == 1) == unit.ends_with('s') {
        return Err(wrong("the unit is singular after 1, and plural after any other number"));
    }
    Schedule::every(f64::from(number) * f64::from(seconds))
}

#[cfg(test)]
mod tests;
