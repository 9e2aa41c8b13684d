//! Ports of the change stream: source → runner → sinks.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::Result;
use crate::model::change::{Change, Position, RecordBatch};

/// Where a consumer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartAt {
    /// After what this consumer acknowledged last. If it never did, at the first change ever; the
    /// position is lost if that one is no longer there.
    Acknowledged,
    /// Right after a position.
    After(Position),
    /// With the changes committed from now on.
    Now,
}

/// How much one batch may hold; whichever bound is met first ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records.
    pub records_max: usize,
    /// Bytes of records as the source holds them; a single larger record still comes alone.
    pub bytes_max: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { records_max: 1_000, bytes_max: 8 << 20 }
    }
}

/// Where changes come from, for one consumer.
///
/// Changes of one key come in the order of their commits. After a restart everything not
/// acknowledged comes again; what was acknowledged may come again.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ChangeSource: Send + Sync {
    /// Sets where the next batch begins; called before the first batch, and again to go elsewhere.
    ///
    /// # Errors
    /// `Conflict` with code `position_lost` if changes after that position are no longer there, or
    /// the source doesn't know the position: what is derived from the stream must then be rebuilt.
    async fn start(&self, at: StartAt) -> Result<()>;

    /// The next records, waiting until there is at least one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Unavailable` and `Timeout` are worth a retry, after which nothing is missing. `Conflict` with
    /// code `position_lost` if what comes next is no longer there.
    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch>;

    /// Everything up to `position` is durable at the consumer and need not come again. A position
    /// older than one acknowledged before has no effect. The source may take a while to make it
    /// durable.
    async fn ack(&self, position: &Position) -> Result<()>;

    /// The position after the newest committed change: a rebuild reads it first, copies the rows,
    /// then follows the stream from there.
    async fn head(&self) -> Result<Position>;

    /// How far the consumer is behind, for metrics: changes committed but not acknowledged.
    async fn lag(&self) -> Result<u64>;
}

/// What became of a change in a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect and is durable.
    Applied,
    /// The sink already has this version or a newer one.
    AlreadyNewer,
    /// It isn't for this sink, or not yet complete.
    Skipped(&'static str),
    /// It can never succeed.
    Rejected(String),
    /// It failed in a way that may pass.
    Retry(String),
}

/// Where changes go. Applying a change again, or after a newer one, has no effect.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ChangeSink: Send + Sync {
    /// Name for logs, metrics and dead letters; `kebab-case`.
    fn name(&self) -> &'static str;

    /// Applies changes and answers for each, in order. `up_to` is the position of the stream once
    /// all are applied; a sink that keeps it does so atomically with the changes, and only if all its
    /// answers are final and none is [`Outcome::Rejected`]: a rejected change becomes a dead letter
    /// after the answer, and must come again if that fails.
    ///
    /// # Errors
    /// The whole batch failed and may be applied again if the error is retryable.
    async fn apply(&self, changes: &[Change], up_to: &Position) -> Result<Vec<Outcome>>;
}

/// A change or record that a consumer couldn't take, kept until somebody decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Which consumer.
    pub consumer: String,
    /// Where in its stream.
    pub position: Position,
    /// Key of the row, if known.
    pub key: Option<String>,
    /// The record, as raw as it is to be had.
    pub raw: Vec<u8>,
    /// Why it was refused.
    pub reason: String,
    /// When it was put here.
    #[serde(with = "crate::model::timestamp")]
    pub created_at: OffsetDateTime,
}

/// Dead letters, kept durably. One per consumer and position: putting it again changes nothing.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DeadLetterRepository: Send + Sync {
    /// Keeps letters; durable when it returns.
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()>;

    /// Oldest first by position of arrival; at most `limit`.
    async fn list(&self, consumer: &str, limit: u32) -> Result<Vec<DeadLetter>>;

    /// How many a consumer has.
    async fn count(&self, consumer: &str) -> Result<u64>;

    /// Removes one; false if there was none.
    async fn remove(&self, consumer: &str, position: &Position) -> Result<bool>;
}

/// How often something is tried again, and how long is waited between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// First pause; doubled each time, with jitter.
    pub pause_min: Duration,
    /// Longest pause.
    pub pause_max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { pause_min: Duration::from_millis(50), pause_max: Duration::from_secs(5) }
    }
}
