//! `base-image`: root file systems to build on where no registry can be reached, made from Debian packages.
//!
//! The example's Dockerfile is from 2018 and asks for `python-dev` and `python-pip`, which Debian has since renamed
//! and dropped. The image carries a small package repository of its own with transitional packages of these names, so
//! that the Dockerfile builds as it stands. See docs/decisions/0080-base-image-from-packages.md.

mod runtimes;
mod servers;

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{process, setup, tree};

pub(crate) const HELP: &str = "\
usage: cargo xtask base-image [ffmpeg|busybox|runtimes|servers]

Makes a root file system as a tar in target/base-image and prints its path, for `tandem image import NAME FILE`:

  ffmpeg   (the default) Debian with ffmpeg, stands for docker.io/jrottenberg/ffmpeg; half a minute
  busybox  one static program, stands for docker.io/library/busybox; at once
  runtimes Python and Node of this machine, stands for docker.io/library/python:3.13-slim and node:22-slim; a few seconds
  servers  nginx and redis, stands for docker.io/library/nginx and redis; a quarter of a minute

An image made before is used again.
";

/// The name under which the example's Dockerfile asks for the image.
pub(crate) const FFMPEG: &str = "docker.io/jrottenberg/ffmpeg";

/// The last Debian release with `python3-distutils`, which pip needs there.
const RELEASE: &str = "bookworm";
const INCLUDE: &str = "ca-certificates,ffmpeg,python3";
/// Where the image keeps the repository of its transitional packages.
const REPOSITORY: &str = "usr/local/share/transitional-packages";

struct Transitional {
    name: &'static str,
    depends: &'static str,
    summary: &'static str,
    /// Path in the package and content of the one program it ships.
    program: Option<(&'static str, &'static str)>,
}

const TRANSITIONAL: &[Transitional] = &[
    Transitional {
        name: "python-dev",
        depends: "python3-dev",
        summary: "transitional package for python3-dev",
        program: None,
    },
    // Debian's python3-pip breaks every package named python-pip, so this one runs the wheel that it is made of.
    Transitional {
        name: "python-pip",
        depends: "python3, python3-distutils, python3-pip-whl",
        summary: "transitional package for pip of python3",
        program: Some((
            "usr/bin/pip",
            "#!/bin/sh\nfor wheel in /usr/share/python-wheels/pip-*.whl; do\n    exec python3 \"$wheel/pip\" \"$@\"\ndone\n",
        )),
    },
];

/// An image that may change the system's Python, as images of 2018 could (PEP 668 came later).
const PIP_CONF: &str = "[global]\nbreak-system-packages = true\nroot-user-action = ignore\n";

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    let file = match arguments.first().map(String::as_str) {
        None | Some("ffmpeg") => ffmpeg()?,
        Some("busybox") => busybox()?,
        Some("runtimes") => runtimes()?,
        Some("servers") => servers()?,
        Some(other) => bail!("there is no recipe `{other}`\n\n{HELP}"),
    };
    println!("{}", file.display());
    Ok(())
}

fn folder() -> Result<PathBuf> {
    let folder = tree::target()?.join("base-image");
    tree::create_folder(&folder)?;
    Ok(folder)
}

/// The tar of the image with ffmpeg, made unless it is there.
pub(crate) fn ffmpeg() -> Result<PathBuf> {
    let folder = folder()?;
    let file = folder.join("ffmpeg.tar");
    let recipe = format!("2 {RELEASE} {INCLUDE}\n{}", controls());
    let marker = folder.join("ffmpeg.recipe");
    if file.is_file() && tree::marker(&marker) == recipe {
        return Ok(file);
    }
    let packages = folder.join("packages");
    make_repository(&packages)?;
    let unfinished = folder.join("ffmpeg.part.tar");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--variant=minbase", &format!("--include={INCLUDE}")]);
    for folder in ["doc", "man", "locale", "info"] {
        make.arg(format!("--dpkgopt=path-exclude=/usr/share/{folder}/*"));
    }
    make.arg(format!("--customize-hook=mkdir -p \"$1/{REPOSITORY}\""));
    make.arg(format!("--customize-hook=cp '{}'/* \"$1/{REPOSITORY}/\"", packages.display()));
    let source = format!("deb [trusted=yes] file:/{REPOSITORY} ./");
    make.arg(format!("--customize-hook=echo '{source}' > \"$1/etc/apt/sources.list.d/transitional.list\""));
    make.arg(format!("--customize-hook=printf '{}' > \"$1/etc/pip.conf\"", PIP_CONF.replace('\n', "\\n")));
    make.arg(RELEASE).arg(&unfinished).args(host_sources(Path::new("/"))?);
    process::timed(&format!("making {FFMPEG} from Debian packages"), || process::output(&mut make))?;
    fs::rename(&unfinished, &file)?;
    tree::write(&marker, &recipe)?;
    Ok(file)
}

