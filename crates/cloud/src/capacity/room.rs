//! What is set aside, and what a machine has.

use std::fmt;

use serde::{Deserialize, Serialize};
use tandem_model::ByteSize;

/// What a run or a replica sets aside, or what a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    #[serde(rename = "memoryBytes", with = "in_bytes")]
    pub memory: ByteSize,
    /// In thousandths of a core; 0 sets none aside.
    pub millicores: u64,
}

impl Room {
    /// `cpu`: in cores.
    pub fn of(memory: ByteSize, cpu: Option<f64>) -> Self {
        Self { memory, millicores: cpu.map_or(0, |cores| (cores * 1000.0).ceil() as u64) }
    }

    pub fn plus(self, other: Self) -> Self {
        let memory = ByteSize(self.memory.0.saturating_add(other.memory.0));
        Self { memory, millicores: self.millicores.saturating_add(other.millicores) }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        let memory = ByteSize(self.memory.0.saturating_sub(other.memory.0));
        Self { memory, millicores: self.millicores.saturating_sub(other.millicores) }
    }

    /// So many of it.
    pub fn times(self, count: u32) -> Self {
        let count = u64::from(count);
        let memory = ByteSize(self.memory.0.saturating_mul(count));
        Self { memory, millicores: self.millicores.saturating_mul(count) }
    }

    /// How many of that fit into it.
    pub fn holds(self, one: Self) -> u64 {
        let of = |all: u64, one: u64| all.checked_div(one).unwrap_or(u64::MAX);
        of(self.memory.0, one.memory.0).min(of(self.millicores, one.millicores))
    }

    /// Whether it is no more than that, in every respect.
    pub fn fits(self, into: Self) -> bool {
        self.memory <= into.memory && self.millicores <= into.millicores
    }
}

/// As programs want to calculate with it: a `ByteSize` of its own is MiB, or a text.
mod in_bytes {
    use serde::{Deserialize, Deserializer, Serializer};
    use tandem_model::ByteSize;

    pub(super) fn serialize<S: Serializer>(size: &ByteSize, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(size.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ByteSize, D::Error> {
        u64::deserialize(from).map(ByteSize)
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.memory)?;
        match self.millicores {
            0 => Ok(()),
            n => write!(f, " and {} cores", n as f64 / 1000.0),
        }
    }
}
