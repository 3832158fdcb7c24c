//! The one place that writes: data to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use tandem_model::Explain;

use super::{
    color::{Color, Wishes},
    style::Style,
};

/// Where a command speaks to a person and to programs. Words for a person that cannot be written are dropped: a
/// terminal that went away is no reason to fail. Data that cannot be written is an error.
#[derive(Debug, Clone)]
pub(crate) struct Terminal {
    interactive: bool,
    json: bool,
    /// Colours for people, and in data.
    color: (bool, bool),
}

/// Data that could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputError {
    /// Nobody reads any more, as behind `| head`: an end, not a failure.
    #[error("nobody reads the output any more")]
    Closed,
    #[error("cannot write the output")]
    Failed { source: io::Error },
}

impl Explain for OutputError {
    fn code(&self) -> &'static str {
        "E0143"
    }
    fn help(&self) -> String {
        "see what standard output leads to: a full disk, a device, or a file that may not be written".into()
    }
}

impl Terminal {
    /// The standard streams as they are: redrawing only if standard error is a terminal, colours as [`Color`] decides.
    /// With `json`, data and errors are JSON.
    pub(crate) fn new(json: bool, color: Color) -> Self {
        let wishes = Wishes::of_environment();
        let applies = |is_terminal| color.applies(is_terminal, wishes) && !json;
        Self {
            interactive: io::stderr().is_terminal() && !wishes.dumb,
            json,
            color: (applies(io::stderr().is_terminal()), applies(io::stdout().is_terminal())),
        }
    }

    /// Whether lines can be redrawn, and somebody can be asked.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether data and errors are JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// The style of this moment: a window can change its width at any time.
    pub(crate) fn style(&self) -> Style {
        Style { color: self.color.0, width: self.size().0 }
    }

    /// The style of data on standard output: as wide as what it is read on.
    pub(crate) fn data_style(&self) -> Style {
        Style { color: self.color.1, width: self.data_width().unwrap_or(NO_TERMINAL.0) }
    }

    /// The columns that data may take; none where a program reads it, which gets all of it.
    pub(crate) fn data_width(&self) -> Option<usize> {
        let is_terminal = io::stdout().is_terminal();
        is_terminal.then(|| size(io::stdout()).map_or(UNKNOWN.0, |(columns, _)| columns))
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (usize, usize) {
        if !self.interactive {
            return NO_TERMINAL;
        }
        size(io::stderr()).unwrap_or(UNKNOWN)
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

    /// Writes a line for a person who watches; not with `--json`, whose data says the same.
    pub(crate) fn note(&self, line: &str) {
        if !self.json {
            self.say(line);
        }
    }

    /// Writes data, for a program or a pipe, as it is. A reader that went away is no error.
    ///
    /// # Errors
    /// [`OutputError::Failed`] if it cannot be written.
    pub(crate) fn data(&self, text: &str) -> Result<(), OutputError> {
        match self.feed(text) {
            Err(OutputError::Closed) => Ok(()),
            other => other,
        }
    }

    /// Writes a value as JSON, laid out for reading.
    ///
    /// # Errors
    /// As [`Terminal::data`].
    pub(crate) fn record(&self, value: &impl serde::Serialize) -> Result<(), OutputError> {
        self.data(&format!(
            "{}\n",
            serde_json::to_string_pretty(value).expect("records are structs with string keys")
        ))
    }

    /// Writes data of which more is to come.
    ///
    /// # Errors
    /// [`OutputError`]; `Closed` once nobody reads it any more.
    pub(crate) fn feed(&self, text: &str) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|source| {
            match source.kind() {
                io::ErrorKind::BrokenPipe => OutputError::Closed,
                _ => OutputError::Failed { source },
            }
        })
    }
}

/// Where there is no terminal, text is laid out in this much room.
const NO_TERMINAL: (usize, usize) = (200, 24);
/// A terminal that does not tell its size.
const UNKNOWN: (usize, usize) = (80, 24);

fn size(of: impl std::os::fd::AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(of).ok()?;
    (size.ws_col > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}
