//! What whoever runs a cloud has set for it: `<home>/config.yaml`, which need not be there.
//!
//! ```yaml
//! container:
//!   backend: docker                       # or oci, which is what it is without this
//!   host: unix:///var/run/docker.sock     # of a Docker engine
//! ```

use std::{fs, io, path::PathBuf};

use serde::Deserialize;
use tandem_container::Backend;
use tandem_model::Explain;

use crate::home::Home;

/// The settings of a cloud. A new cloud has those of `default`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub backend: Backend,
}

/// A file of settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{place}: {reason}")]
    Invalid { place: String, reason: String },
}

impl Explain for SettingsError {
    fn code(&self) -> &'static str {
        "E0423"
    }

    fn help(&self) -> String {
        match self {
            Self::Read { .. } => "see that it is a text file, and may be read".into(),
            Self::Invalid { .. } => {
                "it may have `container`, with `backend: oci`, or with `backend: docker` and `host: \
                                     unix:///var/run/docker.sock`"
                    .into()
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    container: Container,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Container {
    #[serde(default)]
    backend: Name,
    host: Option<String>,
}

#[derive(Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Name {
    #[default]
    Oci,
    Docker,
}

impl Settings {
    /// # Errors
    /// [`SettingsError`] names the place in the file.
    pub fn read(home: &Home) -> Result<Self, SettingsError> {
        let path = home.settings();
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path, source }),
        }
    }

    fn parse(text: &str, file: &str) -> Result<Self, SettingsError> {
        let document: Option<Document> = serde_yaml_ng::from_str(text).map_err(|error| {
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or(&message).to_owned();
            let place = match error.location() {
                Some(at) => format!("{file}:{}:{}", at.line(), at.column()),
                None => file.to_owned(),
            };
            SettingsError::Invalid { place, reason }
        })?;
        let container = document.unwrap_or_default().container;
        let invalid = |reason: &str| {
            let line = text.lines().position(|line| line.trim_start().starts_with("host"));
            let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{}", line + 1));
            Err(SettingsError::Invalid { place, reason: reason.to_owned() })
        };
        let backend = match (container.backend, container.host) {
            (Name::Oci, None) => Backend::Oci,
            (Name::Docker, None) => Backend::docker(),
            (Name::Docker, Some(host)) if host.starts_with("unix:///") => Backend::Docker { host },
            (Name::Docker, Some(_)) => {
                return invalid("`host` is not the socket of an engine on this machine, `unix:///…`");
            }
            (Name::Oci, Some(_)) => return invalid("`host` means something for the backend `docker` only"),
        };
        Ok(Self { backend })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Backend, String> {
        Settings::parse(text, "config.yaml").map(|all| all.backend).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_the_backend_without_a_daemon() {
        for text in ["", "# nothing\n", "container:\n  backend: oci\n", "container: {}\n"] {
            assert_eq!(parsed(text), Ok(Backend::Oci), "{text}");
        }
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Settings::read(&Home::new(home.path())).unwrap(), Settings::default());
    }

    #[test]
    fn an_engine_is_where_it_is_said_to_be() {
        assert_eq!(parsed("container:\n  backend: docker\n"), Ok(Backend::docker()));
        let host = "unix:///run/user/0/docker.sock".to_owned();
        let text = format!("container:\n  backend: docker\n  host: {host}\n");
        assert_eq!(parsed(&text), Ok(Backend::Docker { host }));
    }

    #[test]
    fn what_is_not_known_is_refused_with_its_place() {
        for (text, said) in [
            ("contaner: {}\n", "config.yaml:1:1: unknown field `contaner`, expected `container`"),
            (
                "container:\n  backend: podman\n",
                "config.yaml:2:12: container.backend: unknown variant `podman`",
            ),
            ("container:\n  socket: x\n", "config.yaml:2:3: container: unknown field `socket`"),
            (
                "container:\n  backend: docker\n  host: tcp://far:2375\n",
                "config.yaml:3: `host` is not the socket",
            ),
            ("container:\n  host: unix:///x\n", "config.yaml:2: `host` means something"),
            ("container: \"\n", "config.yaml:"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
