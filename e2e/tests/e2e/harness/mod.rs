//! What the tests stand on: a cloud of their own, programs to deploy, the log to wait on, stock clients.

mod client;
mod cloud;
mod disk;
mod gate;
mod hold;
mod leaks;
mod log;
mod met;
mod program;
mod screen;

use std::{
    env,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

pub(crate) use self::{
    client::Client,
    cloud::{Cloud, Serving},
    disk::Disk,
    gate::{Gate, Visit},
    hold::{Beside, Hold},
    log::Log,
    met::Met,
    program::{Project, examples},
    screen::Screen,
};

/// How long anything may take that should happen. Long: the machine is small and shared.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A file that `cargo xtask test` prepares and names.
pub(crate) fn prepared(variable: &str) -> PathBuf {
    let file = env::var_os(variable).map(PathBuf::from);
    file.unwrap_or_else(|| panic!("{variable} is not set: run these tests with `cargo xtask test`"))
}

/// The built binary: what `TANDEM_BIN` names, or the one beside this test.
pub(crate) fn binary() -> PathBuf {
    if let Some(named) = env::var_os("TANDEM_BIN") {
        return named.into();
    }
    let test = env::current_exe().unwrap();
    let beside = test.ancestors().nth(2).unwrap().join("tandem");
    assert!(beside.is_file(), "{} is not built: run these tests with `cargo xtask test`", beside.display());
    beside
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) shown: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn run(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
        Self::of(command, &output)
    }

    fn of(command: &Command, output: &Output) -> Self {
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        Self {
            shown: format!("{} {}", command.get_program().to_string_lossy(), words.join(" ")),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything it printed, for a failing test to show.
    pub(crate) fn all(&self) -> String {
        format!("$ {}\n{}{}[exit code {:?}]", self.shown, self.stdout, self.stderr, self.code)
    }

    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.all());
        self
    }

    /// It must have failed with this error code, shown with help.
    #[track_caller]
    pub(crate) fn failed(self, code: &str) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.all());
        assert!(self.stderr.contains(&format!("error[{code}]")), "expected {code}:\n{}", self.all());
        self
    }

    /// It must have failed with an error that has a code.
    #[track_caller]
    pub(crate) fn refused(self) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.all());
        assert!(self.stderr.contains("error[E"), "{}", self.all());
        self
    }

    /// Its stderr must contain this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "expected `{text}`:\n{}", self.all());
        self
    }

    /// What it printed on stdout, without the last newline.
    pub(crate) fn value(&self) -> &str {
        self.stdout.trim_end()
    }
}
