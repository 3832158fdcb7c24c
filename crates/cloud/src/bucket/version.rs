//! Names and order of an object's versions.
//!
//! A version's place among those of its key is its [`Sequence`], which is also its id for clients. What is written while
//! a bucket is not versioned, or no longer, is the version `null`, of which a key has at most one; it has its place too.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::{error::BucketError, settings::Setting};

/// Where a version stands among those of its key: a newer one has the larger.
///
/// Written as 32 hexadecimal digits of its complement, so that rows of newer versions come first, as S3 lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u128);

/// How many characters a written sequence has.
pub(super) const SEQUENCE_LENGTH: usize = 32;
/// A sequence begins with milliseconds since the epoch, as a UUID of version 7 does, and 80 more bits.
const BELOW_MILLISECONDS: u32 = 80;

impl Sequence {
    /// One for a version that is made now, newer than `newest` also if the clock was set back.
    pub(super) fn after(newest: Option<Self>) -> Self {
        let now = Self(Uuid::now_v7().as_u128());
        newest.map_or(now, |newest| now.max(Self(newest.0 + 1)))
    }

    /// That of an object that was written without one.
    pub(super) fn of(modified: Timestamp) -> Self {
        let milliseconds = u128::try_from(modified.as_millisecond()).unwrap_or(0);
        Self(milliseconds << BELOW_MILLISECONDS)
    }

    /// When the version was made, to the millisecond.
    pub fn time(self) -> Timestamp {
        let milliseconds = i64::try_from(self.0 >> BELOW_MILLISECONDS).unwrap_or(i64::MAX);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", !self.0)
    }
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequence({self})")
    }
}

impl FromStr for Sequence {
    type Err = BucketError;

    fn from_str(text: &str) -> Result<Self, BucketError> {
        let digits = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let parsed = (digits && text.len() == SEQUENCE_LENGTH).then(|| u128::from_str_radix(text, 16));
        match parsed {
            Some(Ok(complement)) => Ok(Self(!complement)),
            _ => Err(BucketError::VersionId { given: text.to_owned() }),
        }
    }
}

impl Serialize for Sequence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(|_| de::Error::custom("not a version's sequence"))
    }
}

/// What a version's record says of its place. Records of buckets that were never versioned have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    pub sequence: Sequence,
    /// It was written while versioning was suspended: clients know it as `null`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub null: bool,
}

/// What clients call a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionId {
    Null,
    Made(Sequence),
}

impl VersionId {
    pub(super) fn of(stamp: Option<Stamp>) -> Self {
        match stamp {
            Some(Stamp { sequence, null: false }) => Self::Made(sequence),
            _ => Self::Null,
        }
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Made(sequence) => sequence.fmt(f),
        }
    }
}

impl FromStr for VersionId {
    type Err = BucketError;

    fn from_str(text: &str) -> Result<Self, BucketError> {
        if text == "null" { Ok(Self::Null) } else { text.parse().map(Self::Made) }
    }
}

/// What a bucket does with an object that is replaced or deleted. Once versioned, it is never [`Versioning::Never`] again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Versioning {
    /// It goes.
    #[default]
    Never,
    /// It stays as a version.
    Enabled,
    /// Versions stay, and what is written is the version `null`, which replaces the last one of that name.
    Suspended,
}

impl Setting for Versioning {
    const NAME: &'static str = "versioning";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_versions_are_written_smaller_and_read_back() {
        let one = Sequence::after(None);
        let two = Sequence::after(Some(one));
        assert!(two > one && two.to_string() < one.to_string());
        assert_eq!(one.to_string().parse::<Sequence>().unwrap(), one);
        assert_eq!("null".parse::<VersionId>().unwrap(), VersionId::Null);
        for wrong in ["", "3", "NULL", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert!(matches!(wrong.parse::<VersionId>(), Err(BucketError::VersionId { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_reorder_versions() {
        let future = Sequence(u128::from(u64::MAX) << 60);
        assert!(Sequence::after(Some(future)) > future);
    }

    #[test]
    fn an_object_of_before_versioning_is_older_than_a_version_of_the_same_millisecond() {
        let now = Timestamp::now();
        assert!(Sequence::of(now) < Sequence::after(Some(Sequence::of(now))));
        assert_eq!(Sequence::of(now).time().as_millisecond(), now.as_millisecond());
    }
}
