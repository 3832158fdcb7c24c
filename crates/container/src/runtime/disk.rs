//! A disk of its own for what a container writes: a file system of a fixed size in a file that grows as it is written to.
//!
//! Whoever fills it is told by the kernel that it is full, and takes no room from anybody else. It is made and mounted at
//! the start and goes with the container; the kernel's device for it goes when nothing has it mounted any more.
//!
//! Without one a container writes to the disk of the cloud's home, as far as that goes.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tandem_model::ByteSize;

use super::rootfs;
use crate::{ContainerError, layout::at, tool};

const FILE: &str = "disk.img";
const MOUNTED: &str = "disk";

/// Makes the disk of a bundle and answers the folder that it is mounted at.
pub(super) fn make(bundle: &Path, size: ByteSize) -> Result<PathBuf, ContainerError> {
    let (file, folder) = (bundle.join(FILE), bundle.join(MOUNTED));
    File::create(&file).and_then(|file| file.set_len(size.bytes())).map_err(at(&file))?;
    fs::create_dir(&folder).map_err(at(&folder))?;
    // Nobody reads it after a crash, so it needs no journal; tables that are all zeros need not be written either.
    let mut format = Command::new(tool::require("mkfs.ext4", "e2fsprogs")?);
    format
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard"]);
    run("mkfs.ext4", format.arg(&file))?;
    let mut mount = Command::new(tool::require("mount", "mount")?);
    run("mount", mount.args(["-t", "ext4", "-o", "loop,nodev,noatime"]).arg(&file).arg(&folder))?;
    // Else it stands in everybody's root: `ls /`.
    let _ = fs::remove_dir(folder.join("lost+found"));
    Ok(folder)
}

/// Unmounts it if it is there. Idempotent; what is in it goes with the bundle.
pub(super) fn unmount(bundle: &Path) -> Result<(), ContainerError> {
    rootfs::unmount(&bundle.join(MOUNTED))
}

fn run(tool: &'static str, command: &mut Command) -> Result<(), ContainerError> {
    let done = command.stdin(Stdio::null()).output();
    let done = done.map_err(|error| ContainerError::Tool { tool, reason: error.to_string() })?;
    if done.status.success() {
        return Ok(());
    }
    let said = tool::words(&String::from_utf8_lossy(&done.stderr));
    let reason = format!("its disk cannot be made: {tool}: {said}");
    Err(ContainerError::Start { reason })
}
