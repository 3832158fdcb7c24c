//! The programs of a Docker engine, for tests and benchmarks that start one of their own. Unpacked, not installed: an
//! installed one would start by itself, and change the machine's network.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use tandem_own_engine::{NONE, OwnEngine, PROGRAMS};

use crate::{process, setup, tree};

/// Debian's. What else they need is there for the other programs.
const PACKAGES: [&str; 3] = ["docker.io", "containerd", "libdevmapper1.02.1"];

/// Gives a command the engine's programs, or the reason why there are none that run here. That is found out once.
pub(crate) fn offer(command: &mut Command) -> Result<()> {
    match programs() {
        Ok(folder) => command.env(PROGRAMS, folder),
        Err(error) => {
            let reason = format!("{error:#}").replace('\n', " ");
            eprintln!("no Docker engine runs here, so what needs one is SKIPPED: {reason}");
            command.env(NONE, reason)
        }
    };
    Ok(())
}

/// The folder of an engine that was seen running here.
pub(crate) fn programs() -> Result<PathBuf> {
    let folder = tree::target()?.join("docker");
    let marker = folder.join("runs");
    let wanted = PACKAGES.join("\n");
    if tree::marker(&marker) == wanted {
        return Ok(folder);
    }
    anyhow::ensure!(setup::on_path("apt-get"), "there is no apt-get to get {} with", PACKAGES.join(", "));
    anyhow::ensure!(setup::is_root()?, "it needs root");
    process::timed(&format!("unpacking {} into {}", PACKAGES.join(", "), folder.display()), || {
        let packages = folder.with_file_name("docker.packages");
        for folder in [&folder, &packages] {
            let _ = fs::remove_dir_all(folder);
            tree::create_folder(folder)?;
        }
        let mut download = Command::new("apt-get");
        process::output(download.current_dir(&packages).args(["-q", "download"]).args(PACKAGES))?;
        for package in fs::read_dir(&packages).context("what was downloaded cannot be read")? {
            process::output(Command::new("dpkg").arg("-x").arg(package?.path()).arg(&folder))?;
        }
        fs::remove_dir_all(&packages).context("what was downloaded cannot be removed")
    })?;
    drop(OwnEngine::start(&folder)?);
    // Written last: what did not run is tried again.
    tree::write(&marker, &wanted)?;
    Ok(folder)
}
