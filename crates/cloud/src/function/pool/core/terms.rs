//! What goes into the machine and what comes out: the words that it shares with its driver.

use std::time::Duration;

use super::Outcome;

/// Time since the cloud's start, on a clock that never goes back.
pub(crate) type Now = Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FunctionId(pub(crate) u32);
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);
/// Ordered by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InvocationId(pub(crate) u64);

/// What the machine can bear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Assigned workers that may start without waiting.
    pub(crate) at_once: usize,
    /// Assigned workers, ever.
    pub(crate) at_most: usize,
    /// Started but unassigned workers, kept while functions are in use.
    pub(crate) spares: usize,
    /// How long a worker may be idle, and spares unused.
    pub(crate) idle: Duration,
    /// How long nothing must finish before a worker beyond `at_once` may start.
    pub(crate) stall: Duration,
    /// How long a program's top level may take.
    pub(crate) init: Duration,
    /// Requests that may wait for one function.
    pub(crate) queue: usize,
}

/// One version of a function, as far as scheduling cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Definition {
    /// Workers of another generation finish what they have and go.
    pub(crate) generation: u64,
    pub(crate) concurrency: usize,
    /// Requests that one worker may have in flight.
    pub(crate) per_worker: usize,
    pub(crate) timeout: Duration,
}

/// Why a worker is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    OutOfMemory,
    Exited(i32),
    Signalled(i32),
    /// The process could not be started.
    NotStarted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Define {
        function: FunctionId,
        definition: Definition,
    },
    Remove {
        function: FunctionId,
    },
    Invoke {
        function: FunctionId,
        invocation: InvocationId,
    },
    /// Nobody waits for the answer any more. A request that has not started is forgotten.
    Abandon {
        invocation: InvocationId,
    },
    /// The worker asks for a request.
    Poll {
        worker: WorkerId,
    },
    /// The worker asked, and its connection went before a request was handed to it.
    Unpoll {
        worker: WorkerId,
    },
    /// The same, noticed while handing this one.
    PutBack {
        worker: WorkerId,
        invocation: InvocationId,
    },
    Answer {
        worker: WorkerId,
        invocation: InvocationId,
    },
    /// The worker says that it cannot start.
    InitFail {
        worker: WorkerId,
    },
    /// The process is gone.
    Exit {
        worker: WorkerId,
        loss: Loss,
    },
    /// What [`Effect::Look`] asked for: how many workers compute just now, and whether the machine has memory for one more.
    Looked {
        computing: usize,
        memory: bool,
    },
    /// Time has passed; see [`Core::due`].
    Tick,
    /// Takes nothing new; what runs may finish.
    Close,
    /// Kills what still runs.
    Abort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start a process. An [`Event::Exit`] will follow, also if it cannot be started.
    Start {
        worker: WorkerId,
    },
    Assign {
        worker: WorkerId,
        function: FunctionId,
        generation: u64,
    },
    Hand {
        worker: WorkerId,
        invocation: InvocationId,
    },
    Settle {
        invocation: InvocationId,
        outcome: Outcome,
    },
    Kill {
        worker: WorkerId,
    },
    /// See whether one more worker would help. An [`Event::Looked`] will follow.
    Look,
}

/// The event was refused, and nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no such function")]
    NoSuchFunction,
    #[error("too many requests wait")]
    QueueFull,
    #[error("the cloud closes")]
    Closing,
    #[error("that request is not in flight in that worker")]
    NotInFlight,
    #[error("that worker is not expected to ask")]
    NotExpected,
}
