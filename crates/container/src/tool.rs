//! Other people's programs: finding them, running them, and saying what they said.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use tokio::process::Command;

use crate::ContainerError;

/// Where distributions put what is not on every user's path.
const FURTHER_FOLDERS: [&str; 5] =
    ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/libexec/podman", "/usr/lib/podman"];

/// Finds a program on the path, or where distributions keep programs of this kind.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).is_file().then(|| program.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(FURTHER_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// As [`find`], and says which package has it.
pub(crate) fn require(program: &str, package: &'static str) -> Result<PathBuf, ContainerError> {
    find(program).ok_or_else(|| ContainerError::NotInstalled { program: program.to_owned(), package })
}

/// Finds an OCI runtime: the one asked for, or the first of `crun` and `runc` that works here.
pub(crate) fn oci_runtime(wanted: Option<&str>) -> Result<PathBuf, ContainerError> {
    match wanted {
        Some("crun") => require("crun", "crun"),
        Some(name) => require(name, "runc"),
        None => match find("crun") {
            Some(crun) if crun_works() => Ok(crun),
            _ => require("runc", "runc"),
        },
    }
}

/// `crun` refuses machines that have both versions of control groups mounted side by side ("hybrid").
fn crun_works() -> bool {
    let root = Path::new("/sys/fs/cgroup");
    let unified = statfs(root).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC);
    unified || !root.join("unified").exists()
}

/// Runs a program to its end and returns what it printed.
pub(crate) async fn output(tool: &'static str, command: &mut Command) -> Result<String, ContainerError> {
    let done = command
        .stdin(Stdio::null())
        // A Ctrl-C in the terminal of `tandem serve` is the cloud's to handle: it must not pass for the tool's failure.
        .process_group(0)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| ContainerError::Tool { tool, reason: error.to_string() })?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = words(&String::from_utf8_lossy(&done.stderr));
    let reason = if said.is_empty() { done.status.to_string() } else { said };
    Err(ContainerError::Tool { tool, reason })
}

/// The words of a message without what programs wrap around them: log prefixes, quoting, the name of the step that
/// failed, empty lines.
pub(crate) fn words(message: &str) -> String {
    message.lines().map(line_words).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn line_words(line: &str) -> String {
    let mut text = line.trim().to_owned();
    // logrus: time="…" level=error msg="…"
    if let Some((_, message)) = text.split_once("msg=\"") {
        text = message.trim_end_matches('"').replace("\\\"", "\"").replace("\\n", " ");
    }
    let mut rest = text.as_str();
    const WRAPPING: [&str; 6] = [
        "Error: ",
        "runc create failed: ",
        "runc run failed: ",
        "container_linux.go:",
        "unable to start container process: ",
        "OCI runtime error: ",
    ];
    while let Some(shorter) = WRAPPING.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter.trim_start();
    }
    rest.trim().to_owned()
}

/// Work on another thread that panicked or was dropped with its reactor.
pub(crate) fn broken(error: tokio::task::JoinError) -> ContainerError {
    ContainerError::Tool { tool: "file work", reason: error.to_string() }
}

/// Containers need root: mounts, control groups, and the image's own user ids.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtimes_words_are_freed_of_their_wrapping() {
        assert_eq!(
            words(
                "time=\"2024-01-01T00:00:00Z\" level=error msg=\"runc create failed: unable to start container \
                 process: exec: \\\"/nope\\\": stat /nope: no such file or directory\"\n"
            ),
            "exec: \"/nope\": stat /nope: no such file or directory"
        );
        assert_eq!(words("Error: image not known\n\n"), "image not known");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = require("no-such-program-anywhere", "a-package").unwrap_err();
        assert!(matches!(error, ContainerError::NotInstalled { package: "a-package", .. }), "{error:?}");
    }
}
