//! The embedded index, on tantivy.
//!
//! Derived data: a folder that is missing, emptied, damaged or of another schema is started afresh,
//! without a position, and the rows are then read again. What is committed is flushed to disk and
//! carries the position in the stream, so both survive or are lost together.
//!
//! # Memory
//! The writer is made at the first write and holds at most 15 MB while a batch is written, next to
//! nothing in between. Searches read the memory-mapped files; nothing is cached on top of them. Each
//! search on its own holds the page's documents and [`WINDOW_MAX`] sort keys at most.
//!
//! [`WINDOW_MAX`]: dms_core::model::search::SearchQuery::WINDOW_MAX

mod best;
mod collect;
mod directory;
mod error;
mod folder;
mod query;
mod reading;
mod schema;
mod tokenizer;
mod union;
mod versions;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::tantivy::{Index, IndexReader};
use async_trait::async_trait;
use dms_core::model::change::Position;
use dms_core::model::search::{
    AggregationQuery, Bucket, IndexEntry, IndexVersion, SearchQuery, SearchResults,
};
use dms_core::ports::{IndexProgress, Outcome, SearchIndex, StagedIndex};
use dms_core::{DocumentId, Error, Result, validate};
use tokio::sync::Semaphore;

use self::schema::Fields;
use self::writing::Writing;

/// Name of the index in errors and readiness.
const DEPENDENCY: &str = "search";

/// Bounds of a [`TantivyIndex`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TantivyOptions {
    /// Searches and counts that run at once; each keeps one core busy.
    pub searches_max: usize,
    /// How long a search may wait and run.
    pub search_time_max: Duration,
    /// Up to which size in bytes the checksums of an index are verified when it is opened.
    pub verify_bytes_max: u64,
}

impl Default for TantivyOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            searches_max: 2 * cores,
            search_time_max: Duration::from_secs(5),
            verify_bytes_max: 1 << 30,
        }
    }
}

/// A search index in a folder.
///
/// Cheap to share behind an [`Arc`]. The folder belongs to one index at a time, in all processes.
/// Every call needs a tokio runtime; the work is done on its blocking threads. A future may be
/// dropped at any time: a write that has begun is then finished nevertheless.
pub struct TantivyIndex {
    shared: Arc<Shared>,
    searches: Arc<Semaphore>,
    options: TantivyOptions,
}

/// What searches and writes have in common.
struct Shared {
    index: Index,
    reader: IndexReader,
    fields: Fields,
    path: PathBuf,
    /// Serialises everything that changes the index.
    writing: Arc<tokio::sync::Mutex<Writing>>,
    position: Mutex<Option<Position>>,
    /// When to look for finished merges again; none once nothing more is to be expected.
    merges_due: Mutex<Option<MergesDue>>,
    /// Keeps other processes out as long as it is open.
    _lock: std::fs::File,
}

#[derive(Clone, Copy)]
struct MergesDue {
    look: Instant,
    give_up: Instant,
}

impl Shared {
    fn position(&self) -> Option<Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_position(&self, position: Option<Position>) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }
}

impl TantivyIndex {
    /// Opens the index in `dir`, or makes one. If what is there can't be used, it is removed, said
    /// so in a warning, and [`progress`](SearchIndex::progress) is then `New`. Blocks for as long as
    /// it takes to read the files once.
    ///
    /// # Errors
    /// - `Unavailable` if another process or index has the folder open;
    /// - `Unavailable`, `StorageFull` or `Internal` if no index can be made there.
    pub fn open(dir: &Path, options: TantivyOptions) -> Result<Self> {
        let opened = folder::open(dir, options.verify_bytes_max)?;
        let shared = Shared {
            index: opened.index,
            reader: opened.reader,
            fields: opened.fields,
            path: opened.path,
            writing: Arc::default(),
            position: Mutex::new(opened.position),
            merges_due: Mutex::new(None),
            _lock: opened.lock,
        };
        Ok(Self {
            shared: Arc::new(shared),
            searches: Arc::new(Semaphore::new(options.searches_max.max(1))),
            options,
        })
    }

    /// Size of the index on disk in bytes, with what is about to be removed.
    ///
    /// # Errors
    /// `Unavailable` if the folder can't be read.
    pub async fn size_bytes(&self) -> Result<u64> {
        let shared = Arc::clone(&self.shared);
        join(tokio::task::spawn_blocking(move || folder::size_bytes(&shared.path)).await)?
    }

    /// Runs a search off the runtime, within the bounds of the options.
    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared, Instant) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = Instant::now() + self.options.search_time_max;
        let run = async {
            let permit = Arc::clone(&self.searches)
                .acquire_owned()
                .await
                .map_err(|closed| Error::internal("search bound is closed").with_source(closed))?;
            let shared = Arc::clone(&self.shared);
            let job = move || {
                // Kept until the work is really over, even if nobody waits for it any more.
                let _permit = permit;
                shared.absorb_merges();
                job(&shared, deadline)
            };
            join(tokio::task::spawn_blocking(job).await)?
        };
        match tokio::time::timeout(self.options.search_time_max, run).await {
            Ok(result) => result,
            Err(_) => Err(error::overdue()),
        }
    }

    /// Runs a change off the runtime, alone.
    async fn change<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Shared, &mut Writing) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut writing = Arc::clone(&self.shared.writing).lock_owned().await;
        let shared = Arc::clone(&self.shared);
        join(tokio::task::spawn_blocking(move || job(&shared, &mut writing)).await)?
    }
}

#[async_trait]
impl SearchIndex for TantivyIndex {
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults> {
        validate::search(query)?;
        let query = query.clone();
        self.read(move |shared, deadline| shared.search(&query, deadline)).await
    }

    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>> {
        validate::aggregation(query)?;
        let query = query.clone();
        self.read(move |shared, deadline| shared.aggregate(&query, deadline)).await
    }

    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        self.change(move |shared, writing| shared.write(writing, &entries, up_to)).await
    }

    /// Every write is visible when it returns.
    async fn refresh(&self) -> Result<()> {
        Ok(())
    }

    async fn progress(&self) -> Result<IndexProgress> {
        Ok(self.shared.position().map_or(IndexProgress::New, IndexProgress::At))
    }

    async fn versions(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<IndexVersion>> {
        self.read(move |shared, _| shared.versions(after, limit)).await
    }

    async fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        let ids = ids.to_vec();
        self.read(move |shared, _| shared.versions_of(&ids)).await
    }

    /// An index in a folder is built in its place: while that lasts, searches find what is there
    /// so far.
    async fn stage(&self) -> Result<Option<Arc<dyn StagedIndex>>> {
        Ok(None)
    }

    async fn clear(&self) -> Result<()> {
        self.change(Shared::clear).await
    }

    async fn count(&self) -> Result<u64> {
        self.read(Shared::count).await
    }

    async fn check(&self) -> Result<()> {
        self.read(|shared, _| shared.check()).await
    }
}

fn join<T>(joined: std::result::Result<T, tokio::task::JoinError>) -> Result<T> {
    joined.map_err(|error| Error::internal("the search index failed").with_source(error))
}
