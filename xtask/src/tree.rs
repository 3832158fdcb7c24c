//! Where things are: the workspace and its target folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::process;

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo sets it for `cargo run`; a copied or moved xtask binary must not remember the folder it was built in.
    if let Ok(package) = env::var("CARGO_MANIFEST_DIR")
        && let Some(root) = Path::new(&package).parent()
    {
        return Ok(root.to_owned());
    }
    let mut locate = Command::new(cargo());
    locate.args(["locate-project", "--workspace", "--message-format", "plain"]);
    let manifest = process::output(&mut locate)?;
    let root = Path::new(manifest.trim()).parent().context("Cargo.toml has no folder")?;
    Ok(root.to_owned())
}

/// The folder for all that is built or cached. Removing it loses time only.
pub(crate) fn target() -> Result<PathBuf> {
    let root = root()?;
    Ok(env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder)))
}

pub(crate) fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Every file that git knows or would add, relative to the workspace, with `/`.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let mut list = Command::new("git");
    list.current_dir(root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let names = process::output(&mut list)?;
    let mut files: Vec<String> =
        names.lines().filter(|name| root.join(name).is_file()).map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Reads a text file, naming it when that fails.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Writes a file, naming it when that fails.
pub(crate) fn write(path: &Path, content: &str) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write `{}`", path.display()))
}

pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot create `{}`", path.display()))
}

/// The contents of an existing small marker file, or nothing.
pub(crate) fn marker(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
