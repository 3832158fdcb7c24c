//! The root file system of a container: the image's layers below, a writable folder of its own on top (overlayfs).
//!
//! Nothing is copied or unpacked at a start. What a container writes goes with it, so its file system need not survive
//! a power cut: `volatile` spares every `fsync` in it.

use std::{
    ffi::OsString,
    fs::{self, File},
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount as mount_filesystem, umount2},
};

use crate::{ContainerError, layout::at};

/// The kernel takes one page of options.
const OPTIONS_LIMIT: usize = 4000;

/// Mounts `<bundle>/rootfs` from `layers` (uppermost first) with a folder in `own` on top, which takes what is written.
pub(super) fn mount(bundle: &Path, layers: &[PathBuf], own: &Path) -> Result<(), ContainerError> {
    let target = bundle.join("rootfs");
    let (upper, work) = (own.join("upper"), own.join("work"));
    for folder in [&upper, &work] {
        fs::create_dir(folder).map_err(at(folder))?;
    }
    let all = || layers.iter().chain([&upper, &work]);
    let plain = options(layers, &upper, &work);
    let separators =
        |path: &PathBuf| path.as_os_str().as_bytes().iter().any(|b| matches!(b, b':' | b',' | b'\\'));
    if plain.len() <= OPTIONS_LIMIT && !all().any(separators) {
        return overlay(&target, &plain);
    }
    // Short names without separators for the same folders: through descriptors of ours, which the kernel resolves now.
    let open: Vec<File> = all().map(|path| File::open(path).map_err(at(path))).collect::<Result<_, _>>()?;
    let names: Vec<PathBuf> =
        open.iter().map(|file| format!("/proc/self/fd/{}", file.as_raw_fd()).into()).collect();
    let [lower @ .., upper, work] = names.as_slice() else { return Ok(()) };
    overlay(&target, &options(lower, upper, work))
}

fn options(layers: &[PathBuf], upper: &Path, work: &Path) -> OsString {
    let mut text = OsString::from("lowerdir=");
    for (n, layer) in layers.iter().enumerate() {
        if n > 0 {
            text.push(":");
        }
        text.push(layer);
    }
    text.push(",upperdir=");
    text.push(upper);
    text.push(",workdir=");
    text.push(work);
    text
}

fn overlay(target: &Path, options: &OsString) -> Result<(), ContainerError> {
    let mut volatile = options.clone();
    volatile.push(",volatile");
    let attempt = |options: &OsString| {
        mount_filesystem(
            Some("overlay"),
            target,
            Some("overlay"),
            // An image may have nodes of devices; `/dev` is a file system of its own.
            MsFlags::MS_NODEV,
            Some(options.as_os_str()),
        )
    };
    // Kernels before 5.10 do not know `volatile`.
    let done = match attempt(&volatile) {
        Err(Errno::EINVAL) => attempt(options),
        other => other,
    };
    done.map_err(|errno| ContainerError::Start {
        reason: format!("the root file system cannot be mounted: {errno}"),
    })
}

/// Unmounts, also if something still uses it. Idempotent.
pub(super) fn unmount(target: &Path) -> Result<(), ContainerError> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH) {
            // One may lie over another if a start was repeated.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(at(target)(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(parent: &Path) -> PathBuf {
        let bundle = parent.join("bundle");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        bundle
    }

    fn layers(parent: &Path, count: usize) -> Vec<PathBuf> {
        (0..count)
            .map(|n| {
                let layer = parent.join(format!("layer-with-a-name-that-is-rather-long-{n}"));
                fs::create_dir_all(&layer).unwrap();
                fs::write(layer.join(format!("file-{n}")), "").unwrap();
                fs::write(layer.join("who"), n.to_string()).unwrap();
                layer
            })
            .collect()
    }

    #[test]
    fn more_layers_than_a_page_of_options_and_awkward_names_are_mounted() {
        let folder = tempfile::TempDir::new().unwrap();
        let parent = folder.path().join("a:b,c\\d e");
        let (bundle, layers) = (bundle(&parent), layers(&parent, 120));
        mount(&bundle, &layers, &bundle).unwrap();
        let root = bundle.join("rootfs");
        let seen = fs::read_dir(&root).unwrap().count();
        let uppermost = fs::read_to_string(root.join("who")).unwrap();
        fs::write(root.join("who"), "changed").unwrap();
        unmount(&root).unwrap();
        assert_eq!((seen, uppermost.as_str()), (121, "0"));
        assert_eq!(fs::read_to_string(layers[0].join("who")).unwrap(), "0", "layers are never written to");
        unmount(&root).unwrap();
    }
}
