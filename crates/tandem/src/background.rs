//! The cloud in the background: how it is started, waited for, and stopped.
//!
//! The starter runs `tandem serve --background` with a pipe as its standard output. The cloud writes one line to it,
//! `ready` or an error as JSON, and lets go of it; the starter then knows, without asking again and again.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    process::{Command, Stdio},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, poll};
use tandem_model::{Explain, Report};
use tandem_server::{Client, ClientError, wire::CloudInfo};

use crate::{exit::Failure, place::Place};

const READY: &str = "ready";
/// How long a cloud may take to stop: half a minute, in milliseconds.
const PATIENCE: u16 = 30_000;
/// How long to leave a cloud alone that does not answer yet, in milliseconds.
const STEP: u16 = 100;

#[derive(Debug, thiserror::Error)]
enum BackgroundError {
    #[error("cannot start the cloud")]
    Start { source: io::Error },
    #[error("the cloud ended while it started")]
    Ended { tail: String },
    #[error("the cloud (process {pid}) has not stopped")]
    StillRunning { pid: u32 },
}

impl Explain for BackgroundError {
    fn code(&self) -> &'static str {
        match self {
            Self::Start { .. } => "E0317",
            Self::Ended { .. } => "E0318",
            Self::StillRunning { .. } => "E0319",
        }
    }
    fn help(&self) -> String {
        match self {
            Self::Start { .. } => {
                "see that TANDEM_HOME can be written, and start it with `tandem serve`".into()
            }
            Self::Ended { .. } => "start it with `tandem serve` to see what happens".into(),
            Self::StillRunning { pid } => {
                format!("see what it does; as a last resort `kill -9 {pid}`: nothing is lost")
            }
        }
    }
    fn report(&self) -> Report {
        let causes = match self {
            Self::Start { source } => vec![source.to_string()],
            Self::Ended { tail } => tail.lines().map(str::to_owned).collect(),
            Self::StillRunning { .. } => vec![],
        };
        Report { code: self.code().into(), message: self.to_string(), help: self.help(), causes }
    }
}

/// Gives a client of a cloud that runs, starting one if none does.
pub(crate) async fn ensure(place: &Place) -> Result<Client, Failure> {
    let client = place.client();
    // Another one may be starting, or about to end: it holds the lock and does not answer yet, or no more.
    for _ in 0..PATIENCE / STEP {
        match client.info().await {
            Ok(_) => return Ok(client),
            Err(ClientError::NotRunning { .. }) if spawn(place)? => return Ok(client),
            Err(ClientError::NotRunning { .. }) => {
                tokio::time::sleep(Duration::from_millis(STEP.into())).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(client
        .info()
        .await
        .err()
        .map_or_else(|| BackgroundError::Ended { tail: tail(place) }.into(), Failure::from))
}

/// Starts a cloud in the background and waits until it is ready.
pub(crate) fn start(place: &Place) -> Result<CloudInfo, Failure> {
    spawn(place)?;
    ask(place)
}

/// Starts one. `false`: another one has the folder.
fn spawn(place: &Place) -> Result<bool, Failure> {
    let start = |source| BackgroundError::Start { source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(place.home.path()).map_err(start)?;
    let log = OpenOptions::new().create(true).append(true).open(place.home.serve_log()).map_err(start)?;
    let program = std::env::current_exe().map_err(start)?;
    let mut child = Command::new(program)
        .args(["serve", "--background"])
        .env("TANDEM_HOME", place.home.path())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(start)?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(start)?;
    }
    if line.trim() == READY {
        return Ok(true);
    }
    let _ = child.wait();
    match serde_json::from_str::<Report>(&line) {
        Ok(report) if report.code == "E0312" => Ok(false),
        Ok(report) => Err(Failure::report(report)),
        Err(_) => Err(BackgroundError::Ended { tail: tail(place) }.into()),
    }
}

/// The last lines of what the cloud printed.
fn tail(place: &Place) -> String {
    let text = fs::read_to_string(place.home.serve_log()).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

fn ask(place: &Place) -> Result<CloudInfo, Failure> {
    let client = place.client();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| BackgroundError::Start { source })?;
    Ok(runtime.block_on(client.info())?)
}

/// Stops the cloud that runs, and returns when its process is gone. `false`: none was running.
pub(crate) fn stop(place: &Place) -> Result<bool, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| BackgroundError::Start { source })?;
    let client = place.client();
    let info = match runtime.block_on(client.info()) {
        Ok(info) => info,
        Err(ClientError::NotRunning { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    // Taken before the cloud may go, so that it cannot mean another process.
    let process = pidfd(info.pid);
    runtime.block_on(client.post::<()>("/v1/stop", &()))?;
    match process {
        Some(process) if !ends(&process) => Err(BackgroundError::StillRunning { pid: info.pid }.into()),
        _ => Ok(true),
    }
}

/// A handle on the process. `None`: it is gone already.
fn pidfd(pid: u32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// Waits for the process to end, for as long as is bearable.
fn ends(process: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PATIENCE), Ok(ready) if ready > 0)
}

/// Leaves the starter's session: its Ctrl-C and its hang-up are not ours.
pub(crate) fn detach() {
    // Fails only if we lead a session already, which is what we want.
    let _ = nix::unistd::setsid();
    close_inherited();
}

/// Closes what the starter's shell had open beyond the three standard descriptors, so that nobody waits for us.
fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let inherited: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in inherited {
        // The folder's own descriptor is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// Tells the starter that the cloud is ready.
pub(crate) fn tell_ready() {
    tell(READY);
}

/// Tells the starter why there is no cloud.
pub(crate) fn tell_failed(report: &Report) {
    tell(&serde_json::to_string(report).expect("a report is strings"));
}

fn tell(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
    let _ = io::stdout().flush();
    // Lets go of the pipe: the starter must not wait for our end.
    if let Ok(null) = File::options().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(null);
    }
}
