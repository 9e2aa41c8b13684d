//! How far a consumer is behind, in time.

use std::sync::{Mutex, PoisonError};

use time::{Duration, OffsetDateTime};

/// The time up to which a consumer has everything that was committed, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Behind(Mutex<Option<OffsetDateTime>>);

impl Behind {
    /// Everything that was committed by `at` has been acknowledged.
    pub(super) fn reached(&self, at: OffsetDateTime) {
        let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Changes of several partitions come in no order of time.
        *reached = Some(reached.map_or(at, |reached| reached.max(at)));
    }

    /// A change committed at `at` comes next. Only the first one tells anything new.
    pub(super) fn comes_next(&self, at: OffsetDateTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(at);
    }

    /// How long ago that was; none before anything is known. Never negative, whatever the clocks say.
    pub(super) fn since(&self, now: OffsetDateTime) -> Option<Duration> {
        let reached = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reached.map(|reached| (now - reached).max(Duration::ZERO))
    }
}
