//! `cgroup2`: the tests that depend on control groups, on a machine that has version 2 only.
//!
//! Most machines that build this have version 1 or both, and one kernel cannot show both at once. So this boots Debian's
//! kernel in an emulated machine whose whole file system is an initial RAM disk: the tests' own binaries, the programs that
//! they start, BusyBox. Everything in it is copied from here; nothing of the machine here can be touched.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    process,
    setup::{self, Package},
    tree,
};

pub(crate) const HELP: &str = "\
usage: cargo xtask cgroup2

Runs the tests of functions and containers on an emulated machine with version 2 of control groups and no version 1.
Installs an emulator if there is none, and fetches Debian's kernel. Without help by the processor: some ten minutes.
";

const PACKAGES: &[Package] = &[
    Package { name: "qemu-system-x86", program: "qemu-system-x86_64", reason: "emulates a machine" },
    Package { name: "cpio", program: "cpio", reason: "packs its RAM disk" },
];

/// The package that depends on the newest kernel for virtual machines.
const KERNEL: &str = "linux-image-cloud-amd64";

/// Which tests run there. Those that build images need more of a system than there is, and load on an
/// emulated machine takes for ever.
const TESTS: &[(&str, &str, &[&str])] = &[
    ("tandem-cloud::functions", "functions", &["--skip", "load::", "--skip", "memory::"]),
    ("tandem-container", "containers", &["runtime::"]),
];

/// What the tests start or read, beside libraries.
const PROGRAMS: &[&str] = &["runc", "conmon"];
const FILES: &[&str] = &["/usr/share/containers/seccomp.json"];

/// What BusyBox is called by.
const APPLETS: &[&str] =
    &["sh", "mount", "mkdir", "cp", "insmod", "switch_root", "poweroff", "timeout", "ip", "cat", "sed"];

/// The line by which the machine says how it went.
const PASSED: &str = "the tests on control groups version 2 passed";

/// Its first process, which runs each test in a process of its own. The root of a RAM disk cannot be left by `pivot_root`, which workers and containers do, so it
/// starts itself again on another file system.
fn init() -> String {
    let tests: Vec<String> = TESTS
        .iter()
        .map(|(_, name, arguments)| {
            let list = format!("/tests/{name} --list {} | sed -n 's/: test$//p'", arguments.join(" "));
            format!("for test in $({list}); do timeout 300 /tests/{name} --exact $test || failed=1; done")
        })
        .collect();
    format!(
        "#!/bin/sh\n\
         export PATH=/bin:/usr/bin:/usr/sbin RUST_BACKTRACE=0\n\
         if [ ! -e /second ]; then\n\
             mount -t tmpfs -o size=80% none /new\n\
             cp -a /bin /usr /lib /lib64 /tests /init /new/\n\
             mkdir -p /new/proc /new/sys /new/dev /new/tmp /new/etc /new/second\n\
             exec switch_root /new /init\n\
         fi\n\
         mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev; mount -t tmpfs none /tmp\n\
         insmod /lib/overlay.ko; ip link set lo up\n\
         mount -t cgroup2 none /sys/fs/cgroup\n\
         failed=0\n\
         {}\n\
         [ $failed = 0 ] && echo {PASSED}\n\
         poweroff -f\n",
        tests.join("\n")
    )
}

pub(crate) fn main(_arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    setup::packages(PACKAGES)?;
    let folder = tree::target()?.join("cgroup2");
    fs::create_dir_all(&folder)?;
    let kernel = kernel(&folder)?;
    let disk = process::timed("packing the machine's RAM disk", || disk(&folder, &kernel))?;
    let mut machine = Command::new("qemu-system-x86_64");
    machine
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072"])
        .args(["-nographic", "-no-reboot", "-append", "console=ttyS0 panic=-1 quiet"])
        .arg("-kernel")
        .arg(found(&kernel.join("boot"), "vmlinuz-")?)
        .arg("-initrd")
        .arg(disk);
    let said = process::timed("running the tests on it", || process::output(&mut machine))?;
    eprintln!("{said}");
    if !said.contains(PASSED) {
        bail!("the tests on control groups version 2 did not pass");
    }
    Ok(())
}

/// Unpacks Debian's kernel, fetched at the first time.
fn kernel(folder: &Path) -> Result<PathBuf> {
    let unpacked = folder.join("kernel");
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    let depends = process::output(Command::new("apt-cache").args(["depends", KERNEL]))?;
    let name = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let name = name.with_context(|| format!("{KERNEL} depends on no kernel"))?;
    process::timed("fetching Debian's kernel", || {
        let package = format!("linux-image-{name}");
        process::output(Command::new("apt-get").current_dir(folder).args(["-q", "download", &package]))
    })?;
    let package = found(folder, "linux-image-")?;
    let unfinished = folder.join("unfinished");
    process::output(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&unfinished))?;
    fs::remove_file(package)?;
    fs::rename(unfinished, &unpacked)?;
    Ok(unpacked)
}

/// The file in `folder` whose name begins so.
fn found(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)?.flatten();
    let names = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    let entry = entries.find(names);
    Ok(entry.with_context(|| format!("there is no {prefix}… in {}", folder.display()))?.path())
}

/// Makes the machine's file system.
fn disk(folder: &Path, kernel: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for path in ["bin", "usr/bin", "usr/sbin", "lib", "lib64", "tests", "new"] {
        fs::create_dir_all(root.join(path))?;
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    fs::copy(busybox.context("there is no busybox")?, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let modules = found(&kernel.join("lib/modules"), "")?;
    fs::copy(modules.join("kernel/fs/overlayfs/overlay.ko"), root.join("lib/overlay.ko"))?;
    for file in FILES {
        copy_whole(Path::new(file), &root)?;
    }
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let path = process::output(Command::new("which").arg(program))?;
        let path = Path::new(path.trim());
        libraries.extend(libraries_of(path)?);
        copy_whole(path, &root)?;
    }
    for (id, name, _) in TESTS {
        let binary = test_binary(id)?;
        libraries.extend(libraries_of(&binary)?);
        let copy = root.join("tests").join(name);
        process::output(Command::new("strip").arg("-g").arg(binary).arg("-o").arg(copy))?;
    }
    for library in libraries {
        copy_whole(&library, &root)?;
    }
    let init_file = root.join("init");
    fs::write(&init_file, init())?;
    fs::set_permissions(&init_file, fs::Permissions::from_mode(0o755))?;
    let disk = folder.join("disk");
    let pack = "cd \"$1\" && find . | cpio --quiet -o -H newc > \"$2\"";
    process::output(Command::new("sh").args(["-c", pack, "sh"]).arg(&root).arg(&disk))?;
    Ok(disk)
}

/// Copies a file to the same path below `root`.
fn copy_whole(file: &Path, root: &Path) -> Result<()> {
    let to = root.join(file.strip_prefix("/")?);
    fs::create_dir_all(to.parent().context("a file is in a folder")?)?;
    fs::copy(file, to).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// What the loader would load for a program: it is asked, and executes nothing.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = process::output(Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1"))?;
    Ok(listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Builds a binary of tests, of all that nextest knows the one by this id.
fn test_binary(id: &str) -> Result<PathBuf> {
    let mut list = Command::new(tree::cargo());
    list.current_dir(tree::root()?);
    list.args(["nextest", "list", "--workspace", "--list-type", "binaries-only", "--message-format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&process::output(&mut list)?)?;
    let path = listed["rust-binaries"][id]["binary-path"].as_str();
    Ok(path.with_context(|| format!("nextest knows no {id}"))?.into())
}
