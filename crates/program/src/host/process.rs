//! The child process as the parent holds it: its socket, its console, its end.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
    process::Command,
    task::spawn_blocking,
    time::timeout,
};

use super::wire::line;

/// How long a process may take to end that has closed its socket.
const PATIENCE: Duration = Duration::from_secs(5);

/// A child process. Dropping it kills it, with everything it started.
pub(super) struct Child {
    process: tokio::process::Child,
    group: Pid,
    lines: Lines<OwnedReadHalf>,
    writer: Writer,
    output: Output,
}

pub(super) struct Writer(OwnedWriteHalf);

impl Writer {
    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.0.write_all(&line(message)).await
    }
}

/// Lines of a stream. `next` may be dropped at any time: a part of a line that was read is kept.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    partial: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), partial: Vec::new() }
    }

    /// None at the end.
    pub(super) async fn next(&mut self) -> Option<Vec<u8>> {
        let read = self.reader.read_until(b'\n', &mut self.partial).await;
        match (read, self.partial.last()) {
            (Ok(_), Some(b'\n')) => {
                self.partial.pop();
                Some(std::mem::take(&mut self.partial))
            }
            _ => None,
        }
    }
}

/// What the program prints.
pub(super) struct Output {
    lines: Option<Lines<pipe::Receiver>>,
}

impl Output {
    /// The next line. Waits for ever once the program can print no more; None stands for that moment.
    pub(super) async fn next(&mut self) -> Option<String> {
        let Some(lines) = &mut self.lines else { return std::future::pending().await };
        match lines.next().await {
            Some(line) => Some(text(&line)),
            None => {
                let rest = text(&std::mem::take(&mut lines.partial));
                self.lines = None;
                (!rest.is_empty()).then_some(rest)
            }
        }
    }

    /// Hands over what was printed and not read yet. The program is dead, so all of it is in the pipe.
    fn drain(&mut self, console: &dyn Fn(&str)) {
        let Some(Lines { reader, mut partial }) = self.lines.take() else { return };
        partial.extend_from_slice(reader.buffer());
        if let Ok(fd) = reader.into_inner().into_nonblocking_fd() {
            // Ends with "would block" if the program left something behind that holds the pipe open.
            let _ = std::fs::File::from(fd).read_to_end(&mut partial);
        }
        for line in partial.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            console(&text(line));
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

impl Child {
    pub(super) fn start(program: &Path, args: &[OsString]) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let (console, printer) = io::pipe()?;
        let mut command = std::process::Command::new(program);
        command
            .args(args)
            .stdin(OwnedFd::from(theirs))
            .stdout(printer.try_clone()?)
            .stderr(Stdio::from(printer))
            // A Ctrl-C in the terminal is the parent's to handle.
            .process_group(0);
        let mut command = Command::from(command);
        let process = command.kill_on_drop(true).spawn()?;
        // The command holds the child's ends; while it does, they never close.
        drop(command);
        let group = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        ours.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(ours)?.into_split();
        Ok(Self {
            group: group.ok_or_else(|| io::Error::other("the process ended while it was started"))?,
            process,
            lines: Lines::new(reader),
            writer: Writer(writer),
            output: Output { lines: Some(Lines::new(pipe::Receiver::from_owned_fd(console.into())?)) },
        })
    }

    pub(super) fn ends(&mut self) -> (&mut Lines<OwnedReadHalf>, &mut Writer, &mut Output) {
        (&mut self.lines, &mut self.writer, &mut self.output)
    }

    /// Ends the process, and hands over the rest of its console. `done`: it said how it ended, so its status is of no
    /// interest; else it closed the socket because it is ending, and its status tells why.
    pub(super) async fn end(mut self, done: bool, console: &(dyn Fn(&str) + Sync)) -> io::Result<ExitStatus> {
        if !done && let Some(pid) = self.process.id() {
            // Seen, but not waited for: its group must exist when it is killed.
            let seen = spawn_blocking(move || {
                waitid(Id::Pid(Pid::from_raw(pid.cast_signed())), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
            });
            let _ = timeout(PATIENCE, seen).await;
        }
        self.kill();
        let status = self.process.wait().await?;
        self.output.drain(console);
        Ok(status)
    }

    fn kill(&self) {
        // The group exists as long as the process was not waited for, so the signal reaches nobody else.
        if self.process.id().is_some() {
            let _ = killpg(self.group, Signal::SIGKILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
