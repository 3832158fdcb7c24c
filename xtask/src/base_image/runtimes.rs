//! An image with Python and Node, which stands for the images that folders without a Dockerfile are built on.
//!
//! It is made of the files of this machine's own packages, with BusyBox for the rest: a second, where installing them anew
//! takes twenty. See docs/decisions/0143-built-by-convention.md.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{busybox_tree, folder, pack};
use crate::{process, tree};

/// What is in it, with all that these depend on.
const ROOTS: [&str; 2] = ["python3-venv", "nodejs"];
/// What packages are installed and set up with.
const NOT_NEEDED: [&str; 3] = ["debconf", "dpkg", "tar"];
const NPM: &str = "/usr/lib/node_modules/npm";
/// Debian's Node comes without it, others' with it.
const IF_INSTALLED: &str = "npm";
const LEFT_OUT: [&str; 6] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/share/zoneinfo/",
    "/usr/share/perl",
    "/usr/include/",
];

/// The tar of the image, made unless it is there and of the packages that are installed now.
pub(crate) fn make() -> Result<PathBuf> {
    let folder = folder()?;
    let file = folder.join("runtimes.tar");
    let packages = closure()?;
    let recipe = packages.iter().map(|(name, version)| format!("{name} {version}\n")).collect::<String>();
    let marker = folder.join("runtimes.recipe");
    if file.is_file() && tree::marker(&marker) == recipe {
        return Ok(file);
    }
    let root = busybox_tree("runtimes")?;
    let list = folder.join("runtimes.files");
    let names: Vec<&str> = packages.iter().map(|(name, _)| name.as_str()).collect();
    tree::write(&list, &files(&names)?)?;
    let unpacked = Command::new("sh")
        .arg("-c")
        .arg("tar -C / -cf - -T \"$0\" | tar -C \"$1\" --skip-old-files -xf -")
        .arg(&list)
        .arg(&root)
        .status();
    anyhow::ensure!(unpacked.is_ok_and(|status| status.success()), "cannot copy the files of {names:?}");
    tree::create_folder(&root.join("usr/bin"))?;
    for program in ["env", "sh"] {
        let link = root.join("usr/bin").join(program);
        if fs::symlink_metadata(&link).is_err() {
            symlink("/bin/busybox", link)?;
        }
    }
    pack(&root, &file)?;
    tree::write(&marker, &recipe)?;
    Ok(file)
}

/// The packages, all that they depend on as far as it is installed, and their versions.
fn closure() -> Result<BTreeSet<(String, String)>> {
    let mut known = BTreeSet::new();
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = ROOTS.iter().map(|root| (*root).to_owned()).collect();
    open.push(IF_INSTALLED.to_owned());
    while let Some(name) = open.pop() {
        if NOT_NEEDED.contains(&&*name) || !known.insert(name.clone()) {
            continue;
        }
        let mut ask = Command::new("dpkg-query");
        ask.args([
            "--show",
            "--showformat=${db:Status-Status}\n${Version}\n${Pre-Depends}, ${Depends}",
            &name,
        ]);
        let told = ask.output().context("cannot run dpkg-query")?;
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let mut lines = text.lines();
        if lines.next() != Some("installed") {
            anyhow::ensure!(
                !ROOTS.contains(&&*name),
                "the package {name} is not installed: cargo xtask setup"
            );
            continue;
        }
        found.insert((name, lines.next().unwrap_or_default().to_owned()));
        let depends = lines.next().unwrap_or_default();
        open.extend(depends.split([',', '|']).map(bare));
    }
    Ok(found)
}

/// `libc6:any (>= 2.36)` without what is not its name.
fn bare(dependency: &str) -> String {
    dependency.split(['(', ':', '[']).next().unwrap_or_default().trim().to_owned()
}

/// The files of packages, a line each, without folders and what nobody reads in an image.
fn files(packages: &[&str]) -> Result<String> {
    let all = process::output(Command::new("dpkg-query").arg("--listfiles").args(packages))?;
    let wanted = |path: &&str| {
        // `/lib` is a link where all is in `/usr`; in the image it is a folder.
        let inside = path.trim_start_matches('/').contains('/');
        inside
            && !LEFT_OUT.iter().any(|folder| path.starts_with(folder))
            && fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir())
    };
    let files: BTreeSet<&str> =
        all.lines().filter(|line| Path::new(line).is_absolute()).filter(wanted).collect();
    let mut list: String =
        files.into_iter().map(|file| format!("{}\n", file.trim_start_matches('/'))).collect();
    // It replaces itself when it is updated, and no package knows of what comes with that.
    if packages.contains(&"nodejs") && Path::new(NPM).is_dir() {
        list += &format!("{}\n", NPM.trim_start_matches('/'));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_is_known_by_its_name() {
        assert_eq!(bare(" libc6 (>= 2.28)"), "libc6");
        assert_eq!(bare("python3:any"), "python3");
    }

    #[test]
    fn the_files_of_a_package_are_listed_without_folders_and_documentation() {
        let listed = files(&["busybox-static"]).unwrap();
        assert!(listed.lines().any(|file| file == "bin/busybox"), "{listed}");
        assert!(!listed.contains("share/doc"), "{listed}");
    }
}
