//! What cannot be done with open files in safe code: handing them to one child and no other, and awaiting them.
//!
//! A start passes its lock and its pipe to `conmon`. Opening these without close-on-exec would give them to whatever
//! else this process happens to start meanwhile, which would then hold somebody else's lock. So they stay
//! close-on-exec here, and the one child clears the mark for itself between fork and exec.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    process::Command,
};

/// Lets the child that `command` starts keep `files` open, under the same numbers.
#[expect(unsafe_code, reason = "there is no safe way to run code between fork and exec")]
pub(crate) fn inherit(command: &mut Command, files: Vec<Arc<OwnedFd>>) {
    let clear = move || {
        for file in &files {
            // SAFETY: the descriptor is open (we own it), and F_SETFD takes a plain integer.
            if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: `clear` runs in the child after fork; it only calls fcntl, which is async-signal-safe, and allocates
    // nothing.
    unsafe { command.pre_exec(clear) };
}

/// Returns when `file` can be read; of a process handle, when the process has ended.
#[expect(unsafe_code, reason = "the reactor asks that a descriptor stays open while it is registered")]
pub(crate) async fn readable(file: OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is owned, moves into the registration, and is closed only when that is dropped.
    let registered = unsafe { AsyncFd::register_with_interest(file, Interest::READABLE) }?;
    registered.readable().await.map(drop)
}
