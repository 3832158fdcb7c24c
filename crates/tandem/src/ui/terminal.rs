//! The one place that writes: data to standard output, everything else to standard error.

use std::{
    env,
    io::{self, IsTerminal, Write},
    ops::ControlFlow,
};

use super::style::Style;

/// Where a command speaks to a person. A terminal that went away is no reason to fail: writes that fail are dropped.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    interactive: bool,
    color: bool,
}

impl Terminal {
    /// Standard error as it is: colours and redrawing only if it is a terminal, no colours if `NO_COLOR` is set
    /// (<https://no-color.org>) or the terminal is `dumb`.
    pub(crate) fn stderr() -> Self {
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let interactive = io::stderr().is_terminal() && !dumb;
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { interactive, color: interactive && !no_color }
    }

    /// Whether lines can be redrawn, and somebody can be asked.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// The style of this moment: a window can change its width at any time.
    pub(crate) fn style(&self) -> Style {
        Style { color: self.color, width: self.size().0 }
    }

    /// The style of data on standard output: coloured only if a person reads it there.
    pub(crate) fn data_style(&self) -> Style {
        let style = self.style();
        Style { color: style.color && io::stdout().is_terminal(), ..style }
    }

    /// Columns and rows. Where there is no terminal, text is not cut.
    pub(crate) fn size(&self) -> (usize, usize) {
        let size = self.interactive.then(|| rustix::termios::tcgetwinsize(io::stderr()).ok()).flatten();
        match size {
            Some(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ if self.interactive => (80, 24),
            _ => (200, 24),
        }
    }

    /// Writes text for a person, as it is.
    pub(crate) fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }

    /// Writes a line for a person.
    pub(crate) fn say(&self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Writes data, for a program or a pipe, as it is.
    pub(crate) fn data(&self, text: &str) {
        let _ = self.feed(text);
    }

    /// Writes data of which more is to come. Breaks once nobody reads it any more, as behind `| head`.
    pub(crate) fn feed(&self, text: &str) -> ControlFlow<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
