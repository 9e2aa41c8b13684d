//! Port to the search index.

use std::sync::Arc;

use async_trait::async_trait;

use crate::model::DocumentId;
use crate::model::change::Position;
use crate::model::search::{
    AggregationQuery, Bucket, IndexEntry, IndexVersion, SearchQuery, SearchResults,
};
use crate::ports::{Outcome, StartAt};
use crate::{Error, ErrorKind, Result};

/// How far an index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexProgress {
    /// It is missing, or was never filled to the end: it must be built from the rows.
    New,
    /// It is complete, but laid out as an older program did it: it should be built anew.
    Outdated,
    /// It is complete. It doesn't keep its place in the stream; the stream's consumer does.
    Built,
    /// It is complete up to this position, which it keeps itself.
    At(Position),
}

impl IndexProgress {
    /// Whether the index must be built from the rows before it follows the stream.
    pub const fn needs_rebuild(&self) -> bool {
        matches!(self, Self::New | Self::Outdated)
    }

    /// Where a consumer of the stream that feeds the index begins.
    pub fn start(self) -> StartAt {
        match self {
            Self::At(position) => StartAt::After(position),
            Self::New | Self::Outdated | Self::Built => StartAt::Acknowledged,
        }
    }
}

/// The search index: documents by words. Derived from the database and never ahead of it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SearchIndex: Send + Sync {
    /// Documents that match, without deleted ones.
    ///
    /// # Errors
    /// `Unavailable` while the index can't be reached or is missing.
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults>;

    /// Values of a field and their counts, most first, ties by value. Exact as long as the field
    /// has fewer than 1,000 values.
    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>>;

    /// Writes entries, each only if the index doesn't have its version or a newer one; answers for
    /// each, in order. Durable when it returns. Visible to searches when it returns, or in an index
    /// that refreshes by itself within its refresh interval; see [`refresh`](Self::refresh).
    ///
    /// `up_to` is given with entries that complete the index up to that position: an index that
    /// keeps its own position stores it atomically with the entries, another one remembers that it
    /// is built.
    ///
    /// The same id may be there several times; the newest version wins.
    ///
    /// # Errors
    /// The whole batch failed, and may have been applied in part. With code
    /// [`INDEX_MISSING`] there is no index to write to until it is built from the rows.
    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>>;

    /// Makes everything written so far visible to searches and [`versions`](Self::versions).
    async fn refresh(&self) -> Result<()>;

    /// How far the index is.
    async fn progress(&self) -> Result<IndexProgress>;

    /// Which version it has of each document, deleted ones too, in ascending order of id, beginning
    /// after `after`; at most `limit`, fewer only at the end. As searches see it.
    async fn versions(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<IndexVersion>>;

    /// Which version it has of those of `ids` that it has at all, in any order; at most 1,000 ids.
    /// What was written is seen at once.
    async fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>>;

    /// Begins to build an index beside this one, or goes on with one that was begun; none if this
    /// kind of index can't, and has to be built in its place.
    ///
    /// # Errors
    /// `Conflict` with code [`REBUILD_RUNNING`] while somebody else is building.
    async fn stage(&self) -> Result<Option<Arc<dyn StagedIndex>>>;

    /// Removes everything, the position too.
    async fn clear(&self) -> Result<()>;

    /// How many documents can be found.
    async fn count(&self) -> Result<u64>;

    /// Whether the index answers.
    async fn check(&self) -> Result<()>;
}

/// An index that is built beside the live one, which serves searches meanwhile.
///
/// Dropping it leaves what was built so far, to go on with later.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StagedIndex: Send + Sync {
    /// The index to fill. It is not to be staged or cleared itself.
    fn index(&self) -> Arc<dyn SearchIndex>;

    /// Says that somebody is still building; called every few seconds while it lasts.
    ///
    /// # Errors
    /// `Conflict` with code [`REBUILD_RUNNING`] if somebody else has taken over.
    async fn keep(&self) -> Result<()>;

    /// Puts the staged index in the live one's place, at one stroke, and removes the old one.
    /// `up_to` is as in [`SearchIndex::write`].
    async fn promote(&self, up_to: Position) -> Result<()>;

    /// Throws away what was built, so that the next [`SearchIndex::stage`] begins with nothing.
    async fn discard(&self) -> Result<()>;
}

/// Code of errors of an index that isn't there.
pub const INDEX_MISSING: &str = "index_missing";

/// Code of errors when somebody else is building the index.
pub const REBUILD_RUNNING: &str = "rebuild_running";

/// The error of an index that isn't there.
pub fn index_missing() -> Error {
    Error::unavailable("search", "the search index is missing").with_code(INDEX_MISSING)
}

/// The error of a rebuild when somebody else is building.
pub fn rebuild_running() -> Error {
    Error::new(ErrorKind::Conflict, "somebody else is building the search index")
        .with_code(REBUILD_RUNNING)
}
