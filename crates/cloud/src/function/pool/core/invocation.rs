//! The life of one invocation.

use std::time::Duration;

use super::{Loss, Now, WorkerId};

/// One invocation: Queued -Hand-> Running -Answer-> settled; Running -Expire-> Expired -Lose-> settled.
///
/// A deadline that passes does not settle it at once: its worker is killed first, so that every line it printed
/// precedes the invocation's end, and so that a late answer finds nothing to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invocation {
    Queued,
    Running { worker: WorkerId, deadline: Now, timeout: Duration },
    Expired { worker: WorkerId, after: Duration },
}

/// What may happen to an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Hand {
        worker: WorkerId,
        at: Now,
        timeout: Duration,
    },
    /// The worker had stopped asking before the request reached it.
    PutBack {
        worker: WorkerId,
    },
    Answer {
        worker: WorkerId,
    },
    Expire,
    Lose(Loss),
    InitFail,
    InitExpire,
    /// The function is gone, or the cloud closes.
    Drop,
}

/// How an invocation ended. What the worker answered is the driver's; the core only decides whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    TimedOut {
        after: Duration,
    },
    Lost(Loss),
    /// The worker said that it cannot start.
    InitFailed,
    /// The program's top level did not finish.
    InitTimedOut,
    /// It never ran: its function was removed, or the cloud closes.
    Dropped,
}

/// The next state, or the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Becomes(Invocation),
    Settles(Outcome),
}

/// What happened cannot happen in this state. The state is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an invocation that is {state:?} cannot take {happening:?}")]
pub(crate) struct Illegal {
    state: Invocation,
    happening: Happening,
}

impl Invocation {
    /// Returns the next state. Pure; the driver does the I/O.
    ///
    /// # Errors
    /// [`Illegal`] for a late answer, an answer of another worker, and the like.
    pub(crate) fn on(self, happening: Happening) -> Result<Next, Illegal> {
        use Happening as H;
        use Invocation::{Expired, Queued, Running};
        Ok(match (self, happening) {
            (Queued, H::Hand { worker, at, timeout }) => {
                Next::Becomes(Running { worker, deadline: at + timeout, timeout })
            }
            (Running { worker, .. }, H::PutBack { worker: from }) if worker == from => Next::Becomes(Queued),
            (Running { worker, .. }, H::Answer { worker: from }) if worker == from => {
                Next::Settles(Outcome::Answered)
            }
            (Running { worker, timeout, .. }, H::Expire) => Next::Becomes(Expired { worker, after: timeout }),
            (Expired { after, .. }, H::Lose(_)) => Next::Settles(Outcome::TimedOut { after }),
            (Running { .. } | Queued, H::Lose(loss)) => Next::Settles(Outcome::Lost(loss)),
            (Queued, H::InitFail) => Next::Settles(Outcome::InitFailed),
            (Queued, H::InitExpire) => Next::Settles(Outcome::InitTimedOut),
            (Queued, H::Drop) => Next::Settles(Outcome::Dropped),
            (state, happening) => return Err(Illegal { state, happening }),
        })
    }
}
