//! How an update is told to stop: first politely, then at once.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Go,
    /// Start nothing more; wait for what runs.
    Finish,
    /// Wait for nothing. What runs is in the journal and is repeated by the next update.
    Now,
}

/// A request to stop that everything in an update can see. Clones are the same request.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<Level>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Level::Go)))
    }
}

impl Stop {
    /// Asks once more: the first call lets running steps end, the second abandons them.
    pub fn request(&self) {
        self.0.send_modify(|level| {
            *level = match level {
                Level::Go => Level::Finish,
                Level::Finish | Level::Now => Level::Now,
            };
        });
    }

    /// Whether new steps may not start.
    pub fn requested(&self) -> bool {
        *self.0.borrow() >= Level::Finish
    }

    /// Returns once running steps are to be abandoned; never, if that is never asked.
    pub(crate) async fn abandoned(&self) {
        let mut level = self.0.subscribe();
        // The sender is ours, so it cannot be gone.
        let _ = level.wait_for(|level| *level == Level::Now).await;
    }
}
