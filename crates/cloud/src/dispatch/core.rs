//! The life of a delivery, as a pure function of what happened.
//!
//! Waiting -Begin-> Trying -Succeed-> settled; Trying -Fail-> Waiting while attempts remain, else dead;
//! Trying -Throttle-> Waiting, uncounted.

use std::time::Duration;

use super::{Outcome, Undelivered};

/// The first retry waits about this long; each further one twice as long.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// No retry waits longer than this.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How long a consumer without room is left alone.
pub(crate) const THROTTLE: Duration = Duration::from_millis(200);

/// What to do with a delivery after an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Handled: the row goes.
    Settled,
    /// Try again after the pause; `attempt` attempts count so far.
    Again { attempt: u32, pause: Duration, error: Option<tandem_model::Report> },
    /// No attempt is left: to the dead letters.
    Dead { error: tandem_model::Report, log_tail: Vec<String> },
}

impl Next {
    /// What is told of it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Settled => Outcome::Handled,
            Self::Again { pause, error, .. } => Outcome::Again { pause: *pause, error: error.clone() },
            Self::Dead { error, .. } => Outcome::GivenUp { error: error.clone() },
        }
    }
}

/// Decides after attempt number `attempt`. `jitter` is in `0.0..1.0` and spreads retries that failed together.
pub(super) fn after(attempt: u32, max: u32, result: Result<(), Undelivered>, jitter: f64) -> Next {
    match result {
        Ok(()) => Next::Settled,
        Err(Undelivered::Throttled) => Next::Again {
            attempt: attempt.saturating_sub(1),
            pause: THROTTLE.mul_f64(0.5 + jitter),
            error: None,
        },
        Err(Undelivered::Failed { error, .. }) if attempt < max => {
            let pause = backoff(attempt).mul_f64(0.5 + jitter);
            Next::Again { attempt, pause, error: Some(error) }
        }
        Err(Undelivered::Failed { error, log_tail }) => Next::Dead { error, log_tail },
    }
}

/// How long to wait after so many attempts.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let doubled = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_BACKOFF.saturating_mul(doubled).min(LONGEST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tandem_model::Report;

    use super::*;

    fn failed() -> Undelivered {
        let error =
            Report { code: "E0601".into(), message: "no".into(), help: String::new(), causes: vec![] };
        Undelivered::Failed { error, log_tail: vec![] }
    }

    proptest! {
        #[test]
        fn a_delivery_that_always_fails_dies_after_exactly_its_attempts(max in 1u32..40, jitter in 0.0..1.0f64) {
            let mut attempts = 0;
            loop {
                attempts += 1;
                match after(attempts, max, Err(failed()), jitter) {
                    Next::Again { attempt, pause, .. } => {
                        prop_assert_eq!(attempt, attempts);
                        prop_assert!(pause <= LONGEST_BACKOFF * 2);
                    }
                    Next::Dead { .. } => break,
                    Next::Settled => prop_assert!(false),
                }
            }
            prop_assert_eq!(attempts, max);
        }

        #[test]
        fn throttling_never_uses_up_attempts(attempt in 1u32..10, jitter in 0.0..1.0f64) {
            let next = after(attempt, 1, Err(Undelivered::Throttled), jitter);
            let uncounted = matches!(next, Next::Again { attempt: a, .. } if a == attempt - 1);
            prop_assert!(uncounted);
        }
    }
}
