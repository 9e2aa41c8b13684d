//! Port to the search index.

use async_trait::async_trait;

use crate::Result;
use crate::model::change::Position;
use crate::model::search::{AggregationQuery, Bucket, IndexEntry, SearchQuery, SearchResults};
use crate::ports::Outcome;

/// The search index: documents by words. Derived from the database and never ahead of it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// Documents that match, without deleted ones.
    ///
    /// # Errors
    /// `Unavailable` while the index can't be reached.
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults>;

    /// Values of a field and their counts, most first, ties by value.
    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>>;

    /// Writes entries, each only if the index doesn't have its version or a newer one; answers for
    /// each, in order. Visible to searches and durable when it returns. With `up_to` an index that
    /// keeps its own position stores it atomically with the entries.
    ///
    /// The same id may be there several times; the newest version wins.
    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>>;

    /// The position stored last, for an index that keeps it: none if the index is new and must be
    /// built from the rows.
    async fn position(&self) -> Result<Option<Position>>;

    /// Removes everything, the position too.
    async fn clear(&self) -> Result<()>;

    /// How many documents can be found.
    async fn count(&self) -> Result<u64>;

    /// Whether the index answers.
    async fn check(&self) -> Result<()>;
}
