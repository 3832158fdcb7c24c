//! Amounts of bytes, with their unit in the type.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of bytes. Reads `512` (MiB, as `@pulumi/cloud` has it in JSON numbers), `"1GiB"`, `"64MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub const fn mebibytes(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write for example `512MiB` or `1GiB`")]
pub struct SizeError(String);

impl FromStr for ByteSize {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bad = || SizeError(text.to_owned());
        let trimmed = text.trim();
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((trimmed.strip_suffix(name)?, *unit)))
            .unwrap_or((trimmed.strip_suffix('B').unwrap_or(trimmed), 1));
        let amount: u64 = digits.trim().parse().map_err(|_| bad())?;
        amount.checked_mul(unit).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            n if n >= 1 << 30 => format!("{:.1} GiB", n as f64 / (1u64 << 30) as f64),
            n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / (1u64 << 20) as f64),
            n if n >= 1 << 10 => format!("{:.1} KiB", n as f64 / (1u64 << 10) as f64),
            n => format!("{n} B"),
        };
        f.pad(&text.replace(".0 ", " "))
    }
}

impl Serialize for ByteSize {
    /// Writes MiB as a number where that is exact, else bytes as text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 % (1 << 20) {
            0 => serializer.serialize_u64(self.0 >> 20),
            _ => serializer.serialize_str(&format!("{}B", self.0)),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Mebibytes(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Mebibytes(n) => n
                .checked_mul(1 << 20)
                .map(Self)
                .ok_or_else(|| de::Error::custom(SizeError(format!("{n} MiB")))),
            Raw::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!("512MiB".parse(), Ok(ByteSize::mebibytes(512)));
        assert_eq!("1 GB".parse(), Ok(ByteSize(1_000_000_000)));
        assert_eq!("17B".parse(), Ok(ByteSize(17)));
        assert_eq!(serde_json::from_str::<ByteSize>("512").unwrap(), ByteSize::mebibytes(512));
        assert_eq!(ByteSize::mebibytes(1536).to_string(), "1.5 GiB");
        assert!("lots".parse::<ByteSize>().is_err());
        assert!("99999999999999999999GiB".parse::<ByteSize>().is_err());
    }
}
