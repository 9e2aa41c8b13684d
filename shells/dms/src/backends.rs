//! What the product is built on: embedded backends, or ports of the caller's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dms_cdc::sqlite::{ChangeLogTrimmer, SqliteChangeSource, TrimOptions};
use dms_core::Result;
use dms_core::ports::{
    BlobStore, ChangeSource, Clock, DeadLetterRepository, DocumentCache, DocumentRepository,
    IdempotencyRepository, SearchIndex, SignatureRepository, TextRepository, ViewCounter,
};
use dms_search::{TantivyIndex, TantivyOptions};
use dms_store::blobs::{FileBlobOptions, FileBlobStore};
use dms_store::cache::{CacheOptions, MokaDocumentCache};
use dms_store::sqlite::{SqliteDatabase, SqliteOptions, SqliteViewCounter};

/// Consumer of the change stream that fills the index.
pub(crate) const INDEX_CONSUMER: &str = "search-index";

/// Memory the document cache may take.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// How old a cached document may be.
const CACHE_TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// Everything that is kept in one database.
#[derive(Clone)]
pub struct DatabasePorts {
    /// Documents.
    pub documents: Arc<dyn DocumentRepository>,
    /// Signatures.
    pub signatures: Arc<dyn SignatureRepository>,
    /// Extracted texts.
    pub texts: Arc<dyn TextRepository>,
    /// Idempotency keys.
    pub idempotency: Arc<dyn IdempotencyRepository>,
    /// Changes that consumers couldn't take.
    pub dead_letters: Arc<dyn DeadLetterRepository>,
    /// The change stream, for the index.
    pub index_source: Arc<dyn ChangeSource>,
    /// The change stream, for live updates: from now on, never acknowledged durably.
    pub live_source: Arc<dyn ChangeSource>,
}

/// Where embedded backends keep what they keep.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) database: PathBuf,
    pub(crate) views: PathBuf,
    pub(crate) blobs: PathBuf,
    pub(crate) index: PathBuf,
}

impl Places {
    pub(crate) fn below(folder: &Path) -> Self {
        Self {
            database: folder.join("dms.db"),
            views: folder.join("views.db"),
            blobs: folder.join("blobs"),
            index: folder.join("index"),
        }
    }
}

/// Ports of the caller's own; what is missing is embedded.
#[derive(Clone, Default)]
pub(crate) struct OwnPorts {
    pub(crate) database: Option<DatabasePorts>,
    pub(crate) blobs: Option<Arc<dyn BlobStore>>,
    pub(crate) cache: Option<Arc<dyn DocumentCache>>,
    pub(crate) views: Option<Arc<dyn ViewCounter>>,
    pub(crate) index: Option<Arc<dyn SearchIndex>>,
}

/// Every backend, open.
pub(crate) struct Backends {
    pub(crate) database: DatabasePorts,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) cache: Arc<dyn DocumentCache>,
    pub(crate) views: Arc<dyn ViewCounter>,
    pub(crate) index: Arc<dyn SearchIndex>,
    pub(crate) sqlite: Option<Sqlite>,
    view_counter: Option<SqliteViewCounter>,
}

/// What only the embedded database has: things to trim and to close.
pub(crate) struct Sqlite {
    database: SqliteDatabase,
    index_source: Arc<SqliteChangeSource>,
    pub(crate) trimmer: Arc<ChangeLogTrimmer>,
}

impl Backends {
    pub(crate) async fn open(
        places: &Places,
        own: OwnPorts,
        clock: &Arc<dyn Clock>,
        migrate: bool,
    ) -> Result<Self> {
        let (database, sqlite) = match own.database {
            Some(database) => (database, None),
            None => {
                let (database, sqlite) = open_sqlite(&places.database, clock, migrate).await?;
                (database, Some(sqlite))
            }
        };
        let (views, view_counter) = match own.views {
            Some(views) => (views, None),
            None => {
                let counter = SqliteViewCounter::open(&places.views).await?;
                (Arc::new(counter.clone()) as Arc<dyn ViewCounter>, Some(counter))
            }
        };
        let blobs = match own.blobs {
            Some(blobs) => blobs,
            None => Arc::new(FileBlobStore::open(&places.blobs, FileBlobOptions::default()).await?),
        };
        let cache = own.cache.unwrap_or_else(|| {
            Arc::new(MokaDocumentCache::new(CacheOptions {
                bytes_max: CACHE_BYTES_MAX,
                time_to_live: CACHE_TIME_TO_LIVE,
            }))
        });
        let index = match own.index {
            Some(index) => index,
            None => open_index(&places.index).await?,
        };
        Ok(Self { database, blobs, cache, views, index, sqlite, view_counter })
    }

    /// Writes what is still in memory and closes everything that was opened here.
    pub(crate) async fn close(self) -> Result<()> {
        let mut outcome = Ok(());
        if let Some(sqlite) = self.sqlite {
            outcome = outcome.and(sqlite.index_source.flush().await);
            outcome = outcome.and(sqlite.database.close().await);
        }
        if let Some(counter) = self.view_counter {
            outcome = outcome.and(counter.close().await);
        }
        outcome
    }
}

async fn open_sqlite(
    path: &Path,
    clock: &Arc<dyn Clock>,
    migrate: bool,
) -> Result<(DatabasePorts, Sqlite)> {
    let options = SqliteOptions { clock: Arc::clone(clock), migrate, ..SqliteOptions::default() };
    let database = SqliteDatabase::open(path, options).await?;
    let index_source = Arc::new(SqliteChangeSource::new(
        database.read_pool(),
        database.maintenance_pool(),
        database.commits(),
        INDEX_CONSUMER,
    ));
    let live_source = SqliteChangeSource::transient(database.read_pool(), database.commits());
    let trimmer = ChangeLogTrimmer::new(database.maintenance_pool(), TrimOptions::default());
    let ports = DatabasePorts {
        documents: Arc::new(database.documents()),
        signatures: Arc::new(database.signatures()),
        texts: Arc::new(database.texts()),
        idempotency: Arc::new(database.idempotency()),
        dead_letters: Arc::new(database.dead_letters()),
        index_source: index_source.clone(),
        live_source: Arc::new(live_source),
    };
    Ok((ports, Sqlite { database, index_source, trimmer: Arc::new(trimmer) }))
}

async fn open_index(folder: &Path) -> Result<Arc<dyn SearchIndex>> {
    let folder = folder.to_owned();
    // Opening maps files and may repair the folder.
    let opened =
        tokio::task::spawn_blocking(move || TantivyIndex::open(&folder, TantivyOptions::default()));
    match opened.await {
        Ok(index) => Ok(Arc::new(index?)),
        Err(panicked) => {
            Err(dms_core::Error::internal("opening the index failed").with_source(panicked))
        }
    }
}
