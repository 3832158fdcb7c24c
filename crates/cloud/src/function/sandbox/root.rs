//! The file system that all workers share: small, read-only, and with nothing of the host's in it.

use std::{fs, io, path::Path};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, SFlag, makedev, mknod},
    unistd::{chdir, pivot_root},
};

/// Where the new root is assembled. Any folder that every system has will do: the mount is private to this process.
const ASSEMBLY: &str = "/tmp";
const FOLDERS: [&str; 7] = ["dev", "etc", "etc/ssl", "etc/ssl/certs", "tmp", "var", "var/task"];
/// What a client of the network needs. Copied, because the host's files are not reachable afterwards.
const FILES: [&str; 4] =
    ["etc/resolv.conf", "etc/hosts", "etc/nsswitch.conf", "etc/ssl/certs/ca-certificates.crt"];
const DEVICES: [(&str, u64); 5] = [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)];
/// The major number of the memory devices.
const MEMORY_DEVICES: u64 = 1;

/// Puts this process into a mount namespace of its own whose root is the workers'.
///
/// The namespace ends with the last process in it, and its mounts with it: a crash leaves none behind.
///
/// # Errors
/// Of the system calls: not root, or a kernel without these namespaces.
pub(in crate::function) fn enter() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    let contents: Vec<_> = FILES.iter().map(|file| (file, fs::read(Path::new("/").join(file)))).collect();

    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("workers"), ASSEMBLY, Some("tmpfs"), flags, Some("size=8m,mode=755"))?;
    let root = Path::new(ASSEMBLY);
    for folder in FOLDERS {
        fs::create_dir(root.join(folder))?;
    }
    for (file, content) in contents {
        // A host without one of them is a host without it.
        if let Ok(content) = content {
            fs::write(root.join(file), content)?;
        }
    }
    for (name, minor) in DEVICES {
        let device = makedev(MEMORY_DEVICES, minor);
        mknod(&root.join("dev").join(name), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device)?;
    }

    chdir(root)?;
    // The old root is stacked on the new one and taken off again, so no folder for it stays visible.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    mount(nothing, "/", nothing, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags, nothing)?;
    Ok(())
}
