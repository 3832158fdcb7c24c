//! When a scenario's process dies.

use std::sync::{Arc, Mutex};

use tandem_model::{Urn, plan::Op};
use tokio::sync::watch;

/// One life of the process. Everything that outlives it passes here first and comes by again afterwards; where the
/// life ends, nothing passes any more.
#[derive(Debug, Clone)]
pub(crate) struct Life(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    left: Mutex<Option<usize>>,
    after: Option<(Op, Urn)>,
    dead: watch::Sender<bool>,
}

impl Life {
    fn new(left: Option<usize>, after: Option<(Op, Urn)>) -> Self {
        Self(Arc::new(Inner { left: Mutex::new(left), after, dead: watch::Sender::new(false) }))
    }

    pub(crate) fn endless() -> Self {
        Self::new(None, None)
    }

    pub(crate) fn ending_at(effect: usize) -> Self {
        Self::new(Some(effect), None)
    }

    pub(crate) fn ending_after(op: Op, urn: Urn) -> Self {
        Self::new(None, Some((op, urn)))
    }

    /// Goes on, or never.
    pub(crate) async fn pass(&self) {
        let ends = {
            let mut left = self.0.left.lock().unwrap();
            *left = left.map(|n| n.saturating_sub(1));
            *left == Some(0)
        };
        if ends {
            self.0.dead.send_replace(true);
        }
        if *self.0.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Comes by after the target has done something.
    pub(crate) async fn did(&self, op: Op, urn: &Urn) {
        if self.0.after.as_ref().is_some_and(|(o, u)| *o == op && u == urn) {
            self.0.dead.send_replace(true);
        }
        self.pass().await;
    }

    /// Returns when the life has ended.
    pub(crate) async fn end(&self) {
        let _ = self.0.dead.subscribe().wait_for(|dead| *dead).await;
    }
}
