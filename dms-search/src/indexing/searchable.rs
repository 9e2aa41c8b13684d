//! How long a new document takes from its commit until searches find it: looked up for some of them.
//!
//! An index that refreshes by itself answers for a write before searches see it, so the time of its
//! answer says too little. Waiting for a refresh with each write would slow the stream down; looking
//! for one document after the other costs a few small searches a second.

use std::sync::Arc;
use std::time::Duration;

use dms_core::model::change::{Change, Operation, RowChange};
use dms_core::ports::{Clock, Outcome, SearchIndex};
use dms_core::{DocumentId, ErrorChain, Result};
use time::OffsetDateTime;
use tokio::sync::broadcast;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::IndexingSink;

const COMMIT_TO_SEARCHABLE: &str = "dms_search_commit_to_searchable_seconds";

/// A new document that the index has answered for.
#[derive(Debug, Clone, Copy)]
struct Written {
    id: DocumentId,
    committed_at: OffsetDateTime,
}

/// Hands new documents from a sink to those who wait for one.
#[derive(Debug)]
pub(super) struct Sampling(broadcast::Sender<Written>);

impl Default for Sampling {
    fn default() -> Self {
        Self(broadcast::Sender::new(1))
    }
}

impl Sampling {
    /// The next new document.
    async fn next(&self) -> Written {
        let mut given = self.0.subscribe();
        loop {
            // An error says that a newer one has taken its place.
            if let Ok(written) = given.recv().await {
                return written;
            }
        }
    }

    /// Hands over the last new document of a batch, if somebody waits for one. Of new ones the ids are
    /// the highest, so that looking for one is little work.
    pub(super) fn offer(&self, changes: &[Change], outcomes: &[Outcome]) {
        if self.0.receiver_count() == 0 {
            return;
        }
        let new = |(change, outcome): (&Change, &Outcome)| match &change.row {
            RowChange::Document { after: Some(row), .. }
                if change.operation == Operation::Create && *outcome == Outcome::Applied =>
            {
                Some(Written { id: row.id, committed_at: change.committed_at })
            }
            _ => None,
        };
        if let Some(written) = changes.iter().zip(outcomes).rev().find_map(new) {
            // Whoever waited may be gone.
            let _ = self.0.send(written);
        }
    }
}

/// How a [`SearchableWatch`] looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchableWatchOptions {
    /// Pause between two looks for a document: how exact a time is. 20 ms.
    pub look_every: Duration,
    /// Least pause between two documents; 1 s.
    pub sample_every: Duration,
    /// After which a document is given up, which counts as this time; 30 s.
    pub give_up_after: Duration,
}

impl Default for SearchableWatchOptions {
    fn default() -> Self {
        Self {
            look_every: Duration::from_millis(20),
            sample_every: Duration::from_secs(1),
            give_up_after: Duration::from_secs(30),
        }
    }
}

/// Measures from the commit of a document until searches find it, for one new document at a time.
///
/// Metric: the histogram `dms_search_commit_to_searchable_seconds`. What passes from the commit until
/// the index answers for the document is told by the clocks of the database and this process.
pub struct SearchableWatch {
    index: Arc<dyn SearchIndex>,
    sink: Arc<IndexingSink>,
    clock: Arc<dyn Clock>,
    options: SearchableWatchOptions,
}

impl SearchableWatch {
    /// A watch over an index; `sink` is the one of this index.
    pub fn new(
        index: Arc<dyn SearchIndex>,
        sink: Arc<IndexingSink>,
        clock: Arc<dyn Clock>,
        options: SearchableWatchOptions,
    ) -> Self {
        metrics::describe_histogram!(
            COMMIT_TO_SEARCHABLE,
            metrics::Unit::Seconds,
            "time from commit until searches find a new document, for some of them"
        );
        Self { index, sink, clock, options }
    }

    /// Goes on until the future is dropped, which is safe at any point.
    pub async fn run(&self) -> std::convert::Infallible {
        loop {
            match self.sample().await {
                Ok(time) => metrics::histogram!(COMMIT_TO_SEARCHABLE).record(time.as_secs_f64()),
                // What is wrong with the index is for others to say.
                Err(error) => {
                    tracing::debug!(error = %ErrorChain(&error), "new document can't be looked for");
                }
            }
            sleep(self.options.sample_every).await;
        }
    }

    /// Waits for the next new document, and until searches find it; gives the time since its commit.
    ///
    /// # Errors
    /// Those of the index.
    pub async fn sample(&self) -> Result<Duration> {
        let written = self.sink.sampling().next().await;
        let answered_at = Instant::now();
        let until_answer = self.clock.now() - written.committed_at;
        // Clocks of two machines may differ.
        let until_answer = Duration::try_from(until_answer).unwrap_or_default();
        while !self.is_found(written.id).await? {
            if answered_at.elapsed() >= self.options.give_up_after {
                break;
            }
            sleep(self.options.look_every).await;
        }
        Ok(until_answer + answered_at.elapsed())
    }

    async fn is_found(&self, id: DocumentId) -> Result<bool> {
        let before = id.as_uuid().as_u128().checked_sub(1);
        let before = before.map(|id| DocumentId::from_uuid(Uuid::from_u128(id)));
        let found = self.index.versions(before, 1).await?;
        Ok(found.first().is_some_and(|found| found.id == id))
    }
}
