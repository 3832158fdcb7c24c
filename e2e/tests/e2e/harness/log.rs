//! The log, followed: how a test waits.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use serde_json::Value;

use super::PATIENCE;

/// A line of `tandem logs --json`.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// The resource's urn.
    pub(crate) resource: String,
    pub(crate) stream: String,
    pub(crate) text: String,
}

/// `tandem logs --follow`, from the first line that is kept.
pub(crate) struct Log {
    child: Child,
    lines: mpsc::Receiver<Line>,
    /// All that came so far.
    seen: Vec<Line>,
}

impl Log {
    pub(super) fn follow(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
                let line = Line { resource: field("resource"), stream: field("stream"), text: field("text") };
                eprintln!("[log] {} {} {}", line.resource, line.stream, line.text);
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains this. Lines that were waited for before count.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> Line {
        self.wait_for_times(text, 1)
    }

    /// Waits until so many lines contain this; gives the last of them.
    #[track_caller]
    pub(crate) fn wait_for_times(&mut self, text: &str, times: usize) -> Line {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let matching: Vec<&Line> = self.seen.iter().filter(|line| line.text.contains(text)).collect();
            if matching.len() >= times {
                return matching[times - 1].clone();
            }
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(error) => {
                    panic!("`{text}` was not logged {times} times ({error}); the log: {:#?}", self.texts())
                }
            }
        }
    }

    /// What was logged so far.
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.seen.iter().map(|line| line.text.as_str()).collect()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
