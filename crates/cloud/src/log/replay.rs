//! The past of a log, a line at a time.

use std::{
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use super::{Filter, Line, Log, LogError, blocking, cursor::Past, line_file::Reach};

/// How many lines may wait for whoever reads; the rest waits in the files.
const AHEAD: usize = 256;

/// Lines of the past, in the order of their times. Dropping it ends the reading.
#[derive(Debug)]
pub struct Replay {
    lines: mpsc::Receiver<Result<Line, LogError>>,
}

impl futures::Stream for Replay {
    type Item = Result<Line, LogError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_recv(context)
    }
}

impl Replay {
    pub(super) async fn begin(log: Log, filter: Filter) -> Result<Self, LogError> {
        log.flush().await;
        let tail = filter.tail;
        let mut cursors = blocking(move || log.cursors(&filter, Reach::Now)).await?;
        let (sender, lines) = mpsc::channel(AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut give = |line| match sender.blocking_send(Ok(line)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            let merged = if tail.is_some() {
                let mut past = Past::new(tail);
                let merged = cursors.merge(|line| {
                    past.push(line);
                    ControlFlow::Continue(())
                });
                let _ = past.into_lines().into_iter().try_for_each(&mut give);
                merged
            } else {
                cursors.merge(&mut give)
            };
            if let Err(error) = merged {
                let _ = sender.blocking_send(Err(error));
            }
        });
        Ok(Self { lines })
    }
}
