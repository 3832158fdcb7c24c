//! The steps that turn the recorded state into the desired one.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    resource::{PhysicalId, Properties},
    urn::Urn,
};

/// What happens to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Create,
    Update,
    /// A new one is created, and the old one is deleted when nothing uses it any more.
    Replace,
    Delete,
    Same,
}

impl Op {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Same => "same",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A property that differs, and whether that alone forces a replacement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PropertyChange {
    /// Path inside the inputs: `environment.LEVEL`.
    pub property: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    #[serde(default)]
    pub replaces: bool,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub op: Op,
    pub urn: Urn,
    /// What causes an update or a replacement; empty otherwise.
    #[serde(default)]
    pub changes: Vec<PropertyChange>,
}

/// What a target is asked to make true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "change")]
pub enum Change {
    Create {
        urn: Urn,
        inputs: Properties,
    },
    Update {
        urn: Urn,
        id: PhysicalId,
        old: Properties,
        new: Properties,
    },
    /// `force` deletes a data resource with what is in it.
    Delete {
        urn: Urn,
        id: PhysicalId,
        force: bool,
    },
}

impl Change {
    pub fn urn(&self) -> &Urn {
        match self {
            Self::Create { urn, .. } | Self::Update { urn, .. } | Self::Delete { urn, .. } => urn,
        }
    }
}

/// What a target answered to a create or an update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Applied {
    pub id: PhysicalId,
    pub outputs: Properties,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ops_are_padded_in_columns() {
        assert_eq!(format!("{:>8}", Op::Same), "    same");
    }
}
