//! When a run is tried again, and after which pause.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tandem_model::inputs::{Retries, RetryOn};

use super::Outcome;

/// One attempt that has ended and was followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What the task says about retries, and what makes the pauses of this run its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::task) struct Policy {
    #[serde(flatten)]
    pub(in crate::task) retries: Retries,
    pub(in crate::task) seed: u64,
}

impl Policy {
    /// Whether an attempt, counted from 1, that ended so is followed by another.
    pub(super) fn again(&self, attempt: u32, outcome: &Outcome) -> bool {
        let kind = match outcome {
            Outcome::Exited { code: 0 } | Outcome::Stopped | Outcome::Failed { .. } => return false,
            Outcome::Exited { .. } => RetryOn::Exited,
            Outcome::BadResult { .. } => RetryOn::BadResult,
            Outcome::OutOfMemory { .. } => RetryOn::OutOfMemory,
            Outcome::TimedOut => RetryOn::TimedOut,
            Outcome::Lost { .. } => RetryOn::Lost,
        };
        attempt < self.retries.attempts && self.retries.on.contains(&kind)
    }

    /// The pause after an attempt: doubled each time up to the bound, and of that between the half and the whole, so that
    /// runs which failed together do not come back together. The same for the same run and attempt, whoever asks.
    pub(super) fn pause(&self, attempt: u32) -> SignedDuration {
        let Retries { backoff, max_backoff, .. } = self.retries;
        let doubled = backoff * 2f64.powi(attempt.saturating_sub(1).min(64).cast_signed());
        let share = mixed(self.seed.wrapping_add(u64::from(attempt))) as f64 / u64::MAX as f64;
        let seconds = doubled.min(max_backoff) * (0.5 + share / 2.0);
        SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO)
    }
}

/// What is left of a pause that ends then: never more than the longest one, also if the clock was set back meanwhile.
pub(in crate::task) fn rest(policy: Option<&Policy>, until: Timestamp, now: Timestamp) -> SignedDuration {
    let longest =
        policy.and_then(|policy| SignedDuration::try_from_secs_f64(policy.retries.max_backoff).ok());
    until.duration_since(now).clamp(SignedDuration::ZERO, longest.unwrap_or(SignedDuration::ZERO))
}

/// SplitMix64 (Steele, Lea, Flood 2014): every bit of the answer depends on every bit of the seed.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32, seed: u64) -> Policy {
        let retries = serde_json::from_value(serde_json::json!({ "attempts": attempts, "maxBackoff": 60 }));
        Policy { retries: retries.unwrap(), seed }
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else_is() {
        let again = |outcome| policy(3, 1).again(2, &outcome);
        assert!(again(Outcome::Exited { code: 1 }) && again(Outcome::OutOfMemory { code: 137 }));
        assert!(again(Outcome::TimedOut));
        assert!(!again(Outcome::Exited { code: 0 }) && !again(Outcome::Stopped));
        assert!(
            !again(Outcome::Lost { full_disk: false })
                && !again(Outcome::BadResult { reason: String::new() })
        );
        assert!(!policy(3, 1).again(3, &Outcome::TimedOut), "the last one");
        let mut lost = policy(3, 1);
        lost.retries.on = vec![RetryOn::Lost];
        assert!(lost.again(1, &Outcome::Lost { full_disk: true }) && !lost.again(1, &Outcome::TimedOut));
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_differ_from_run_to_run() {
        for seed in 0..100 {
            let pause = |attempt| policy(99, seed).pause(attempt).as_secs_f64();
            for (attempt, whole) in [(1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (99, 60.0)] {
                assert!((whole / 2.0..=whole).contains(&pause(attempt)), "{attempt}: {}", pause(attempt));
            }
        }
        assert_eq!(policy(9, 7).pause(3), policy(9, 7).pause(3));
        let mut pauses: Vec<_> = (0..100).map(|seed| policy(9, seed).pause(1)).collect();
        pauses.sort();
        assert!(pauses[90] - pauses[10] > SignedDuration::from_millis(250), "{pauses:?}");
    }
}
