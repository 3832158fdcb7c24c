//! A resource: what a program asks for, and what a target made of it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::urn::Urn;

/// The kinds of resource. A kind's inputs are typed in [`crate::inputs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Bucket,
    Queue,
    Stream,
    Volume,
    Function,
    Task,
    Service,
    Topic,
    Timer,
    Workflow,
    Entity,
    Subscription,
}

impl Kind {
    pub const ALL: [Self; 12] = [
        Self::Bucket,
        Self::Queue,
        Self::Stream,
        Self::Volume,
        Self::Function,
        Self::Task,
        Self::Service,
        Self::Topic,
        Self::Timer,
        Self::Workflow,
        Self::Entity,
        Self::Subscription,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "bucket",
            Self::Queue => "queue",
            Self::Stream => "stream",
            Self::Volume => "volume",
            Self::Function => "function",
            Self::Task => "task",
            Self::Service => "service",
            Self::Topic => "topic",
            Self::Timer => "timer",
            Self::Workflow => "workflow",
            Self::Entity => "entity",
            Self::Subscription => "subscription",
        }
    }

    /// Whether it holds a user's data, so that it is deleted only when empty or forced.
    pub fn holds_data(self) -> bool {
        matches!(self, Self::Bucket | Self::Queue | Self::Stream | Self::Volume | Self::Entity)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == s).ok_or(())
    }
}

/// The properties of a resource, as JSON. May contain the markers of [`crate::value`].
pub type Properties = Map<String, Value>;

/// The name a target gave a resource: a bucket's name, a function's name. Unique per kind in one cloud.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PhysicalId(pub String);

impl fmt::Display for PhysicalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// One intended change, named before it is tried. A target that sees an id again answers what it answered first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub String);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What the program asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    pub urn: Urn,
    pub inputs: Properties,
    /// The resources that must exist first: those whose outputs the inputs use, and those named explicitly.
    #[serde(default)]
    pub depends_on: Vec<Urn>,
    /// Where in the program it was declared: `index.js:12:18`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_at: Option<String>,
}

/// What the engine remembers of a resource that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    pub urn: Urn,
    pub id: PhysicalId,
    pub inputs: Properties,
    pub outputs: Properties,
    #[serde(default)]
    pub depends_on: Vec<Urn>,
}
