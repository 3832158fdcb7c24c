//! The files that tell Buildah how to behave here, whatever this machine's own say.
//!
//! Short names mean Docker's registry; nothing is asked on a terminal; no limit is raised above what we have ourselves.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::process::Command;

use crate::{
    ContainerError,
    layout::{Layout, at},
    tool,
};

const REGISTRIES: &str =
    "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n";
const POLICY: &str = "{ \"default\": [{ \"type\": \"insecureAcceptAnything\" }] }\n";
const CONTAINERS: &str = "[containers]\ndefault_ulimits = []\n\n[engine]\ncgroup_manager = \"cgroupfs\"\n";
/// The driver is given on each command line; without one here too, Buildah warns each time.
const STORAGE: &str = "[storage]\ndriver = \"overlay\"\n";

/// Buildah calls this as its OCI runtime for each step. It adds [`super::host`]'s variables to the step, which is the
/// only way that leaves no trace in the image, and keeps the runtime's state in our folder.
const STEP_RUNTIME: &str = r#"#!/bin/sh
# The OCI runtime of a build's steps: adds the build's variables to the step, then is the runtime itself.
for argument in "$@"; do
    if [ "$before" = --bundle ] && [ -f "$argument/config.json" ]; then
        sed -i -f "${0%/*}/step.sed" "$argument/config.json" || exit 1
    fi
    before=$argument
done
exec "@RUNTIME@" --root "@STATE@" "$@"
"#;

/// Writes what does not depend on a build.
pub(super) fn write(layout: &Layout) -> Result<(), ContainerError> {
    let folder = layout.settings();
    for one in
        [&folder, &folder.join("registries.d"), &layout.scratch(), &layout.storage(), &layout.storage_run()]
    {
        fs::create_dir_all(one).map_err(at(one))?;
    }
    replace(&folder.join("registries.conf"), REGISTRIES)?;
    replace(&folder.join("policy.json"), POLICY)?;
    replace(&folder.join("containers.conf"), CONTAINERS)?;
    replace(&folder.join("storage.conf"), STORAGE)
}

/// Writes the runtime of steps, and the change it makes to each, into this folder. Returns the runtime's path.
pub(super) fn write_step_runtime(
    layout: &Layout,
    folder: &Path,
    change: &str,
) -> Result<PathBuf, ContainerError> {
    replace(&folder.join("step.sed"), change)?;
    let runtime = tool::oci_runtime(None)?;
    let script = STEP_RUNTIME
        .replace("@RUNTIME@", &runtime.to_string_lossy())
        .replace("@STATE@", &build_state(layout).to_string_lossy());
    let path = folder.join("step-runtime");
    replace(&path, &script)?;
    Ok(path)
}

/// Where the OCI runtime of builds keeps its state.
pub(super) fn build_state(layout: &Layout) -> PathBuf {
    layout.root().join("build-state")
}

/// Writes a file whole, or leaves it if it says the same already: a build may be reading it.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), ContainerError> {
    if fs::read_to_string(path).is_ok_and(|now| now == text) {
        return Ok(());
    }
    // Of its own: two builds that begin at once write the same.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{next}.new", std::process::id()));
    let write = || {
        fs::write(&unfinished, text)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755))?;
        fs::rename(&unfinished, path)
    };
    write().map_err(at(path))
}

/// Makes a command use these files.
pub(super) fn apply(command: &mut Command, layout: &Layout) {
    let folder = layout.settings();
    command
        .env("CONTAINERS_CONF", folder.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"))
        .arg("--registries-conf")
        .arg(folder.join("registries.conf"))
        .arg("--registries-conf-dir")
        .arg(folder.join("registries.d"))
        .arg("--short-name-alias-conf")
        .arg(folder.join("short-names.conf"));
}

/// Lets a subcommand that pulls or builds take unsigned images, as Docker does.
pub(super) fn allow(command: &mut Command, layout: &Layout) {
    command.arg("--signature-policy").arg(layout.settings().join("policy.json"));
}
