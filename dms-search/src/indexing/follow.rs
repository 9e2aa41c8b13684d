//! The stream, taken into an index that is being built.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dms_core::model::change::{Change, Record, RecordBatch};
use dms_core::ports::{BatchLimits, ChangeSource};
use dms_core::{Error, ErrorChain, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::IndexingSink;
use super::persist::write_rows;
use super::sink::choose;

/// How long is waited for changes before the lag is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many times the lag that is wanted is good enough if it doesn't shrink any more.
const STEADY_LAGS: u64 = 10;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Takes changes out of a source of its own, a batch at a time: between two calls nothing is on its
/// way. What can't be decoded, or is rejected, is left to the consumer that keeps dead letters.
pub(super) struct Follower<'a> {
    source: &'a dyn ChangeSource,
    patience: Duration,
    taken: AtomicU64,
    failing_since: Mutex<Option<Instant>>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(source: &'a dyn ChangeSource, patience: Duration) -> Self {
        Self { source, patience, taken: AtomicU64::new(0), failing_since: Mutex::new(None) }
    }

    /// Records taken so far.
    pub(super) fn count(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes one batch, unless `until` is over first.
    pub(super) async fn next(
        &self,
        sink: &IndexingSink,
        until: impl Future<Output = ()>,
    ) -> Result<()> {
        let batch = tokio::select! {
            biased;
            () = until => return Ok(()),
            batch = self.source.next_batch(BatchLimits::default()) => batch,
        };
        let Some(batch) = self.patiently(batch).await? else { return Ok(()) };
        let RecordBatch { records, position } = batch;
        let count = records.len() as u64;
        let changes: Vec<Change> = records
            .into_iter()
            .filter_map(|record| match record {
                Record::Change(change) => Some(*change),
                Record::Poison(_) => None,
            })
            .collect();
        let rows = choose(&changes).1.into_iter().map(|(_, row)| row).collect();
        write_rows(sink, rows, self.patience).await?;
        self.taken.fetch_add(count, Ordering::Relaxed);
        // One that fails is made up for by the next.
        self.patiently(self.source.ack(&position).await).await?;
        Ok(())
    }

    /// Goes on until at most `lag_max` changes are ahead; or somewhat more, and no longer fewer: where
    /// many write and the index is slow, that many are on their way at any time.
    pub(super) async fn catch_up(&self, sink: &IndexingSink, lag_max: u64) -> Result<()> {
        let mut before = None;
        loop {
            if let Some(lag) = self.lag(sink).await? {
                let is_steady = before.is_some_and(|before| lag >= before)
                    && lag <= lag_max.saturating_mul(STEADY_LAGS);
                if lag <= lag_max || is_steady {
                    return Ok(());
                }
                before = Some(lag);
            }
            self.next(sink, sleep(LOOK_EVERY)).await?;
        }
    }

    /// Goes on until everything is taken that is committed by now.
    pub(super) async fn catch_up_to_now(&self, sink: &IndexingSink) -> Result<()> {
        let mut end = None;
        loop {
            if let Some(lag) = self.lag(sink).await? {
                let taken = self.count();
                if lag == 0 || taken >= *end.get_or_insert(taken + lag) {
                    return Ok(());
                }
            }
            self.next(sink, sleep(LOOK_EVERY)).await?;
        }
    }

    /// How many changes are ahead. Goes on meanwhile: on a busy machine it takes so long to find out
    /// that too many would come to ever catch up.
    async fn lag(&self, sink: &IndexingSink) -> Result<Option<u64>> {
        let (is_measured, measured) = (AtomicBool::new(false), Notify::new());
        let measure = async {
            let lag = self.source.lag().await;
            is_measured.store(true, Ordering::Release);
            measured.notify_one();
            Ok(lag)
        };
        let take = async {
            while !is_measured.load(Ordering::Acquire) {
                self.next(sink, measured.notified()).await?;
            }
            Ok::<_, Error>(())
        };
        let (lag, ()) = tokio::try_join!(measure, take)?;
        self.patiently(lag).await
    }

    /// What was answered; nothing, after a pause, for a failure that may pass.
    async fn patiently<T>(&self, answer: Result<T>) -> Result<Option<T>> {
        let error = match answer {
            Ok(answer) => {
                *self.failing_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Ok(Some(answer));
            }
            Err(error) => error,
        };
        let now = Instant::now();
        let since = {
            let mut since = self.failing_since.lock().unwrap_or_else(PoisonError::into_inner);
            *since.get_or_insert(now)
        };
        if !error.is_retryable() || now.duration_since(since) >= self.patience {
            return Err(error);
        }
        tracing::debug!(error = %ErrorChain(&error), "change stream of the rebuild failed, will retry");
        sleep(PAUSE_AFTER_FAILURE).await;
        Ok(None)
    }
}
