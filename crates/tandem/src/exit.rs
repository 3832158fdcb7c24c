//! How a command ends: its exit code, and the error it prints.

use std::process::ExitCode;

use tandem_model::{Explain, Report};

use crate::{ui, ui::Terminal};

/// Why a command did not do as asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error to print; exit code 1.
    Reported(Box<Report>),
    /// Ended with this exit code, everything said already.
    Code(u8),
}

/// The exit code for "declined at the prompt".
pub(crate) const DECLINED: u8 = 3;
/// The exit code for "interrupted": 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

impl<E: Explain> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Reported(Box::new(error.report()))
    }
}

impl Failure {
    pub(crate) fn report(report: Report) -> Self {
        Self::Reported(Box::new(report))
    }
}

/// Prints what went wrong, if something did, and gives the exit code.
pub(crate) fn code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Code(code)) => ExitCode::from(code),
        Err(Failure::Reported(report)) => {
            let terminal = Terminal::stderr();
            terminal.write(&ui::error(&report, terminal.style()));
            ExitCode::FAILURE
        }
    }
}
