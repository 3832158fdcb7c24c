//! The connection to the engine: where it listens, which version of its API it speaks, and what its errors mean to us.

use std::{path::PathBuf, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker as Client, errors::Error};
use tokio::sync::OnceCell;

use crate::{ContainerError, tool};

/// Where engines listen.
pub(crate) const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// How long the engine may take to begin with an answer. A pull or a build begins late.
const PATIENCE: Duration = Duration::from_secs(600);

/// An engine that is asked when it is needed first.
#[derive(Debug)]
pub(super) struct Engine {
    host: String,
    client: OnceCell<Client>,
}

impl Engine {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned(), client: OnceCell::new() }
    }

    /// The client, in the version of the API that both speak.
    ///
    /// # Errors
    /// [`ContainerError::NoEngine`] if it does not answer, [`ContainerError::EngineStore`] if it names images otherwise
    /// than we do.
    pub(super) async fn client(&self) -> Result<&Client, ContainerError> {
        self.client.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Client, ContainerError> {
        let socket = PathBuf::from(self.host.trim_start_matches("unix://"));
        let client =
            Client::connect_with_unix(&socket.to_string_lossy(), PATIENCE.as_secs(), API_DEFAULT_VERSION)
                .map_err(|error| self.failed(error))?;
        let client = client.negotiate_version().await.map_err(|error| self.failed(error))?;
        let info = client.info().await.map_err(|error| self.failed(error))?;
        // There an image's id is the digest of its manifest, and not of its configuration.
        let by_containerd = info
            .driver_status
            .iter()
            .flatten()
            .flatten()
            .any(|word| word.contains("io.containerd.snapshotter"));
        match by_containerd {
            true => Err(ContainerError::EngineStore { host: self.host.clone() }),
            false => Ok(client),
        }
    }

    /// What the engine said, or that it said nothing.
    pub(super) fn failed(&self, error: Error) -> ContainerError {
        match error {
            Error::DockerResponseServerError { message, .. } => said(&message),
            Error::DockerStreamError { error } => said(&error),
            Error::SocketNotFoundError(_) => self.gone("there is no such socket"),
            Error::HyperLegacyError { err } => self.gone(&chain(&err)),
            Error::HyperResponseError { err } => self.gone(&chain(&err)),
            Error::IOError { err } => self.gone(&err.to_string()),
            Error::RequestTimeoutError => self.gone("it took too long"),
            other => ContainerError::Tool { tool: TOOL, reason: other.to_string() },
        }
    }

    fn gone(&self, reason: &str) -> ContainerError {
        ContainerError::NoEngine { host: self.host.clone(), reason: reason.to_owned() }
    }
}

pub(super) const TOOL: &str = "docker";

/// The engine's own words.
pub(super) fn said(message: &str) -> ContainerError {
    ContainerError::Tool { tool: TOOL, reason: words(message) }
}

/// A message without the names of the engine's parts that handed it on.
pub(super) fn words(message: &str) -> String {
    const WRAPPING: [&str; 8] = [
        "Error response from daemon: ",
        "failed to create shim task: ",
        "failed to create task for container: ",
        "failed to create shim: ",
        "OCI runtime create failed: ",
        "runc create failed: ",
        "container_linux.go:",
        "unable to start container process: ",
    ];
    let mut rest = message.trim().trim_end_matches(": unknown");
    while let Some(shorter) = WRAPPING.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    tool::words(rest)
}

/// The status by which the engine refused, if it answered.
pub(super) fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// An error with its causes: the outermost says only that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use tandem_model::Explain;

    use super::*;

    #[test]
    fn an_engines_words_are_freed_of_their_wrapping() {
        let said = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container \
                    process: exec: \"/nope\": stat /nope: no such file or directory: unknown";
        assert_eq!(words(said), "exec: \"/nope\": stat /nope: no such file or directory");
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_named_with_how_to_start_it() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let absent = Engine::new(&host).client().await.unwrap_err();
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let dead = Engine::new(&host).client().await.unwrap_err();
        for (error, reason) in [(absent, "no such socket"), (dead, "refused")] {
            assert_eq!(error.code(), "E0420");
            assert!(error.to_string().contains(&host), "{error}");
            let report = error.report();
            assert!(report.causes.iter().any(|cause| cause.contains(reason)), "{report:?}");
            assert!(report.help.contains("systemctl start docker"), "{report:?}");
        }
    }
}
