//! How a command ends: its exit code, and the error it prints.
//!
//! | code | |
//! |---|---|
//! | 0 | done |
//! | 1 | failed; the error has a code |
//! | 2 | wrong usage: nothing was begun |
//! | 3 | declined at the prompt: nothing was changed |
//! | 129, 130, 143 | stopped by SIGHUP, Ctrl-C, SIGTERM |
//!
//! `tandem run` ends with the container's code, and with [`RUN_FAILED`] where there is none.

use std::process::ExitCode;

use tandem_model::{Explain, Report};

use crate::{ui, ui::Terminal};

/// Why a command did not do as asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error to print; exit code 1.
    Reported(Box<Report>),
    /// An error to print, and the exit code that goes with it.
    Ended(Box<Report>, u8),
    /// Ended with this exit code, everything said already.
    Code(u8),
}

/// The exit code for wrong usage.
pub(crate) const USAGE: u8 = 2;
/// The exit code for "declined at the prompt".
pub(crate) const DECLINED: u8 = 3;
/// The exit code of `tandem run` if the container has none, as with `docker run` and `podman run`.
pub(crate) const RUN_FAILED: u8 = 125;

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Reported(Box::new(error.report()))
    }
}

impl Failure {
    pub(crate) fn report(report: Report) -> Self {
        Self::Reported(Box::new(report))
    }

    /// The same failure with an exit code of its own.
    pub(crate) fn with_code(self, code: u8) -> Self {
        match self {
            Self::Reported(report) | Self::Ended(report, _) => Self::Ended(report, code),
            Self::Code(code) => Self::Code(code),
        }
    }
}

/// Prints what went wrong, if something did, and gives the exit code.
pub(crate) fn code(result: Result<(), Failure>, terminal: &Terminal) -> ExitCode {
    let (report, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Code(code)) => return ExitCode::from(code),
        Err(Failure::Reported(report)) => (report, 1),
        Err(Failure::Ended(report, code)) => (report, code),
    };
    if terminal.json() {
        terminal.say(&ui::error_json(&report, code));
    } else {
        terminal.write(&ui::error(&report, terminal.style()));
    }
    ExitCode::from(code)
}
