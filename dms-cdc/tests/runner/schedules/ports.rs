//! The source, the sinks and the dead letters, which fail as the plan says.

use std::sync::Arc;

use async_trait::async_trait;
use dms_core::Result;
use dms_core::fake::InMemoryChangeSource;
use dms_core::model::change::{Change, Position, RecordBatch};
use dms_core::ports::{
    BatchLimits, ChangeSink, ChangeSource, DeadLetter, DeadLetterRepository, Outcome, StartAt,
};

use super::plan::{Entry, Fate};
use super::world::{World, id};
use crate::support::positions;

/// The source, with failures, repetitions and a look at every acknowledgement.
pub(crate) struct Source {
    pub(crate) world: Arc<World>,
    pub(crate) inner: InMemoryChangeSource,
}

#[async_trait]
impl ChangeSource for Source {
    async fn start(&self, at: StartAt) -> Result<()> {
        self.world.fuse.step().await;
        self.inner.start(at).await
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        self.world.fuse.step().await;
        self.world.fail(|calls| &mut calls.source)?;
        let rewind = self.world.calls.lock().unwrap().rewind.pop_front();
        if rewind == Some(true) {
            self.inner.start(StartAt::Acknowledged).await?;
        }
        self.inner.next_batch(limits).await
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        self.world.fuse.step().await;
        self.world.fail(|calls| &mut calls.ack)?;
        self.world.check_ack(position);
        self.inner.ack(position).await?;
        self.world.fuse.step().await;
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        self.inner.head().await
    }

    async fn lag(&self) -> Result<u64> {
        self.inner.lag().await
    }
}

/// A sink as real ones are: versions guard it, and a crash may come between any two changes.
pub(crate) struct Sink {
    pub(crate) world: Arc<World>,
    pub(crate) index: usize,
}

impl Sink {
    fn take(&self, change: &Change) -> Outcome {
        let Entry::Version { key, version, fate } = self.world.entry(&change.position) else {
            panic!("poison reached the sink")
        };
        let mut store = self.world.stores[self.index].lock().unwrap();
        let position = change.position.to_string();
        let retries = match fate {
            Fate::Taken { retries } | Fate::Rejected { retries } => *retries,
            Fate::Skipped => 0,
        };
        let attempts = store.attempts.entry(position.clone()).or_insert(0);
        if *attempts < retries {
            *attempts += 1;
            return Outcome::Retry("busy".into());
        }
        store.answered.insert(position);
        match fate {
            Fate::Rejected { .. } => Outcome::Rejected("mapping".into()),
            Fate::Skipped => Outcome::Skipped("foreign"),
            Fate::Taken { .. } => {
                store.unguarded.insert(id(*key), *version);
                let kept = store.guarded.entry(id(*key)).or_insert(0);
                if *kept >= *version {
                    return Outcome::AlreadyNewer;
                }
                *kept = *version;
                Outcome::Applied
            }
        }
    }
}

#[async_trait]
impl ChangeSink for Sink {
    fn name(&self) -> &'static str {
        ["index", "cache"][self.index]
    }

    async fn apply(&self, changes: &[Change], up_to: &Position) -> Result<Vec<Outcome>> {
        self.world.fuse.step().await;
        self.world.fail(|calls| &mut calls.sink)?;
        let number = |position: &Position| position.as_str().parse::<u64>().expect("a number");
        let last = changes.iter().map(|change| number(&change.position)).max();
        assert!(last <= Some(number(up_to)), "{:?} beyond {up_to}", positions(changes));
        let mut outcomes = Vec::new();
        for change in changes {
            outcomes.push(self.take(change));
            self.world.fuse.step().await;
        }
        let is_open =
            |outcome: &Outcome| matches!(outcome, Outcome::Retry(_) | Outcome::Rejected(_));
        if !outcomes.iter().any(is_open) {
            self.world.stores[self.index].lock().unwrap().position = Some(up_to.clone());
        }
        self.world.fuse.step().await;
        Ok(outcomes)
    }
}

pub(crate) struct FailingLetters(pub(crate) Arc<World>);

#[async_trait]
impl DeadLetterRepository for FailingLetters {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        self.0.fuse.step().await;
        self.0.fail(|calls| &mut calls.letters)?;
        self.0.letters.put_many(letters).await?;
        self.0.fuse.step().await;
        Ok(())
    }

    async fn list(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        self.0.letters.list(consumer, limit).await
    }

    async fn count(&self, consumer: &str) -> Result<u64> {
        self.0.letters.count(consumer).await
    }

    async fn remove(&self, consumer: &str, position: &Position) -> Result<bool> {
        self.0.letters.remove(consumer, position).await
    }
}
