//! The files of a container's log, of which the end is kept: why it failed stands there.
//!
//! A container's monitor writes `<id>.log` and begins it anew when it has grown to [`PART`], under the same name. What it
//! wrote before would go with that, so whoever looks after a container [tends](tend) its log, by links that cost nothing:
//!
//! | file | what it is |
//! |---|---|
//! | `<id>.log` | what is written now |
//! | `<id>.log.now` | the same file, once it was seen; after the monitor has begun anew, what came before |
//! | `<id>.log.before` | the file before that |
//!
//! So the last one to three parts are there. While nobody looks (the cloud is down), only the newest file is certain to stay.
//! Nothing of it is a promise that a crash could break: every state of these files is read as what it is.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where a monitor begins anew, in bytes.
pub const PART: u64 = 64 << 20;

const NOW: &str = "now";
const BEFORE: &str = "before";

fn beside(log: &Path, name: &str) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".");
    path.push(name);
    path.into()
}

fn find(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps what the monitor would let go. Cheap: to be called now and then while a container runs. Answers whether lines were
/// dropped since the last time.
///
/// # Errors
/// [`io::Error`] if the files cannot be looked at or linked; calling again goes on.
pub fn tend(log: &Path) -> io::Result<bool> {
    let (now, before) = (beside(log, NOW), beside(log, BEFORE));
    let Some(current) = find(log)? else { return Ok(false) };
    let known = find(&now)?;
    if known.as_ref().is_some_and(|known| known.ino() == current.ino()) {
        return Ok(false);
    }
    let mut dropped = false;
    if known.is_some() {
        dropped = before.exists();
        fs::rename(&now, &before)?;
    }
    match fs::hard_link(log, &now) {
        // It was begun anew just now, or somebody else tends it, too.
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {
            Err(error)
        }
        _ => Ok(dropped),
    }
}

/// The files of a log, the oldest first and none twice. The last one is written to.
///
/// # Errors
/// [`io::Error`] if they cannot be looked at.
pub fn files(log: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all: Vec<(u64, PathBuf)> = Vec::new();
    // The newest first: should the monitor begin anew meanwhile, a file is there under two names and none is missed.
    for path in [log.to_owned(), beside(log, NOW), beside(log, BEFORE)] {
        if let Some(found) = find(&path)?.filter(|found| all.iter().all(|(inode, _)| *inode != found.ino())) {
            all.push((found.ino(), path));
        }
    }
    all.reverse();
    Ok(all)
}

/// Removes a log, all of it. Idempotent.
///
/// # Errors
/// [`io::Error`] if a file cannot be removed.
pub fn remove(log: &Path) -> io::Result<()> {
    for path in [beside(log, BEFORE), beside(log, NOW), log.to_owned()] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the monitor begins its file anew.
    fn begin_anew(log: &Path, text: &str) {
        let next = log.with_extension("tmp");
        fs::write(&next, text).unwrap();
        fs::rename(next, log).unwrap();
    }

    fn kept(log: &Path) -> Vec<String> {
        files(log).unwrap().into_iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn the_files_before_are_kept_and_the_oldest_goes_with_a_word() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        assert!(!tend(&log).unwrap() && kept(&log).is_empty(), "there is none yet");
        begin_anew(&log, "1");
        assert!(!tend(&log).unwrap());
        assert_eq!(kept(&log), ["1"]);
        begin_anew(&log, "2");
        assert_eq!(kept(&log), ["1", "2"], "nobody has looked yet");
        assert!(!tend(&log).unwrap() && !tend(&log).unwrap());
        assert_eq!(kept(&log), ["1", "2"]);
        begin_anew(&log, "3");
        assert_eq!(kept(&log), ["1", "2", "3"]);
        assert!(tend(&log).unwrap() && !tend(&log).unwrap(), "1 is gone, and is told once");
        assert_eq!(kept(&log), ["2", "3"]);
        remove(&log).unwrap();
        remove(&log).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn killed_between_its_steps_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        begin_anew(&log, "1");
        tend(&log).unwrap();
        begin_anew(&log, "2");
        fs::rename(beside(&log, NOW), beside(&log, BEFORE)).unwrap();
        assert_eq!(kept(&log), ["1", "2"]);
        assert!(!tend(&log).unwrap());
        assert_eq!(kept(&log), ["1", "2"]);
        begin_anew(&log, "3");
        assert!(tend(&log).unwrap());
        assert_eq!(kept(&log), ["2", "3"]);
    }
}
