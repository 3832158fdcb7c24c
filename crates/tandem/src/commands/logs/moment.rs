//! Moments as people write them: how long ago, or when.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp, Zoned, civil, tz::TimeZone};

/// A moment of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// So long ago.
    Ago(SignedDuration),
    At(Timestamp),
}

impl Moment {
    pub(super) fn before(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(age) => now.saturating_sub(age).unwrap_or(Timestamp::MIN),
            Self::At(time) => time,
        }
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text, &Zoned::now()).ok_or_else(|| {
            format!(
                "`{text}` is no moment; write how long ago (`90s`, `10m`, `1h30m`, `2d`) or when (`14:30`, \
                 `2026-05-01`, `2026-05-01T14:30`, `2026-05-01T14:30:00Z`)"
            )
        })
    }
}

/// A time without a zone is one of the machine's, one without a date is of today.
fn read(text: &str, now: &Zoned) -> Option<Moment> {
    if let Some(age) = age(text) {
        return Some(Moment::Ago(age));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(Moment::At(time));
    }
    let zoned =
        |time: civil::DateTime, zone: TimeZone| time.to_zoned(zone).ok().map(|z| Moment::At(z.timestamp()));
    // Digits alone would be read as a date by ISO 8601.
    let has = |sign| text.contains(sign);
    if has(':') && !has('-') {
        let time: civil::Time = text.parse().ok()?;
        return zoned(now.date().to_datetime(time), now.time_zone().clone());
    }
    zoned(has('-').then(|| text.parse::<civil::DateTime>().ok())??, now.time_zone().clone())
}

/// An age: numbers with units, or a number of seconds.
fn age(text: &str) -> Option<SignedDuration> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(SignedDuration::from_secs(seconds.into()));
    }
    let (mut seconds, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let (number, unit) = rest.split_at(digits);
        let unit_end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let factor = match &unit[..unit_end] {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 7 * 86_400,
            _ => return None,
        };
        seconds = seconds.checked_add(number.parse::<i64>().ok()?.checked_mul(factor)?)?;
        rest = &unit[unit_end..];
    }
    // A thousand years is no age of a log.
    (!text.is_empty() && seconds < 1 << 35).then(|| SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Option<Moment> {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now = "2026-05-02T10:00:00Z".parse::<Timestamp>().unwrap().to_zoned(zone);
        read(text, &now)
    }

    fn at(text: &str) -> Option<Moment> {
        Some(Moment::At(text.parse().unwrap()))
    }

    #[test]
    fn ages_are_read_as_people_write_them() {
        let ago = |seconds| Some(Moment::Ago(SignedDuration::from_secs(seconds)));
        assert_eq!(moment("90"), ago(90));
        assert_eq!(moment("5m"), ago(300));
        assert_eq!(moment("1h30m"), ago(5400));
        assert_eq!(moment("1d"), ago(86_400));
        for wrong in ["", "soon", "m", "5x", "99999999999999d", "-5m", "1h30"] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_one_of_the_machines() {
        assert_eq!(moment("2026-05-01T14:30:00Z"), at("2026-05-01T14:30:00Z"));
        assert_eq!(moment("2026-05-01T14:30:00+01:00"), at("2026-05-01T13:30:00Z"));
        assert_eq!(moment("2026-05-01T14:30"), at("2026-05-01T12:30:00Z"));
        assert_eq!(moment("2026-05-01 14:30:05"), at("2026-05-01T12:30:05Z"));
        assert_eq!(moment("2026-05-01"), at("2026-04-30T22:00:00Z"));
        assert_eq!(moment("11:45"), at("2026-05-02T09:45:00Z"));
        assert_eq!(moment("2026-13-01"), None);
        assert_eq!(moment("25:00"), None);
    }

    #[test]
    fn an_age_counts_back_from_now() {
        let now = "2026-05-02T10:00:00Z".parse().unwrap();
        assert_eq!(Moment::from_str("10m").unwrap().before(now), "2026-05-02T09:50:00Z".parse().unwrap());
    }
}
