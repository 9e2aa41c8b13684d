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
            retry: RetryPolicy::default(),
            dead_letter_budget: 1_000,
            start: StartAt::Acknowledged,
            stop_grace: Duration::from_secs(5),
        }
    }
}
