//! Being asked to stop: by Ctrl-C, by whoever started us (SIGTERM), by a terminal that closes (SIGHUP).
//!
//! The rule for every command that has something to finish: the first request finishes what runs and says so, the
//! second stops. Commands that have nothing to finish leave the signals to the system, which ends them at once.

use std::fs;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Failure;

/// Which of the requests it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interruption {
    Interrupt,
    Terminate,
    HangUp,
}

impl Interruption {
    /// What shells make of a process that the signal ended: 128 and its number.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    fn kind(self) -> SignalKind {
        match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Terminate => SignalKind::terminate(),
            Self::HangUp => SignalKind::hangup(),
        }
    }
}

/// The requests as they come.
#[derive(Debug)]
pub(crate) struct Interruptions(Vec<(Interruption, Signal)>);

impl Interruptions {
    /// From now on the requests are ours to answer. What whoever started us has ignored (`nohup`, a job that a script
    /// puts into the background) stays ignored.
    ///
    /// # Errors
    /// If the machine has no resources left.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let ignored = ignored();
        let all = [Interruption::Interrupt, Interruption::Terminate, Interruption::HangUp];
        let heard = all.into_iter().filter(|which| ignored & bit(which.kind()) == 0);
        let signals = heard.map(|which| Ok((which, signal(which.kind())?)));
        signals.collect::<std::io::Result<_>>().map(Self).map_err(|error| crate::commands::no_runtime(&error))
    }

    /// The next request. It may be dropped and asked again without losing one.
    pub(crate) async fn next(&mut self) -> Interruption {
        std::future::poll_fn(|context| {
            for (which, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

fn bit(kind: SignalKind) -> u64 {
    1 << (kind.as_raw_value() - 1)
}

/// The signals that this process ignores, as a mask. Unreadable: none.
fn ignored() -> u64 {
    mask(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn mask(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores_is_seen() {
        let hangup = mask("Name:\ttandem\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000000\n");
        assert_eq!(hangup, bit(SignalKind::hangup()));
        assert_eq!(hangup & bit(SignalKind::interrupt()), 0);
        assert_eq!(mask(""), 0);
    }
}
