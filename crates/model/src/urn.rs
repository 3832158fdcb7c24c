//! The stable name of a resource: `project/stack/kind/name`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    name::{NameError, ProjectName, ResourceName, StackName},
    resource::Kind,
};

/// One deployment of one project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StackId {
    pub project: ProjectName,
    pub stack: StackName,
}

impl fmt::Display for StackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.stack)
    }
}

impl FromStr for StackId {
    type Err = UrnError;
    fn from_str(s: &str) -> Result<Self, UrnError> {
        let (project, stack) = s.split_once('/').ok_or_else(|| UrnError::Shape { urn: s.to_owned() })?;
        Ok(Self { project: project.parse()?, stack: stack.parse()? })
    }
}

/// The stable name of a resource in a stack. It outlives replacements; a [`PhysicalId`](crate::PhysicalId) does not.
///
/// Written `urn:tandem:<project>:<stack>:<kind>:<name>`; no part can contain a colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Urn {
    pub stack: StackId,
    pub kind: Kind,
    pub name: ResourceName,
}

impl Urn {
    pub fn new(stack: StackId, kind: Kind, name: ResourceName) -> Self {
        Self { stack, kind, name }
    }

    /// How a person sees it inside one stack: `bucket/photos`.
    pub fn short(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrnError {
    #[error("`{urn}` is not a urn of the form urn:tandem:<project>:<stack>:<kind>:<name>")]
    Shape { urn: String },
    #[error("`{kind}` is not a kind of resource")]
    Kind { kind: String },
    #[error(transparent)]
    Name(#[from] NameError),
}

impl fmt::Display for Urn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StackId { project, stack } = &self.stack;
        write!(f, "urn:tandem:{project}:{stack}:{}:{}", self.kind, self.name)
    }
}

impl FromStr for Urn {
    type Err = UrnError;
    fn from_str(s: &str) -> Result<Self, UrnError> {
        let shape = || UrnError::Shape { urn: s.to_owned() };
        let rest = s.strip_prefix("urn:tandem:").ok_or_else(shape)?;
        let [project, stack, kind, name] = rest.split(':').collect::<Vec<_>>()[..] else {
            return Err(shape());
        };
        let kind = Kind::from_str(kind).map_err(|()| UrnError::Kind { kind: kind.to_owned() })?;
        let stack = StackId { project: project.parse()?, stack: stack.parse()? };
        Ok(Self { stack, kind, name: name.parse()? })
    }
}

impl TryFrom<String> for Urn {
    type Error = UrnError;
    fn try_from(s: String) -> Result<Self, UrnError> {
        s.parse()
    }
}

impl From<Urn> for String {
    fn from(urn: Urn) -> String {
        urn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_urn_survives_writing_and_reading() {
        let text = "urn:tandem:shop:dev:bucket:photos";
        let urn: Urn = text.parse().unwrap();
        assert_eq!(urn.to_string(), text);
        assert_eq!(urn.short(), "bucket/photos");
        assert!("urn:tandem:shop:dev:bucket".parse::<Urn>().is_err());
        assert!("urn:tandem:shop:dev:teapot:x".parse::<Urn>().is_err());
    }
}
