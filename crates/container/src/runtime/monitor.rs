//! Speaks with `conmon`, the monitor of one container.
//!
//! It forks away from us twice and leads a session of its own, so a signal to our process group does not reach it.
//! It holds the container's output, writes the log, and at the end syncs the log and then writes the exit code.
//!
//! It gives a container no standard input, or one that somebody has to stay alive to write. So a container with an event has a
//! file there: the runtime, which hands its own standard input to the container, is started by a shell that opens the file.
//!
//! Which process it is: `conmon.pid`, checked against its command line, since process ids are used again. That it is
//! on its way although it has not written that file yet: the `monitor` lock, which it inherits. It gives that lock
//! back a moment before it writes the exit code, so a free lock alone proves nothing.

use std::{
    ffi::OsString,
    fs,
    io::ErrorKind,
    os::{fd::AsRawFd, fd::OwnedFd, unix::ffi::OsStrExt},
    process::Stdio,
    sync::Arc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Deserialize;
use tokio::{io::AsyncReadExt, net::unix::pipe, process::Command};

use super::{
    bundle::Bundle,
    program::{Found, PATH},
};
use crate::{
    ContainerError,
    layout::{Layout, at},
    log, tool,
};

/// A monitor that lives, held by a descriptor that no later process can take over.
#[derive(Debug)]
pub(super) struct Monitor {
    pid: Pid,
    handle: OwnedFd,
}

/// What `conmon` says through its sync pipe, `--api-version 1`: the process, or a negative number and the reason.
#[derive(Deserialize)]
struct Report {
    data: i32,
    #[serde(default)]
    message: String,
}

/// Starts the monitor, which lets the runtime create the container. Returns the container's process.
pub(super) async fn launch(
    found: &Found,
    bundle: &Bundle,
    lock: &Arc<OwnedFd>,
    layout: &Layout,
) -> Result<i32, ContainerError> {
    let failed = |reason: String| ContainerError::Start { reason };
    let (reader, writer) = std::io::pipe().map_err(|error| failed(format!("no pipe: {error}")))?;
    let writer = Arc::new(OwnedFd::from(writer));
    let mut command = Command::new(&found.monitor);
    command
        .env_clear()
        .env("PATH", PATH)
        // Its option parser refuses bytes that its locale does not know, and paths may have any.
        .env("LC_ALL", "C.UTF-8")
        .env("_OCI_SYNCPIPE", writer.as_raw_fd().to_string())
        .args(["--api-version", "1", "--full-attach", "--log-level", "error"])
        .arg("--cid")
        .arg(&bundle.id.0)
        .arg("--cuuid")
        .arg(&bundle.id.0)
        .arg("--name")
        .arg(&bundle.id.0)
        .args(runtime(found, bundle))
        .args(["--runtime-arg", "--root", "--runtime-arg"])
        .arg(layout.runtime_state())
        .arg("--bundle")
        .arg(&bundle.folder)
        .arg("--container-pidfile")
        .arg(bundle.container_pid_file())
        .arg("--conmon-pidfile")
        .arg(bundle.monitor_pid_file())
        .arg("--exit-dir")
        .arg(layout.exits())
        .arg("--persist-dir")
        .arg(bundle.persist())
        .arg("--log-path")
        .arg(format!("k8s-file:{}", bundle.log.display()))
        .args(["--log-size-max", &log::PART.to_string()])
        .current_dir(&bundle.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C in the terminal of `tandem serve` is not meant for a container that is about to start.
        .process_group(0);
    crate::descriptor::inherit(&mut command, vec![lock.clone(), writer.clone()]);
    super::scope::close(&mut command);
    let child = command.spawn().map_err(|error| failed(format!("conmon: {error}")))?;
    drop(command);
    drop(writer);
    // The child forks the monitor and ends; its end of the pipe stays with the monitor for life, so read one line.
    let (parent, report) = tokio::join!(child.wait_with_output(), read_line(reader.into()));
    let report = report.map_err(|error| failed(format!("conmon: {error}")))?;
    if let Ok(report) = serde_json::from_str::<Report>(&report) {
        if report.data > 0 {
            return Ok(report.data);
        }
        return Err(failed(tool::words(&report.message)));
    }
    // Options it does not like it reports on stdout, everything else on stderr.
    let said = parent.map(|done| [done.stdout, done.stderr].concat()).unwrap_or_default();
    let said = tool::words(&String::from_utf8_lossy(&said));
    Err(failed(if said.is_empty() {
        "conmon ended without a word".into()
    } else {
        format!("conmon: {said}")
    }))
}

/// The shell's `$0` is the runtime, `$1` the file; the rest is for the runtime.
const WITH_INPUT: &str = "event=$1; shift; exec \"$0\" \"$@\" <\"$event\"";

/// How the monitor starts the runtime.
fn runtime(found: &Found, bundle: &Bundle) -> Vec<OsString> {
    let Some(event) = super::exchange::event(&bundle.folder) else {
        return vec!["--runtime".into(), found.runtime.clone().into()];
    };
    let words = ["-c".into(), WITH_INPUT.into(), found.runtime.clone().into(), event.into_os_string()];
    let words = words.into_iter().flat_map(|word: OsString| ["--runtime-arg".into(), word]);
    ["--runtime".into(), "/bin/sh".into()].into_iter().chain(words).collect()
}

async fn read_line(reader: OwnedFd) -> std::io::Result<String> {
    let mut reader = pipe::Receiver::from_owned_fd(reader)?;
    let mut line = Vec::new();
    let mut buffer = [0; 4096];
    while !line.contains(&b'\n') {
        match reader.read(&mut buffer).await? {
            0 => break,
            n => line.extend_from_slice(&buffer[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// The monitor of a container, if it lives.
pub(super) fn find(bundle: &Bundle) -> Result<Option<Monitor>, ContainerError> {
    // Between fork and writing its pid file the monitor is a few system calls away from being found. Only who looks
    // in the very moment after its starter was killed waits here.
    for _ in 0..200 {
        let locked = bundle.is_monitored()?;
        let path = bundle.monitor_pid_file();
        match fs::read_to_string(&path) {
            Ok(text) => {
                return Ok(text
                    .trim()
                    .parse()
                    .ok()
                    .and_then(Pid::from_raw)
                    .and_then(|pid| open(bundle, pid)));
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !locked => return Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(at(path)(error)),
        }
    }
    Err(ContainerError::Tool { tool: "conmon", reason: "it does not write its pid file".into() })
}

fn open(bundle: &Bundle, pid: Pid) -> Option<Monitor> {
    let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Read after opening: the handle is of this process or of one that has ended.
    let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let ours = bundle.folder.as_os_str().as_bytes();
    arguments.split(|byte| *byte == 0).any(|argument| argument == ours).then_some(Monitor { pid, handle })
}

impl Monitor {
    /// Returns when the monitor has ended; by then the exit code is written, if it ever will be.
    pub(super) async fn ended(self) -> Result<(), ContainerError> {
        crate::descriptor::readable(self.handle)
            .await
            .map_err(|error| ContainerError::Tool { tool: "conmon", reason: error.to_string() })
    }

    /// Kills the monitor, and the runtime if it is still creating the container. The container's own process is not
    /// in this group.
    pub(super) fn kill_group(&self) {
        // It may have ended a moment ago, which is what we want.
        let _ = kill_process_group(self.pid, Signal::KILL);
    }
}
