//! How far a source has delivered, and its consumer acknowledged.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dms_core::{Error, Result};
use tokio::time::Instant;

/// Least time between two writes of the acknowledged position.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Progress of one source, in memory.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    delivered: i64,
    acknowledged: i64,
    written: i64,
    tried_at: Instant,
}

impl Progress {
    /// Begins after `seq`, which is known to be durable.
    pub(super) fn begin(&self, seq: i64) {
        let tried_at = Instant::now();
        let state = State { delivered: seq, acknowledged: seq, written: seq, tried_at };
        *self.lock() = Some(state);
    }

    /// Position of the newest change delivered.
    ///
    /// # Errors
    /// `Internal` before the source is started.
    pub(super) fn delivered(&self) -> Result<i64> {
        let delivered = self.lock().as_ref().map(|state| state.delivered);
        delivered.ok_or_else(|| Error::internal("the change source was not started"))
    }

    pub(super) fn deliver(&self, seq: i64) {
        if let Some(state) = self.lock().as_mut() {
            state.delivered = seq;
        }
    }

    /// Position acknowledged, once the source is started.
    pub(super) fn acknowledged(&self) -> Option<i64> {
        self.lock().as_ref().map(|state| state.acknowledged)
    }

    /// # Errors
    /// `Internal` before the source is started.
    pub(super) fn acknowledge(&self, seq: i64) -> Result<()> {
        let mut state = self.lock();
        let state =
            state.as_mut().ok_or_else(|| Error::internal("the change source was not started"))?;
        state.acknowledged = state.acknowledged.max(seq);
        Ok(())
    }

    /// When the acknowledged position is to be written; none if there is nothing new to write.
    pub(super) fn write_due(&self) -> Option<Instant> {
        let state = self.lock();
        let state = state.as_ref().filter(|state| state.written < state.acknowledged)?;
        Some(state.tried_at + WRITE_EVERY)
    }

    /// The position to write, if there is a new one; counts as an attempt.
    pub(super) fn to_write(&self) -> Option<i64> {
        let mut state = self.lock();
        let state = state.as_mut().filter(|state| state.written < state.acknowledged)?;
        state.tried_at = Instant::now();
        Some(state.acknowledged)
    }

    pub(super) fn written(&self, seq: i64) {
        if let Some(state) = self.lock().as_mut() {
            state.written = state.written.max(seq);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn acknowledgements_are_due_once_a_second_at_most() {
        let progress = Progress::default();
        progress.acknowledge(1).expect_err("not started");
        progress.begin(5);
        assert_eq!(progress.write_due(), None);
        progress.acknowledge(7).expect("started");
        progress.acknowledge(6).expect("started");
        let due = progress.write_due().expect("something to write");
        assert_eq!(due, Instant::now() + WRITE_EVERY);

        tokio::time::advance(WRITE_EVERY).await;
        assert_eq!(progress.to_write(), Some(7));
        // Not written yet, as after a failure: due again, but not at once.
        assert_eq!(progress.write_due(), Some(Instant::now() + WRITE_EVERY));
        progress.written(7);
        assert_eq!((progress.write_due(), progress.to_write()), (None, None));
    }
}
