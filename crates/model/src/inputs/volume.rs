//! The inputs of a volume, and how containers see folders.

use serde::{Deserialize, Serialize};

/// A folder that containers share, and that stays when they go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Lets `destroy` delete it with its files.
    #[serde(default)]
    pub force_destroy: bool,
}

/// A folder that a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "Written", into = "Written")]
pub struct Mount {
    /// Where the container sees it.
    pub container_path: String,
    pub source: Source,
    pub read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// By physical id.
    Volume(String),
    /// A folder of the machine.
    HostPath(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    container_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_path: Option<String>,
    #[serde(default)]
    read_only: bool,
}

impl TryFrom<Written> for Mount {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { container_path, volume, host_path, read_only } = written;
        let source = match (volume, host_path) {
            (Some(id), None) => Source::Volume(id),
            (None, Some(path)) => Source::HostPath(path),
            _ => return Err(format!("exactly one of `volume` and `hostPath` belongs at `{container_path}`")),
        };
        Ok(Self { container_path, source, read_only })
    }
}

impl From<Mount> for Written {
    fn from(Mount { container_path, source, read_only }: Mount) -> Self {
        let (volume, host_path) = match source {
            Source::Volume(id) => (Some(id), None),
            Source::HostPath(path) => (None, Some(path)),
        };
        Self { container_path, volume, host_path, read_only }
    }
}
