//! What a runner is told.

use std::time::Duration;

use dms_core::ports::{BatchLimits, RetryPolicy, StartAt};

/// How a [`Runner`](super::Runner) works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerOptions {
    /// Name of the consumer, for dead letters, metrics and logs.
    pub consumer: String,
    /// How much one batch may hold. One batch is in memory at a time.
    pub limits: BatchLimits,
    /// Least time between the beginnings of two batches, so that a sink whose batches are costly
    /// isn't driven once per change. The first change after a quiet time goes through at once, and
    /// nothing waits after a full batch.
    pub linger: Duration,
    /// To how much `linger` grows while batches take the sinks long: three times as long as the last
    /// one took, so that other work on the machine isn't crowded out. Not below `linger`.
    pub linger_max: Duration,
    /// Pauses between attempts. There is no last attempt: nothing is dropped.
    pub retry: RetryPolicy,
    /// How many dead letters the consumer may have; at this number the runner holds, until somebody
    /// removes some. 0 counts as 1.
    pub dead_letter_budget: u64,
    /// Where [`run`](super::Runner::run) begins, each time it is called.
    pub start: StartAt,
    /// How long the batch in flight may still take once the runner is told to stop.
    pub stop_grace: Duration,
}

impl RunnerOptions {
    /// Options for a consumer: starts where it acknowledged, no linger, 1,000 dead letters, 5 s of
    /// grace.
    pub fn new(consumer: impl Into<String>) -> Self {
        Self {
            consumer: consumer.into(),
            limits: BatchLimits::default(),
            linger: Duration::ZERO,
            linger_max: Duration::ZERO,
            retry: RetryPolicy::default(),
            dead_letter_budget: 1_000,
            start: StartAt::Acknowledged,
            stop_grace: Duration::from_secs(5),
        }
    }

    /// From the beginning of a batch, which has taken the sinks as long as `took`, to that of the
    /// next one.
    pub(super) fn linger_after(&self, records: usize, took: Duration) -> Duration {
        if records >= self.limits.records_max {
            // More waits already where a batch is full.
            return Duration::ZERO;
        }
        self.linger.max((took * 3).min(self.linger_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lingers_longer_while_batches_take_long_and_not_after_a_full_one() {
        let ms = Duration::from_millis;
        let options =
            RunnerOptions { linger: ms(50), linger_max: ms(250), ..RunnerOptions::new("index") };
        for (took, expected) in [(0, 50), (10, 50), (20, 60), (70, 210), (5_000, 250)] {
            assert_eq!(options.linger_after(1, ms(took)), ms(expected), "{took} ms");
        }
        assert_eq!(options.linger_after(options.limits.records_max, ms(70)), Duration::ZERO);
        let constant = RunnerOptions { linger: ms(5), ..RunnerOptions::new("index") };
        assert_eq!(constant.linger_after(1, ms(70)), ms(5));
        assert_eq!(RunnerOptions::new("index").linger_after(1, ms(70)), Duration::ZERO);
    }
}
