//! One line that is drawn over and over, while something long happens.

use std::time::{Duration, Instant};

use super::{Terminal, text::cut};

/// How often the line is drawn at most.
const EVERY: Duration = Duration::from_millis(100);

/// A line of progress. Where there is no terminal, nothing is shown.
#[derive(Debug)]
pub(crate) struct Steady {
    terminal: Terminal,
    drawn: Option<Instant>,
}

impl Steady {
    pub(crate) fn new(terminal: &Terminal) -> Self {
        Self { terminal: terminal.clone(), drawn: None }
    }

    /// The same line, for another thread to draw.
    pub(crate) fn detached(&self) -> Self {
        Self::new(&self.terminal)
    }

    pub(crate) fn show(&mut self, text: &str) {
        if self.terminal.is_interactive() && self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY) {
            self.drawn = Some(Instant::now());
            let columns = self.terminal.size().0;
            self.terminal.write(&format!("\r\x1b[K{}", cut(text, columns.saturating_sub(1))));
        }
    }

    /// Makes room for what is said next.
    pub(crate) fn clear(&self) {
        if self.terminal.is_interactive() {
            self.terminal.write("\r\x1b[K");
        }
    }
}
