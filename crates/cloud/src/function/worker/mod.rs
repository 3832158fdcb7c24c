//! The other side: what runs in a worker's process.
//!
//! A worker is a fork of the spawner. It encloses itself, has a copy of the spawner's empty JavaScript machine (this is where a
//! spare waits), learns what it is to be, gives up its privileges, loads the program and serves requests until its sockets
//! close. It holds nothing that outlives it, so it may be killed at any moment.

mod bridge;
mod program;
mod runtime_client;

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, SigmaskHow, sigprocmask},
    unistd::{dup2_stderr, dup2_stdout},
};

use tandem_js::Vm;

use super::{
    sandbox::{self, seat::Seat, syscalls::Filters},
    spawner,
};

/// A worker's ends of what connects it to the cloud.
#[derive(Debug)]
pub(super) struct Ends {
    /// Carries the Lambda Runtime API.
    runtime: OwnedFd,
    /// Carries the frames of [`crate::channel`].
    channel: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl TryFrom<Vec<OwnedFd>> for Ends {
    type Error = io::Error;
    fn try_from(files: Vec<OwnedFd>) -> io::Result<Self> {
        let [runtime, channel, stdout, stderr] =
            <[OwnedFd; 4]>::try_from(files).map_err(|_| io::Error::other("a worker takes four files"))?;
        Ok(Self { runtime, channel, stdout, stderr })
    }
}

/// The exit status of a worker that could not go on. Why is the last line on its standard error.
const BROKEN: i32 = 70;

/// Goes on as a worker in a fresh fork of the spawner, and ends the process.
pub(super) fn become_one(ends: Ends, seat: Option<Seat>, filters: &Filters, vm: Option<Vm>) -> ! {
    let code = catch_unwind(AssertUnwindSafe(|| match live(ends, seat, filters, vm) {
        Ok(()) => 0,
        Err(error) => {
            tell(&format!("the worker cannot go on: {error}"));
            BROKEN
        }
    }));
    spawner::exit(code.unwrap_or(BROKEN))
}

fn live(ends: Ends, seat: Option<Seat>, filters: &Filters, vm: Option<Vm>) -> io::Result<()> {
    let Ends { runtime, channel, stdout, stderr } = ends;
    dup2_stdout(&stdout)?;
    dup2_stderr(&stderr)?;
    drop((stdout, stderr));
    let mut kept = vec![0, 1, 2, runtime.as_raw_fd(), channel.as_raw_fd()];
    kept.extend(seat.iter().flat_map(Seat::keeps));
    close_all_but(&kept);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    nix::sys::prctl::set_name(c"tandem-worker")?;
    clear_environment();
    sandbox::enclose(filters)?;

    let (runtime, channel) = (UnixStream::from(runtime), UnixStream::from(channel));
    program::serve(vm, runtime, channel, move |allowance, runtime| {
        sandbox::confine(allowance, seat.as_ref())?;
        drop(seat);
        exit_with_connection(runtime)
    })
}

/// Ends the process when the cloud is gone, also if the program never gives its thread back.
fn exit_with_connection(connection: OwnedFd) -> io::Result<()> {
    thread::Builder::new().name("watch".to_owned()).stack_size(64 << 10).spawn(move || {
        let mut gone = [PollFd::new(connection.as_fd(), PollFlags::empty())];
        while poll(&mut gone, PollTimeout::NONE).is_err() {}
        spawner::exit(0)
    })?;
    Ok(())
}

/// Writes a line to standard error, which the cloud reads into the function's log.
#[expect(clippy::print_stderr, reason = "standard error is how a worker is heard")]
fn tell(line: &str) {
    eprintln!("{line}");
}

#[expect(unsafe_code, reason = "the standard library removes variables one by one")]
fn clear_environment() {
    // SAFETY: no other thread exists yet that could read the environment.
    unsafe { libc::clearenv() };
}

/// Closes every file of this process but these.
#[expect(unsafe_code, reason = "close_range has no wrapper in nix")]
pub(super) fn close_all_but(kept: &[RawFd]) {
    let mut kept: Vec<_> = kept.iter().filter_map(|file| u32::try_from(*file).ok()).collect();
    kept.sort_unstable();
    let mut first = 0;
    for file in kept.into_iter().chain([u32::MAX]) {
        if first < file {
            // SAFETY: called in a fresh fork that owns only the files it keeps; whatever thinks it owns another one
            // is never used again.
            unsafe { libc::close_range(first, file - 1, 0) };
        }
        first = file.saturating_add(1);
    }
}
