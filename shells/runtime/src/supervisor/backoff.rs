//! How long to wait before a task that failed is started again.

use std::time::Duration;

/// Waits that double from the first to the longest, each shortened by up to half at random, so that
/// what failed together isn't started together. A run that lasts starts over from the first wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// A run of at least this long counts as a success.
    pub forgiven_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            forgiven_after: Duration::from_mins(1),
        }
    }
}

impl Backoff {
    /// The wait after `failures` in a row, at least one.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff::default();
        for (failures, full_ms) in [(1, 200), (2, 400), (3, 800), (9, 30_000), (u32::MAX, 30_000)] {
            let full = Duration::from_millis(full_ms);
            for _ in 0..50 {
                let wait = backoff.wait(failures);
                assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
            }
        }
    }
}
