//! Metrics of a runner, through the `metrics` facade.

use std::sync::Arc;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};

const CHANGES: &str = "dms_stream_changes_total";
const BATCH_SIZE: &str = "dms_stream_batch_size";
const COMMIT_TO_APPLIED: &str = "dms_stream_commit_to_applied_seconds";
const LAG: &str = "dms_stream_lag_changes";
const LAG_SECONDS: &str = "dms_stream_lag_seconds";
const DEAD_LETTERS: &str = "dms_stream_dead_letters";

/// The meters of one consumer.
pub(super) struct Meters {
    consumer: Arc<str>,
}

impl Meters {
    pub(super) fn new(consumer: &str) -> Self {
        Self { consumer: consumer.into() }
    }

    pub(super) fn describe() {
        describe_counter!(CHANGES, Unit::Count, "changes by what became of them");
        describe_histogram!(BATCH_SIZE, Unit::Count, "records per batch");
        describe_histogram!(COMMIT_TO_APPLIED, Unit::Seconds, "time from commit to effect");
        describe_gauge!(LAG, Unit::Count, "changes committed but not acknowledged");
        describe_gauge!(
            LAG_SECONDS,
            Unit::Seconds,
            "time since when changes may be missing; 0 if none is"
        );
        describe_gauge!(DEAD_LETTERS, Unit::Count, "dead letters kept");
    }

    pub(super) fn changes(&self, sink: &'static str, outcome: &'static str, count: u64) {
        if count > 0 {
            let consumer = self.consumer.clone();
            counter!(CHANGES, "consumer" => consumer, "sink" => sink, "outcome" => outcome)
                .increment(count);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^52")]
    pub(super) fn batch(&self, records: usize) {
        histogram!(BATCH_SIZE, "consumer" => self.consumer.clone()).record(records as f64);
    }

    pub(super) fn applied(&self, since_commit: time::Duration) {
        histogram!(COMMIT_TO_APPLIED, "consumer" => self.consumer.clone())
            .record(since_commit.as_seconds_f64().max(0.0));
    }

    #[expect(clippy::cast_precision_loss, reason = "precise up to 2^52 changes")]
    pub(super) fn lag(&self, changes: u64) {
        gauge!(LAG, "consumer" => self.consumer.clone()).set(changes as f64);
    }

    pub(super) fn lag_seconds(&self, behind: time::Duration) {
        gauge!(LAG_SECONDS, "consumer" => self.consumer.clone()).set(behind.as_seconds_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "precise up to 2^52 letters")]
    pub(super) fn dead_letters(&self, count: u64) {
        gauge!(DEAD_LETTERS, "consumer" => self.consumer.clone()).set(count as f64);
    }
}
