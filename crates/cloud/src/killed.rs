//! Processes that tests run until a failpoint kills them: ignored tests of this crate, each in a folder of its own.

use std::{
    env,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
};

const FOLDER: &str = "TANDEM_CRASH_FOLDER";

/// The folder that this process is to change; `None` in one that nobody started for that.
pub(crate) fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}

/// Runs the ignored test of that path on the folder, and answers what it printed before it was killed.
///
/// # Panics
/// If it ended otherwise: the failpoint was never passed.
pub(crate) fn at(failpoint: &str, process: &str, folder: &Path) -> String {
    let ended = Command::new(env::current_exe().expect("this binary has a path"))
        .args([process, "--exact", "--ignored", "--nocapture"])
        .env(tandem_failpoint::VARIABLE, failpoint)
        .env(FOLDER, folder)
        .output()
        .expect("this binary runs");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    // One that fails by itself ends otherwise.
    assert_eq!(ended.status.signal(), Some(libc::SIGKILL), "{failpoint} was never passed:\n{said}");
    said
}
