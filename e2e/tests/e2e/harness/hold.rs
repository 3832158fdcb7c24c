//! Holding a process at a failpoint, and commands that run while the test goes on.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};

use super::{PATIENCE, Ran};

/// A fifo at which a process is held: see the failpoint crate.
pub(crate) struct Hold(PathBuf);

impl Hold {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("hold-{name}"));
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        Self(path)
    }

    /// What `TANDEM_FAILPOINT` is set to: `at("name@2")`.
    pub(crate) fn at(&self, point: &str) -> String {
        format!("{point}:hold={}", self.0.display())
    }

    /// Waits until a process is held.
    #[track_caller]
    pub(crate) fn reached(&self) {
        let path = self.0.clone();
        within("nobody came to the failpoint", move || {
            let mut name = String::new();
            File::open(path).unwrap().read_to_string(&mut name).unwrap();
        });
    }

    /// Lets the process go on.
    #[track_caller]
    pub(crate) fn release(&self) {
        let path = self.0.clone();
        within("nobody is held any more", move || drop(OpenOptions::new().write(true).open(path).unwrap()));
    }
}

#[track_caller]
fn within(otherwise: &str, work: impl FnOnce() + Send + 'static) {
    let (send, done) = mpsc::channel();
    thread::spawn(move || {
        work();
        let _ = send.send(());
    });
    done.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{otherwise}"));
}

/// A command that runs beside the test; killed if the test does not wait for it.
pub(crate) struct Beside {
    shown: String,
    child: Option<Child>,
}

impl Beside {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        Self { shown: words.join(" "), child: Some(child) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// `kill -9`, and waits for its end.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ran(mut self) -> Ran {
        let child = self.child.take().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let (send, done) = mpsc::channel();
        thread::spawn(move || send.send(child.wait_with_output().unwrap()));
        let output = done.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = kill(pid, Signal::SIGKILL);
            panic!("`{}` did not end", self.shown)
        });
        Ran {
            shown: std::mem::take(&mut self.shown),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
