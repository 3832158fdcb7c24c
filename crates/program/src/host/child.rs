//! The side of the child process: one program, from its first line to its exports.
//!
//! The process is not root and cannot become root (I9), sees the file system from `/`, and has no open file but its
//! console and the socket. It ends, with whatever it started, as soon as the socket closes: then its parent is gone.

use std::{
    collections::HashMap,
    env,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use futures::future::BoxFuture;
use nix::{
    sys::{
        prctl,
        signal::{Signal, killpg},
    },
    unistd::{self, Gid, Uid},
};
use serde_json::Value;
use tandem_js::{Bridge, CallError, ProgramError, Vm};
use tandem_model::Report;
use tokio::sync::oneshot;

use super::wire::{Answer, Said, Start, line};

/// The hidden subcommand that makes the binary call [`child_main`].
pub const SUBCOMMAND: &str = "__program";

/// `nobody`, on every Linux.
const NOBODY: u32 = 65_534;

/// Runs one program. What the hidden subcommand does, and nothing else: standard input is the socket to the parent.
///
/// Answers a failure only if it cannot talk to its parent; how the program ended is told over the socket.
pub fn child_main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // The parent sees that the process ended without a word.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    let socket = take_socket()?;
    let mut input = BufReader::new(socket.try_clone()?);
    let mut first = Vec::new();
    input.read_until(b'\n', &mut first)?;
    let start: Start = serde_json::from_slice(&first)?;
    drop(first);
    leave_root()?;
    env::set_current_dir("/")?;

    let calls =
        Arc::new(Calls { output: Mutex::new(socket), next: AtomicU64::new(1), open: Mutex::default() });
    let answered = calls.clone();
    thread::Builder::new().name("answers".to_owned()).spawn(move || answered.read(input))?;
    // One thread: JavaScript has one, and everything else here waits for it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = match runtime.block_on(program(start, calls.clone())) {
        Ok(done) => Said::Done { done },
        Err(failed) => Said::Failed { failed },
    };
    calls.say(&ended)
}

async fn program(start: Start, calls: Arc<Calls>) -> Result<Value, ProgramError> {
    let vm = Vm::new().await?;
    vm.load(Arc::new(start.archive), start.setup, calls).await?;
    vm.finish_deploy().await
}

/// Takes the socket off standard input, so that a program which reads it finds its end.
fn take_socket() -> io::Result<UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

/// User code never runs as root: it runs as who called `sudo`, else as nobody.
fn leave_root() -> io::Result<()> {
    if Uid::effective().is_root() {
        let id = |name: &str| env::var(name).ok()?.parse::<u32>().ok().filter(|id| *id != 0);
        let (uid, gid) = id("SUDO_UID").zip(id("SUDO_GID")).unwrap_or((NOBODY, NOBODY));
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        unistd::setgroups(&[])?;
        unistd::setresgid(gid, gid, gid)?;
        unistd::setresuid(uid, uid, uid)?;
    }
    prctl::set_no_new_privs()?;
    Ok(())
}

/// The calls that are under way.
struct Calls {
    output: Mutex<UnixStream>,
    next: AtomicU64,
    open: Mutex<HashMap<u64, oneshot::Sender<Result<Value, Report>>>>,
}

impl Calls {
    fn say(&self, said: &Said) -> io::Result<()> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line(said))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<Result<Value, Report>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out answers until the socket closes, then ends the process: a thread of its own, because a program may
    /// keep the other one busy for ever.
    fn read(&self, mut input: BufReader<UnixStream>) {
        let mut text = Vec::new();
        while input.read_until(b'\n', &mut text).is_ok_and(|count| count > 0) {
            let Ok(answer) = serde_json::from_slice::<Answer>(&text) else { break };
            let (id, result) = match answer {
                Answer::Ok { id, ok } => (id, Ok(ok)),
                Answer::Error { id, error } => (id, Err(error)),
            };
            if let Some(waiting) = self.waiting().remove(&id) {
                // A program that failed meanwhile does not wait any more.
                let _ = waiting.send(result);
            }
            text.clear();
        }
        end();
    }
}

#[expect(clippy::exit, reason = "the parent is gone: nobody is left to tell, and nothing may outlive it")]
fn end() -> ! {
    let group = unistd::getpgrp();
    if group == unistd::getpid() {
        let _ = killpg(group, Signal::SIGKILL);
    }
    std::process::exit(1)
}

impl Bridge for Calls {
    fn call(&self, method: String, args: Value) -> BoxFuture<'static, Result<Value, CallError>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting().insert(id, sender);
        let said = self.say(&Said::Call { id, method, args });
        Box::pin(async move {
            let gone = || Report {
                code: "E0530".to_owned(),
                message: "the process that deploys the program is gone".to_owned(),
                help: String::new(),
                causes: Vec::new(),
            };
            said.map_err(|_| gone())?;
            receiver.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}
