//! An index that takes its time, fails at random and may be the last thing that happens.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_trait::async_trait;
use dms_core::fake::InMemorySearchIndex;
use dms_core::model::change::Position;
use dms_core::model::search::{
    AggregationQuery, Bucket, IndexEntry, IndexVersion, SearchQuery, SearchResults,
};
use dms_core::ports::{IndexProgress, Outcome, SearchIndex, StagedIndex};
use dms_core::{DocumentId, Error, Result};

/// Random numbers that a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Dice(Arc<Mutex<u64>>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed | 1)))
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        let mut state = self.0.lock().unwrap();
        // xorshift64*
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound.max(1)
    }

    /// True `percent` of the time.
    pub(crate) fn percent(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Lets others go first, a random number of times.
    pub(crate) async fn dawdle(&self) {
        for _ in 0..self.below(4) {
            tokio::task::yield_now().await;
        }
    }
}

/// An index whose calls are slow, and fail some of the time, before or after they took effect.
#[derive(Clone)]
pub(crate) struct Unruly<I: ?Sized = InMemorySearchIndex> {
    pub(crate) inner: Arc<I>,
    pub(crate) dice: Dice,
    pub(crate) failures_percent: u64,
}

impl<I: ?Sized> Unruly<I> {
    async fn turn(&self) -> Result<()> {
        self.dice.dawdle().await;
        if self.dice.percent(self.failures_percent) {
            return Err(Error::unavailable("search", "just so"));
        }
        Ok(())
    }
}

#[async_trait]
impl<I: SearchIndex + ?Sized> SearchIndex for Unruly<I> {
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults> {
        self.inner.search(query).await
    }

    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>> {
        self.inner.aggregate(query).await
    }

    async fn write(
        &self,
        mut entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        self.turn().await?;
        // Some documents fail by themselves; the position then stays where it was.
        let refused: Vec<bool> =
            entries.iter().map(|_| self.dice.percent(self.failures_percent)).collect();
        let mut refusals = refused.iter();
        entries.retain(|_| !refusals.next().copied().unwrap_or_default());
        let up_to = up_to.filter(|_| !refused.contains(&true));
        let mut written = self.inner.write(entries, up_to).await?.into_iter();
        let outcomes = refused.into_iter().map(|refused| {
            if refused { Outcome::Retry("just so".to_owned()) } else { written.next().unwrap() }
        });
        let outcomes = outcomes.collect();
        // The answer may be lost.
        self.turn().await?;
        Ok(outcomes)
    }

    async fn refresh(&self) -> Result<()> {
        self.inner.refresh().await
    }

    async fn progress(&self) -> Result<IndexProgress> {
        self.inner.progress().await
    }

    async fn versions(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<IndexVersion>> {
        self.dice.dawdle().await;
        let versions = self.inner.versions(after, limit).await;
        self.dice.dawdle().await;
        versions
    }

    async fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        self.dice.dawdle().await;
        let versions = self.inner.versions_of(ids).await;
        self.dice.dawdle().await;
        versions
    }

    async fn stage(&self) -> Result<Option<Arc<dyn StagedIndex>>> {
        let Some(staged) = self.inner.stage().await? else { return Ok(None) };
        let dice = self.dice.clone();
        Ok(Some(Arc::new(UnrulyStaged { staged, dice, failures_percent: self.failures_percent })))
    }

    async fn clear(&self) -> Result<()> {
        self.inner.clear().await
    }

    async fn count(&self) -> Result<u64> {
        self.inner.count().await
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

struct UnrulyStaged {
    staged: Arc<dyn StagedIndex>,
    dice: Dice,
    failures_percent: u64,
}

#[async_trait]
impl StagedIndex for UnrulyStaged {
    fn index(&self) -> Arc<dyn SearchIndex> {
        Arc::new(Unruly {
            inner: self.staged.index(),
            dice: self.dice.clone(),
            failures_percent: self.failures_percent,
        })
    }

    async fn keep(&self) -> Result<()> {
        self.staged.keep().await
    }

    async fn promote(&self, up_to: Position) -> Result<()> {
        self.dice.dawdle().await;
        self.staged.promote(up_to).await?;
        self.dice.dawdle().await;
        Ok(())
    }

    async fn discard(&self) -> Result<()> {
        self.staged.discard().await
    }
}

/// Polls a future at most so many times, then drops it where it is, as a crash would.
pub(crate) async fn crash_after<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}