/// The host's own package sources, where it is of the same release: they name the mirror that it can reach.
/// Otherwise none, and mmdebstrap takes Debian's.
fn host_sources(root: &Path) -> Result<Vec<PathBuf>> {
    if !tree::marker(&root.join("etc/os-release")).contains(&format!("VERSION_CODENAME={RELEASE}\n")) {
        return Ok(Vec::new());
    }
    let mut candidates = vec![root.join("etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir(root.join("etc/apt/sources.list.d")) {
        candidates.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    candidates.sort();
    // Only Debian's own: a vendor's source may need a key that the image does not have.
    let debian = |path: &PathBuf| {
        let known = path.extension().is_some_and(|e| e == "list" || e == "sources");
        known && tree::marker(path).lines().any(|line| !line.starts_with('#') && line.contains("debian"))
    };
    Ok(candidates.into_iter().filter(debian).collect())
}

fn control(package: &Transitional) -> String {
    format!(
        "Package: {}\nVersion: 3-1\nArchitecture: all\nMaintainer: Tandem <tandem@localhost>\nDepends: {}\nDescription: {}\n",
        package.name, package.depends, package.summary
    )
}

fn controls() -> String {
    TRANSITIONAL.iter().map(|p| format!("{}{}", control(p), p.program.map_or("", |(_, text)| text))).collect()
}

/// A flat repository: the packages and the index that apt reads.
fn make_repository(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    tree::create_folder(folder)?;
    let mut index = String::new();
    for package in TRANSITIONAL {
        let content = folder.with_extension(package.name);
        if content.exists() {
            fs::remove_dir_all(&content)?;
        }
        tree::create_folder(&content.join("DEBIAN"))?;
        tree::write(&content.join("DEBIAN/control"), &control(package))?;
        if let Some((path, text)) = package.program {
            let path = content.join(path);
            tree::create_folder(path.parent().context("a program is in a folder")?)?;
            tree::write(&path, text)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        let file = folder.join(format!("{}.deb", package.name));
        process::output(
            Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&content).arg(&file),
        )?;
        let sum = process::output(Command::new("sha256sum").arg(&file))?;
        let sum = sum.split_whitespace().next().context("sha256sum printed nothing")?;
        let size = fs::metadata(&file)?.len();
        index +=
            &format!("{}Filename: ./{}.deb\nSize: {size}\nSHA256: {sum}\n\n", control(package), package.name);
        fs::remove_dir_all(&content)?;
    }
    tree::write(&folder.join("Packages"), &index)
}

/// The tar of the image with BusyBox alone, made unless it is there.
pub(crate) fn busybox() -> Result<PathBuf> {
    let folder = folder()?;
    let file = folder.join("busybox.tar");
    if file.is_file() {
        return Ok(file);
    }
    pack(&busybox_tree("busybox")?, &file)?;
    Ok(file)
}

/// A root file system of BusyBox, in a folder of that name.
fn busybox_tree(name: &str) -> Result<PathBuf> {
    let program = Path::new("/bin/busybox");
    let root = folder()?.join(name);
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        tree::create_folder(&root.join(name))?;
    }
    fs::copy(program, root.join("bin/busybox"))
        .with_context(|| format!("cannot copy `{}`", program.display()))?;
    for applet in process::output(Command::new(program).arg("--list"))?.lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    tree::write(
        &root.join("etc/passwd"),
        "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    Ok(root)
}

/// Makes a tar of a folder, and removes the folder.
fn pack(root: &Path, file: &Path) -> Result<()> {
    let unfinished = file.with_extension("part.tar");
    process::output(
        Command::new("tar")
            .arg("--owner=0")
            .arg("--group=0")
            .arg("-C")
            .arg(root)
            .arg("-cf")
            .arg(&unfinished)
            .arg("."),
    )?;
    fs::remove_dir_all(root)?;
    Ok(fs::rename(&unfinished, file)?)
}

/// The tar of the image with Python and Node, made unless it is there.
pub(crate) fn runtimes() -> Result<PathBuf> {
    runtimes::make()
}

/// The tar of the image with nginx and redis, made unless it is there.
pub(crate) fn servers() -> Result<PathBuf> {
    servers::make()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_another_release_are_not_used() {
        let root = tempfile::tempdir().unwrap();
        let apt = root.path().join("etc/apt/sources.list.d");
        fs::create_dir_all(&apt).unwrap();
        fs::write(apt.join("debian.sources"), "Types: deb\nURIs: http://deb.debian.org/debian\n").unwrap();
        fs::write(apt.join("vendor.sources"), "Types: deb\nURIs: http://packages.example\n").unwrap();
        fs::write(apt.join("debian.sources.disabled"), "URIs: http://deb.debian.org/debian\n").unwrap();

        fs::write(root.path().join("etc/os-release"), "VERSION_CODENAME=trixie\n").unwrap();
        assert_eq!(host_sources(root.path()).unwrap(), Vec::<PathBuf>::new());

        fs::write(root.path().join("etc/os-release"), "VERSION_CODENAME=bookworm\n").unwrap();
        assert_eq!(host_sources(root.path()).unwrap(), [apt.join("debian.sources")]);
    }

    #[test]
    fn the_repository_index_describes_the_packages_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let repository = folder.path().join("packages");
        make_repository(&repository).unwrap();
        let index = fs::read_to_string(repository.join("Packages")).unwrap();
        for package in TRANSITIONAL {
            let file = repository.join(format!("{}.deb", package.name));
            let size = fs::metadata(&file).unwrap().len();
            assert!(index.contains(&format!("Filename: ./{}.deb\nSize: {size}\n", package.name)), "{index}");
            let listed = process::output(Command::new("dpkg-deb").arg("--contents").arg(&file)).unwrap();
            assert_eq!(listed.contains("-rwxr-xr-x root/root"), package.program.is_some(), "{listed}");
        }
    }
}
