//! How old something may become.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A bound of an age, as it was written: `"7d"`, `"12h"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxAge {
    text: String,
    duration: Duration,
}

impl MaxAge {
    pub fn duration(&self) -> Duration {
        self.duration
    }
}

const UNITS: [(char, u64); 5] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 604_800)];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an age; write for example `7d`, `12h` or `90m`")]
pub struct AgeError(String);

impl FromStr for MaxAge {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let bad = || AgeError(text.to_owned());
        let trimmed = text.trim();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(unit, seconds)| Some((trimmed.strip_suffix(*unit)?, *seconds)))
            .ok_or_else(bad)?;
        let amount: u64 = digits.trim().parse().map_err(|_| bad())?;
        // A hundred years are enough, and fit into every clock.
        let seconds = amount.checked_mul(unit).filter(|s| (1..=3_155_760_000).contains(s)).ok_or_else(bad)?;
        Ok(Self { text: trimmed.to_owned(), duration: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for MaxAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for MaxAge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for MaxAge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An age in its largest unit: `3 days`, `1 hour`, `20 seconds`. Rounded down.
pub fn told(age: Duration) -> String {
    let seconds = age.as_secs();
    let (amount, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{amount} {unit}{}", if amount == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        let seconds = |text: &str| text.parse::<MaxAge>().map(|age| age.duration().as_secs());
        assert_eq!(seconds("7d"), Ok(604_800));
        assert_eq!(seconds(" 90m "), Ok(5_400));
        for bad in ["7", "d", "-1d", "0s", "1 year", "99999999999999w"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        let age: MaxAge = serde_json::from_str("\"7d\"").unwrap();
        assert_eq!(serde_json::to_string(&age).unwrap(), "\"7d\"");
    }

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let text = |seconds| told(Duration::from_secs(seconds));
        assert_eq!([text(1), text(59), text(3_599)], ["1 second", "59 seconds", "59 minutes"]);
        assert_eq!([text(3_600), text(86_399), text(864_000)], ["1 hour", "23 hours", "10 days"]);
    }
}
