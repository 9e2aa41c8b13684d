//! Pauses between attempts.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use dms_core::ports::RetryPolicy;

/// The pauses of one run of failures: each is random within the upper half of a bound that starts
/// at `pause_min` and doubles up to `pause_max`.
pub(super) struct Backoff {
    policy: RetryPolicy,
    pauses: ExponentialBackoff,
    attempts: u32,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, pauses: Self::pauses(policy), attempts: 0 }
    }

    fn pauses(policy: RetryPolicy) -> ExponentialBackoff {
        // Jitter adds up to as much again.
        ExponentialBuilder::new()
            .with_min_delay(policy.pause_min / 2)
            .with_max_delay(policy.pause_max / 2)
            .with_jitter()
            .without_max_times()
            .build()
    }

    /// Counts a failed attempt and gives the pause after it.
    pub(super) fn failed(&mut self) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        self.pauses.next().unwrap_or(self.policy.pause_max)
    }

    /// Failed attempts in a row.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Something succeeded: the next pause is short again.
    pub(super) fn progressed(&mut self) {
        *self = Self::new(self.policy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_with_jitter() {
        let policy = RetryPolicy {
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_millis(300),
        };
        let mut backoff = Backoff::new(policy);
        for bound in [50, 100, 200, 300, 300, 300] {
            let pause = backoff.failed();
            let bound = Duration::from_millis(bound);
            assert!(pause >= bound / 2 && pause <= bound, "{pause:?} for {bound:?}");
        }
        assert_eq!(backoff.attempts(), 6);
        backoff.progressed();
        assert!(backoff.failed() <= policy.pause_min);
        assert_eq!(backoff.attempts(), 1);
    }
}
