//! Starts workers: a helper process, forked before the cloud has threads or secrets.
//!
//! A process with threads must not go on after a fork without `exec`, and `exec` would cost a cold start several
//! milliseconds. So the forks are made by a process that has one thread for ever. [`start`] is the first thing that
//! `tandem serve` does.
//!
//! Should the helper die, its workers go with their sockets, and the cloud starts another one: by then it has threads, so
//! that one is this program executed anew ([`helper_main`]). It takes longer, and nobody waits for it but requests that
//! need a new worker.

mod helper;
mod packet;

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, socketpair},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid},
};
use packet::{Ask, Tell};
use tokio::{io::Interest, net::UnixStream, task::spawn_blocking, time::timeout};

use super::pool::core::{Loss, WorkerId};

/// A helper that has been started and not yet been told which cloud it serves.
#[derive(Debug)]
pub struct Spawner {
    socket: OwnedFd,
    pid: Pid,
}

/// How long a helper may take to be ready; it takes milliseconds.
const PREPARED: Duration = Duration::from_secs(10);

/// The first argument of this program when it is to be a helper.
pub const SUBCOMMAND: &str = "__workers";

/// Forks the helper. A program that does so must let [`helper_main`] have its process when it is told [`SUBCOMMAND`].
///
/// # Errors
/// If this process has more than one thread already, or cannot fork.
pub fn start() -> io::Result<Spawner> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "the spawner must start before any thread, and there are {threads}"
        )));
    }
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    match fork()? {
        ForkResult::Parent { child } => Ok(Spawner { socket: ours, pid: child }),
        ForkResult::Child => {
            drop(ours);
            let code = match helper::run(theirs) {
                Ok(()) => 0,
                Err(error) => {
                    tracing::error!(%error, "the spawner of function workers failed");
                    1
                }
            };
            exit(code)
        }
    }
}

/// Executes a helper, in place of one that has died.
///
/// # Errors
/// If the process cannot be started.
pub(super) fn start_another() -> io::Result<Spawner> {
    tandem_failpoint::try_hit("function.spawner.starting")?;
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // This very program, also if its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND).env_clear().stdin(Stdio::from(theirs)).stdout(Stdio::null());
    let pid = i32::try_from(command.spawn()?.id()).map_err(io::Error::other)?;
    Ok(Spawner { socket: ours, pid: Pid::from_raw(pid) })
}

/// What a helper does that was executed rather than forked. Its standard input is the cloud.
#[expect(clippy::print_stderr, reason = "nobody else in this process would say it")]
pub fn helper_main() -> ExitCode {
    match io::stdin().as_fd().try_clone_to_owned().and_then(helper::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the spawner of function workers failed: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(unsafe_code, reason = "fork is unsafe in programs with several threads")]
fn fork() -> io::Result<ForkResult> {
    // SAFETY: `start` has just seen that this is the only thread.
    Ok(unsafe { nix::unistd::fork() }?)
}

/// Ends the process without running what the original registered to run at its end.
#[expect(unsafe_code, reason = "the standard library has no exit without handlers")]
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

/// What became of a worker's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Started { worker: WorkerId, pid: i32 },
    NotStarted { worker: WorkerId, reason: String },
    Ended { worker: WorkerId, loss: Loss },
}

/// The cloud's line to a helper that is ready.
#[derive(Debug)]
pub(super) struct Line {
    /// Of packets, for which tokio has no type; only its readiness is used of this one.
    socket: UnixStream,
    pid: Pid,
}

/// Why no worker can be started at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    #[error("this machine cannot keep a worker in: {0}")]
    Unfit(String),
    #[error("the spawner of function workers is gone")]
    Gone,
    #[error("the spawner of function workers is not ready after {} seconds", PREPARED.as_secs())]
    Silent,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Spawner {
    /// Tells the helper its cgroup's name, and waits until it is ready.
    ///
    /// The second value says why memory limits are not enforced, if they are not.
    ///
    /// # Errors
    /// [`PrepareError`]: functions cannot run.
    pub(super) async fn prepare(self, cgroup: &str) -> Result<(Arc<Line>, Option<String>), PrepareError> {
        let socket = std::os::unix::net::UnixStream::from(self.socket);
        socket.set_nonblocking(true)?;
        let line = Arc::new(Line { socket: UnixStream::from_std(socket)?, pid: self.pid });
        match timeout(PREPARED, line.prepare(cgroup)).await.unwrap_or(Err(PrepareError::Silent)) {
            Ok(unlimited) => Ok((line, unlimited)),
            Err(error) => {
                // It may hang; and nobody else waits for its end.
                let _ = spawn_blocking(move || line.end()).await;
                Err(error)
            }
        }
    }
}

impl Line {
    async fn prepare(&self, cgroup: &str) -> Result<Option<String>, PrepareError> {
        self.ask(&Ask::Prepare { cgroup: cgroup.to_owned() }, &[])?;
        match self.hear().await? {
            Some(Tell::Ready { unlimited }) => Ok(unlimited),
            Some(Tell::Unfit { reason }) => Err(PrepareError::Unfit(reason)),
            _ => Err(PrepareError::Gone),
        }
    }

    fn ask(&self, ask: &Ask, files: &[RawFd]) -> io::Result<()> {
        packet::send(self.socket.as_fd(), ask, files)
    }

    async fn hear(&self) -> io::Result<Option<Tell>> {
        let heard =
            self.socket.async_io(Interest::READABLE, || packet::receive::<Tell>(self.socket.as_fd())).await?;
        Ok(heard.map(|(tell, _)| tell))
    }

    /// Asks for a worker; a [`Fate`] follows. The files may be closed when this returns.
    pub(super) fn spawn(&self, worker: WorkerId, ends: &[OwnedFd]) -> io::Result<()> {
        let raw: Vec<_> = ends.iter().map(AsRawFd::as_raw_fd).collect();
        self.ask(&Ask::Spawn { worker: worker.0 }, &raw)
    }

    /// Asks to end a worker; it may have ended by itself.
    pub(super) fn kill(&self, worker: WorkerId) -> io::Result<()> {
        self.ask(&Ask::Kill { worker: worker.0 }, &[])
    }

    /// The next thing that became of a worker; none when the helper is gone.
    pub(super) async fn next(&self) -> Option<Fate> {
        loop {
            match self.hear().await.ok()?? {
                Tell::Ready { .. } | Tell::Unfit { .. } => {}
                Tell::Spawned { worker, pid } => {
                    return Some(Fate::Started { worker: WorkerId(worker), pid });
                }
                Tell::NotSpawned { worker, reason } => {
                    return Some(Fate::NotStarted { worker: WorkerId(worker), reason });
                }
                Tell::Exited { worker, status, out_of_memory } => {
                    return Some(Fate::Ended { worker: WorkerId(worker), loss: loss(status, out_of_memory) });
                }
            }
        }
    }

    /// Ends the helper, and waits until it is gone.
    fn end(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        self.close();
    }

    /// Lets the helper go, and waits until it is gone.
    pub(super) fn close(&self) {
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = waitpid(self.pid, None);
    }
}

fn loss(status: i32, out_of_memory: bool) -> Loss {
    if libc::WIFSIGNALED(status) {
        match libc::WTERMSIG(status) {
            libc::SIGKILL if out_of_memory => Loss::OutOfMemory,
            signal => Loss::Signalled(signal),
        }
    } else {
        Loss::Exited(libc::WEXITSTATUS(status))
    }
}
