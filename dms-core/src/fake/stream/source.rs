//! A source that fails on demand and records what is asked of it.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::log::{InMemoryChangeLog, InMemoryChangeSource};
use super::watched::Watched;
use crate::model::change::{Position, RecordBatch};
use crate::ports::{BatchLimits, ChangeSource, StartAt};
use crate::{Error, Result};

/// What was asked of a [`ScriptedChangeSource`], in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceHistory {
    /// Where it was started, failures included.
    pub starts: Vec<StartAt>,
    /// Positions of the batches delivered.
    pub deliveries: Vec<Position>,
    /// Errors that were scripted and have been answered.
    pub failures: usize,
    /// What was acknowledged.
    pub acks: Vec<Position>,
}

/// A source over an [`InMemoryChangeLog`] that answers scripted errors first.
///
/// Started again at [`StartAt::Acknowledged`] it delivers again what was not acknowledged.
#[derive(Debug)]
pub struct ScriptedChangeSource {
    inner: InMemoryChangeSource,
    script: Watched<Script>,
}

#[derive(Debug, Default)]
struct Script {
    history: SourceHistory,
    start_errors: VecDeque<Error>,
    batch_errors: VecDeque<Error>,
    ack_errors: VecDeque<Error>,
}

impl Script {
    fn fail(&mut self, errors: impl FnOnce(&mut Self) -> &mut VecDeque<Error>) -> Result<()> {
        let Some(error) = errors(self).pop_front() else { return Ok(()) };
        self.history.failures += 1;
        Err(error)
    }
}

impl ScriptedChangeSource {
    /// A source for a consumer of `log`.
    pub fn new(log: &InMemoryChangeLog, consumer: &str) -> Self {
        Self { inner: log.source(consumer), script: Watched::default() }
    }

    /// Answers the next `start` that has no error before it with `error`.
    pub fn fail_start(&self, error: Error) {
        self.script.update(|script| script.start_errors.push_back(error));
    }

    /// Answers the next `next_batch` that has no error before it with `error`; nothing is lost.
    pub fn fail_batch(&self, error: Error) {
        self.script.update(|script| script.batch_errors.push_back(error));
    }

    /// Answers the next `ack` that has no error before it with `error`, and doesn't acknowledge.
    pub fn fail_ack(&self, error: Error) {
        self.script.update(|script| script.ack_errors.push_back(error));
    }

    /// What was asked of it so far.
    pub fn history(&self) -> SourceHistory {
        self.script.read(|script| script.history.clone())
    }

    /// Waits until its history is as wanted.
    pub async fn wait_until(&self, wanted: impl Fn(&SourceHistory) -> bool) {
        self.script.wait(|script| wanted(&script.history).then_some(())).await;
    }
}

#[async_trait]
impl ChangeSource for ScriptedChangeSource {
    async fn start(&self, at: StartAt) -> Result<()> {
        self.script.update(|script| {
            script.history.starts.push(at.clone());
            script.fail(|script| &mut script.start_errors)
        })?;
        self.inner.start(at).await
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        self.script.update(|script| script.fail(|script| &mut script.batch_errors))?;
        let batch = self.inner.next_batch(limits).await?;
        self.script.update(|script| script.history.deliveries.push(batch.position.clone()));
        Ok(batch)
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        self.script.update(|script| script.fail(|script| &mut script.ack_errors))?;
        self.inner.ack(position).await?;
        self.script.update(|script| script.history.acks.push(position.clone()));
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        self.inner.head().await
    }

    async fn lag(&self) -> Result<u64> {
        self.inner.lag().await
    }
}
