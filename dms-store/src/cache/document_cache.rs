//! The cache.

use std::fmt;
use std::future::ready;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::{DocumentCache, DocumentLoader};
use dms_core::{Document, DocumentId, Error, Result};
use futures_util::FutureExt as _;
use moka::future::Cache;
use moka::ops::compute::{CompResult, Op};

use super::entry::Entry;
use super::flight::{FlightId, Flights, Loaded};

/// Longest age that is meant; moka panics over a thousand years.
const TIME_TO_LIVE_MAX: Duration = Duration::from_hours(365 * 24);

/// Bounds of a [`MokaDocumentCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheOptions {
    /// Memory for documents, in bytes; 64 MiB. Counted closely, not exactly; with 0 nothing is kept.
    pub bytes_max: u64,
    /// How long a document is kept after it was loaded or written; 30 s.
    pub time_to_live: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, time_to_live: Duration::from_secs(30) }
    }
}

/// Documents read recently, in this process. Cheap to clone; clones share the documents. Starts no
/// threads and runs on any executor.
///
/// Those that were read least are given up first when memory is needed. Deletions and
/// invalidations are kept like documents, in little memory.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use dms_core::ports::DocumentCache as _;
/// use dms_core::{DocumentId, ErrorKind};
/// use dms_store::cache::{CacheOptions, MokaDocumentCache};
///
/// let cache = MokaDocumentCache::new(CacheOptions::default());
/// let id = DocumentId::generate();
/// cache.put_deleted(id, 2).await;
/// let load = Box::pin(async { panic!("known to be deleted") });
/// assert_eq!(cache.get_or_load(id, load).await.unwrap_err().kind(), ErrorKind::NotFound);
/// # }
/// ```
#[derive(Clone)]
pub struct MokaDocumentCache {
    entries: Cache<DocumentId, Entry>,
    flights: Arc<Flights>,
}

impl MokaDocumentCache {
    /// An empty cache.
    pub fn new(options: CacheOptions) -> Self {
        let entries = Cache::builder()
            .max_capacity(options.bytes_max)
            .weigher(|_, entry: &Entry| entry.weight())
            .time_to_live(options.time_to_live.min(TIME_TO_LIVE_MAX))
            .build();
        Self { entries, flights: Arc::default() }
    }

    /// Memory that is taken, in bytes, once what has expired or is too much is let go.
    pub async fn bytes(&self) -> u64 {
        self.entries.run_pending_tasks().await;
        self.entries.weighted_size()
    }

    /// Keeps `entry` unless what is kept is newer; gives what stayed in its place.
    async fn offer(&self, id: DocumentId, entry: Entry) -> Option<Entry> {
        let decide = |kept: Option<moka::Entry<DocumentId, Entry>>| {
            let stays = kept.is_some_and(|kept| !entry.replaces(kept.value()));
            ready(if stays { Op::Nop } else { Op::Put(entry) })
        };
        match self.entries.entry(id).and_compute_with(decide).await {
            CompResult::Unchanged(kept) => Some(kept.into_value()),
            _ => None,
        }
    }

    /// Keeps what a write made. Loads that began before it aren't for whoever asks from now on.
    async fn write(&self, id: DocumentId, entry: Entry) {
        self.offer(id, entry).await;
        self.flights.overtake(id);
    }

    async fn cached(&self, id: DocumentId) -> Option<Result<Arc<Document>>> {
        match self.entries.get(&id).await? {
            Entry::Live(document) => Some(Ok(document)),
            Entry::Deleted(_) => Some(Err(deleted(id))),
            Entry::AtLeast(_) => None,
        }
    }

    /// The version that an invalidation told of, if that is all that is known of the document.
    #[cfg(feature = "redis")]
    pub(crate) async fn least_version(&self, id: DocumentId) -> Option<i32> {
        match self.entries.get(&id).await? {
            Entry::AtLeast(version) => Some(version),
            Entry::Live(_) | Entry::Deleted(_) => None,
        }
    }

    async fn load(&self, flight: FlightId, id: DocumentId, load: DocumentLoader) -> Loaded {
        // It may have been loaded since the caller looked.
        if let Some(answer) = self.cached(id).await {
            return answer.map_err(Arc::new);
        }
        let loaded = AssertUnwindSafe(load)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(Error::internal("document loader panicked")))?;
        if !self.flights.is_current(flight) {
            return Ok(loaded);
        }
        match self.offer(id, Entry::Live(Arc::clone(&loaded))).await {
            Some(Entry::Live(newer)) => Ok(newer),
            Some(Entry::Deleted(_)) => Err(Arc::new(deleted(id))),
            Some(Entry::AtLeast(_)) | None => Ok(loaded),
        }
    }
}

fn deleted(id: DocumentId) -> Error {
    Error::not_found("document", id)
}

impl fmt::Debug for MokaDocumentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaDocumentCache")
            .field("entries", &self.entries.entry_count())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DocumentCache for MokaDocumentCache {
    async fn get_or_load(&self, id: DocumentId, load: DocumentLoader) -> Result<Arc<Document>> {
        if let Some(answer) = self.cached(id).await {
            return answer;
        }
        let cache = self.clone();
        let begin = move |flight| {
            async move {
                let loaded = cache.load(flight, id, load).await;
                cache.flights.end(flight);
                loaded
            }
            .boxed()
        };
        Arc::clone(&self.flights).join(id, begin).await
    }

    async fn put(&self, document: Arc<Document>) {
        self.write(document.id, Entry::Live(document)).await;
    }

    async fn put_deleted(&self, id: DocumentId, version: i32) {
        self.write(id, Entry::Deleted(version)).await;
    }

    async fn invalidate(&self, id: DocumentId, version: i32) {
        self.write(id, Entry::AtLeast(version)).await;
    }
}
