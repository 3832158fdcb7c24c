//! What a start needs to know of an image, in one small file.
//!
//! `images/<hex>.json` is written once an image is complete and pinned in the image store, and is the single commit
//! that makes an image runnable. A start reads this file and asks nobody else.
//!
//! A start holds the file locked (shared) from reading it until its bundle names the image; a removal locks it
//! (exclusive), looks for such bundles, and only then removes it. So no layer goes away under a container.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{
    ContainerError, Image,
    layout::{Layout, at},
};

/// An image that can be run, and the folders it consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Prepared {
    pub(crate) image: Image,
    /// Unpacked layers, uppermost first, as overlayfs wants them.
    pub(crate) layers: Vec<PathBuf>,
    /// The working container that keeps the image store from dropping these layers.
    pub(crate) pin: String,
}

/// A prepared image that cannot be removed while this lives.
pub(crate) struct Held {
    pub(crate) prepared: Prepared,
    _lock: Flock<File>,
}

fn file(layout: &Layout, digest: &str) -> Option<PathBuf> {
    let hex = digest.strip_prefix("sha256:")?;
    let plain = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| layout.images().join(format!("{hex}.json")))
}

fn missing(digest: &str) -> ContainerError {
    ContainerError::NoImage { image: digest.to_owned(), reason: "it is not in the image store".into() }
}

fn parse(path: &Path, text: &str) -> Result<Prepared, ContainerError> {
    serde_json::from_str(text).map_err(|error| at(path)(error.into()))
}

/// Reads what is known of an image; `None` if it is not prepared.
pub(crate) fn read(layout: &Layout, digest: &str) -> Result<Option<Prepared>, ContainerError> {
    let Some(path) = file(layout, digest) else { return Ok(None) };
    match fs::read_to_string(&path) {
        Ok(text) => parse(&path, &text).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Commits that an image can be run. What a digest stands for never changes, so a file that is there stays; its names
/// do change, so they are not kept.
pub(crate) fn write(layout: &Layout, prepared: &Prepared) -> Result<(), ContainerError> {
    let path = file(layout, &prepared.image.digest).ok_or_else(|| missing(&prepared.image.digest))?;
    fs::create_dir_all(layout.images()).map_err(at(layout.images()))?;
    let unfinished = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut out = File::create(&unfinished)?;
        let image = Image { names: Vec::new(), ..prepared.image.clone() };
        out.write_all(&serde_json::to_vec_pretty(&Prepared { image, ..prepared.clone() })?)?;
        out.sync_all()?;
        match fs::hard_link(&unfinished, &path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => fs::remove_file(&unfinished)?,
        }
        File::open(layout.images())?.sync_all()
    };
    write().map_err(at(&path))
}

/// Holds an image for a start.
pub(crate) fn hold(layout: &Layout, digest: &str) -> Result<Held, ContainerError> {
    let lock = lock(layout, digest, FlockArg::LockShared)?.ok_or_else(|| missing(digest))?;
    let path = file(layout, digest).ok_or_else(|| missing(digest))?;
    let mut text = String::new();
    (&*lock).read_to_string(&mut text).map_err(at(&path))?;
    Ok(Held { prepared: parse(&path, &text)?, _lock: lock })
}

/// Locks an image's file; `None` if there is none by the time the lock is ours.
fn lock(layout: &Layout, digest: &str, how: FlockArg) -> Result<Option<Flock<File>>, ContainerError> {
    let Some(path) = file(layout, digest) else { return Ok(None) };
    loop {
        let opened = match File::open(&path) {
            Ok(opened) => opened,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path)(error)),
        };
        let locked = Flock::lock(opened, how).map_err(|(_, errno)| at(&path)(errno.into()))?;
        // Somebody may have replaced or removed it while we waited; then our lock is on a file nobody looks at.
        let ours = locked.metadata().map_err(at(&path))?.ino();
        match fs::metadata(&path) {
            Ok(now) if now.ino() == ours => return Ok(Some(locked)),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(path)(error)),
        }
    }
}

/// When an image was prepared or last asked for; `None` if it is not prepared.
pub(crate) fn asked_for(layout: &Layout, digest: &str) -> Result<Option<SystemTime>, ContainerError> {
    let Some(path) = file(layout, digest) else { return Ok(None) };
    match fs::metadata(&path).and_then(|meta| meta.modified()) {
        Ok(at) => Ok(Some(at)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Notes that somebody asks for an image just now, so that whoever tidies leaves it. Whether it is still there.
pub(crate) fn ask_for(layout: &Layout, digest: &str) -> Result<bool, ContainerError> {
    let Some(lock) = lock(layout, digest, FlockArg::LockShared)? else { return Ok(false) };
    lock.set_modified(SystemTime::now()).map_err(at(layout.images()))?;
    Ok(true)
}

/// Forgets an image that nobody has asked for since, unless a container has it.
///
/// # Errors
/// [`ContainerError::InUse`] if a bundle names it, or somebody has asked for it.
pub(crate) fn forget_unasked(layout: &Layout, digest: &str, since: SystemTime) -> Result<(), ContainerError> {
    let Some(lock) = lock(layout, digest, FlockArg::LockExclusive)? else { return Ok(()) };
    let path = file(layout, digest).ok_or_else(|| missing(digest))?;
    let asked = lock.metadata().and_then(|meta| meta.modified()).map_err(at(&path))?;
    if asked > since || used(layout, digest)? {
        return Err(ContainerError::InUse { image: digest.to_owned() });
    }
    fs::remove_file(&path).map_err(at(path))
}

/// The images that containers have.
pub(crate) fn in_use(layout: &Layout) -> Result<HashSet<String>, ContainerError> {
    let folder = layout.bundles();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(HashSet::new()),
        Err(error) => return Err(at(folder)(error)),
    };
    let image = |entry: fs::DirEntry| fs::read_to_string(entry.path().join(IMAGE_OF_BUNDLE)).ok();
    Ok(entries.flatten().filter_map(image).collect())
}

/// Forgets an image, unless a container has it.
///
/// # Errors
/// [`ContainerError::InUse`] if a bundle names it.
pub(crate) fn forget(layout: &Layout, digest: &str, name: &str) -> Result<(), ContainerError> {
    let Some(_lock) = lock(layout, digest, FlockArg::LockExclusive)? else { return Ok(()) };
    if used(layout, digest)? {
        return Err(ContainerError::InUse { image: name.to_owned() });
    }
    let path = file(layout, digest).ok_or_else(|| missing(digest))?;
    fs::remove_file(&path).map_err(at(path))
}

fn used(layout: &Layout, digest: &str) -> Result<bool, ContainerError> {
    let folder = layout.bundles();
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(at(folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(at(&folder))?.path().join(IMAGE_OF_BUNDLE);
        if fs::read_to_string(path).is_ok_and(|image| image == digest) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The file of a bundle that names its image.
pub(crate) const IMAGE_OF_BUNDLE: &str = "image";
