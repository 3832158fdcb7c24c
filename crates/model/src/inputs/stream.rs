//! What a program says of a stream, and where a subscription to one begins.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stream {
    /// Pins the stream's name; otherwise it is derived from the resource's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_name: Option<String>,
    /// Into how many parts its keys are divided. Another number makes another stream.
    #[serde(default = "Stream::default_shards")]
    pub shards: u32,
    /// How long a record is kept, in hours. `None`: 24, or what a client set over the wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<u32>,
    /// Lets `destroy` delete it with its records.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force_destroy: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self { stream_name: None, shards: 1, retention: None, force_destroy: false }
    }
}

impl Stream {
    pub const SHARDS: RangeInclusive<u32> = 1..=256;
    /// Up to a year. Source: Amazon Kinesis Data Streams, IncreaseStreamRetentionPeriod; it begins at 24 there.
    pub const RETENTION: RangeInclusive<u32> = 1..=8760;
    /// The most records of a batch. Source: AWS Lambda, `BatchSize` of an event source mapping.
    pub const BATCH: u32 = 10_000;
    /// Source: AWS Lambda, `ParallelizationFactor`.
    pub const PARALLELISM: u32 = 10;

    fn default_shards() -> u32 {
        1
    }

    /// What is wrong with it, by the name of the property.
    ///
    /// # Errors
    /// For people.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, range) in
            [("shards", Some(self.shards), Self::SHARDS), ("retention", self.retention, Self::RETENTION)]
        {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                return Err(format!("`{name}` is {} to {}, not {value}", range.start(), range.end()));
            }
        }
        match self.stream_name.as_deref() {
            Some(name) => {
                Self::check_name(name).map_err(|wrong| format!("`streamName` cannot be {name:?}: {wrong}"))
            }
            None => Ok(()),
        }
    }

    /// Whether a stream can have the name. Source: Amazon Kinesis Data Streams, CreateStream.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_name(name: &str) -> Result<(), &'static str> {
        if name.is_empty() || name.len() > 128 {
            return Err("it has 1 to 128 characters");
        }
        match name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
            true => Ok(()),
            false => Err("it has other characters than letters, digits, `-`, `_` and `.`"),
        }
    }
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartingPosition {
    /// The oldest record that is kept.
    #[default]
    TrimHorizon,
    /// What comes from now on.
    Latest,
    /// The first record that came then or later.
    At(Timestamp),
}

impl Serialize for StartingPosition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::TrimHorizon => serializer.serialize_str("trimHorizon"),
            Self::Latest => serializer.serialize_str("latest"),
            Self::At(time) => time.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for StartingPosition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "trimHorizon" => Ok(Self::TrimHorizon),
            "latest" => Ok(Self::Latest),
            time => time.parse().map(Self::At).map_err(|_| {
                D::Error::custom(format!(
                    "a position is \"trimHorizon\", \"latest\" or a time (RFC 3339), not {time:?}"
                ))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_is_told_before_anything_is_made() {
        let named = |name: &str| Stream { stream_name: Some(name.to_owned()), ..Stream::default() };
        for stream in [
            named(""),
            named("a b"),
            named(&"x".repeat(129)),
            Stream { shards: 0, ..Stream::default() },
            Stream { shards: 257, ..Stream::default() },
            Stream { retention: Some(0), ..Stream::default() },
            Stream { retention: Some(8761), ..Stream::default() },
        ] {
            assert!(stream.check().is_err(), "{stream:?}");
        }
        for stream in [named("a-b_C.9"), Stream { shards: 256, retention: Some(1), ..Stream::default() }] {
            assert_eq!(stream.check(), Ok(()));
        }
    }

    #[test]
    fn a_position_is_one_of_two_words_or_a_time() {
        let read = |text: &str| serde_json::from_value::<StartingPosition>(json!(text));
        assert_eq!(read("latest").unwrap(), StartingPosition::Latest);
        assert_eq!(read("trimHorizon").unwrap(), StartingPosition::TrimHorizon);
        let time = read("2026-11-26T08:00:00Z").unwrap();
        assert_eq!(json!(time), json!("2026-11-26T08:00:00Z"));
        assert!(read("LATEST").unwrap_err().to_string().contains("\"LATEST\""));
    }
}
