//! Draws an update's progress: the lines that stay, and below them, redrawn, what is under way.

use std::time::Duration;

use tandem_engine::EngineEvent;
use tandem_model::plan::Step;
use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};

use super::{progress::Progress, terminal::Terminal, text};

/// How often running times are redrawn.
const TICK: Duration = Duration::from_millis(100);

/// What a display is told besides the engine's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// A line that the program printed.
    Printed(String),
    /// The person asked to stop: what runs is finished.
    Stopping,
    /// The person asked again: nothing is waited for.
    Stopped,
}

/// Draws an update's progress.
#[derive(Debug)]
pub(crate) struct Live {
    terminal: Terminal,
    progress: Progress,
    /// The columns of each line of status that is on the screen.
    drawn: Vec<usize>,
}

impl Live {
    /// For an update that does this plan.
    pub(crate) fn new(terminal: Terminal, plan: &[Step]) -> Self {
        Self { terminal, progress: Progress::of(plan), drawn: Vec::new() }
    }

    /// Draws until the update has let go of its end of `events`. What the program prints stays above the status.
    pub(crate) async fn consume(
        mut self,
        mut events: mpsc::UnboundedReceiver<EngineEvent>,
        mut notes: mpsc::UnboundedReceiver<Note>,
    ) {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { break };
                    let mut lines = self.take(event);
                    while let Ok(event) = events.try_recv() {
                        lines.extend(self.take(event));
                    }
                    self.draw(&lines);
                }
                Some(note) = notes.recv() => {
                    let lines = self.said(note);
                    self.draw(&lines);
                }
                _ = ticks.tick(), if !self.drawn.is_empty() => self.draw(&[]),
            }
        }
        let mut rest = Vec::new();
        while let Ok(note) = notes.try_recv() {
            rest.extend(self.said(note));
        }
        self.progress = Progress::default();
        self.draw(&rest);
    }

    fn take(&mut self, event: EngineEvent) -> Vec<String> {
        self.progress.on(event, self.terminal.style(), !self.terminal.is_interactive())
    }

    fn said(&self, note: Note) -> Vec<String> {
        let text = match note {
            // What moves the cursor would tear the display.
            Note::Printed(line) if self.terminal.is_interactive() => return vec![text::harmless(&line)],
            Note::Printed(line) => return vec![line],
            Note::Stopping => match self.progress.under_way() {
                steps if steps.is_empty() => "Stopping. Ctrl-C again stops at once.".into(),
                steps => format!("Stopping after what runs: {steps}. Ctrl-C again stops at once."),
            },
            Note::Stopped => "Stopped. The next command goes on from here.".into(),
        };
        text::wrapped(&text, self.terminal.style().width)
    }

    /// Replaces the status by these lines and a new status below, in one write so that nothing flickers.
    fn draw(&mut self, lines: &[String]) {
        let (columns, rows) = self.terminal.size();
        let mut frame = erased(&self.drawn, columns);
        let status = match self.terminal.is_interactive() {
            true => self.progress.status(
                Instant::now(),
                self.terminal.style(),
                rows.saturating_sub(2).clamp(1, 12),
            ),
            false => Vec::new(),
        };
        for line in lines.iter().chain(&status) {
            frame.push_str(line);
            frame.push('\n');
        }
        self.drawn = status.iter().map(|line| text::width(&text::harmless(line))).collect();
        if !frame.is_empty() {
            self.terminal.write(&frame);
        }
    }
}

/// What takes the cursor to the start of these lines and clears from there to the end of the screen (ECMA-48: CPL, ED).
/// A terminal that became narrower since has wrapped the lines that no longer fit, and so has more rows of them.
fn erased(drawn: &[usize], columns: usize) -> String {
    let rows: usize = drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
    if rows == 0 { String::new() } else { format!("\x1b[{rows}F\x1b[J") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_erased_whole() {
        assert_eq!(erased(&[], 80), "");
        assert_eq!(erased(&[80, 12], 80), "\x1b[2F\x1b[J");
        assert_eq!(erased(&[80, 12], 40), "\x1b[3F\x1b[J");
        assert_eq!(erased(&[0], 40), "\x1b[1F\x1b[J");
    }
}
