//! Which OCI runtime and monitor there are. Looked for once, at first use.

use std::{path::PathBuf, sync::OnceLock};

use tokio::process::Command;

use crate::{ContainerError, layout::Layout, tool};

/// The programs, once they were looked for. A program that was missing is looked for again next time.
#[derive(Debug, Default)]
pub(super) struct Programs(OnceLock<Found>);

/// Where the programs are.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) runtime: PathBuf,
    pub(super) monitor: PathBuf,
}

impl Programs {
    pub(super) fn find(&self, wanted: Option<&str>) -> Result<&Found, ContainerError> {
        if let Some(found) = self.0.get() {
            return Ok(found);
        }
        let found =
            Found { runtime: tool::oci_runtime(wanted)?, monitor: tool::require("conmon", "conmon")? };
        Ok(self.0.get_or_init(|| found))
    }
}

impl Found {
    /// The runtime with its state in our folder, and an environment of its own.
    pub(super) fn runtime_command(&self, layout: &Layout) -> Command {
        let mut command = Command::new(&self.runtime);
        command.env_clear().env("PATH", PATH).arg("--root").arg(layout.runtime_state());
        command
    }
}

/// What runtimes and monitors may look for: `newuidmap`, `criu`. Our own environment is nobody's business.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a runtime's refusal means that it knows no such container. `runc` and `crun` have no exit code for it.
pub(super) fn says_it_is_unknown(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["does not exist", "no such file or directory"].iter().any(|phrase| reason.contains(phrase))
}

/// Whether a runtime's refusal to signal means that there is no process any more.
pub(super) fn says_it_is_gone(reason: &str) -> bool {
    let lower = reason.to_lowercase();
    let ended =
        ["not running", "no such process", "already finished"].iter().any(|phrase| lower.contains(phrase));
    ended || says_it_is_unknown(reason)
}
