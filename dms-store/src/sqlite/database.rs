//! The database file, its connections, and their order of opening and closing.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::{Clock, SystemClock};
use dms_core::{Result, model::timestamp};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::error::{from_sqlx, is_locked};
use super::idempotency::Reservations;
use super::pages::Pages;
use super::writer::{Bounds, Writer};
use super::{
    SqliteDeadLetterRepository, SqliteDocumentRepository, SqliteIdempotencyRepository,
    SqliteSignatureRepository, SqliteTextRepository, migrations,
};

/// How to open a [`SqliteDatabase`]. The defaults suit a service.
#[derive(Clone)]
pub struct SqliteOptions {
    /// Gives rows their times.
    pub clock: Arc<dyn Clock>,
    /// Applies missing migrations; otherwise an older schema is refused.
    pub migrate: bool,
    /// Connections for reading; 4. Each is a thread.
    pub read_connections_max: u32,
    /// Writes that may wait; 1,024. More are refused at once.
    pub queue_jobs_max: usize,
    /// Bytes of text in the writes that wait; 64 MiB. A single larger write still comes alone.
    pub queue_bytes_max: usize,
    /// Writes in one transaction; 256.
    pub group_jobs_max: usize,
    /// How long to wait for a lock that another process holds; 5 s.
    pub busy_timeout: Duration,
    /// How long a read waits for a free connection; 2 s.
    pub acquire_timeout: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            migrate: true,
            read_connections_max: 4,
            queue_jobs_max: 1_024,
            queue_bytes_max: 64 << 20,
            group_jobs_max: 256,
            busy_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteOptions")
            .field("migrate", &self.migrate)
            .field("read_connections_max", &self.read_connections_max)
            .field("queue_jobs_max", &self.queue_jobs_max)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("group_jobs_max", &self.group_jobs_max)
            .field("busy_timeout", &self.busy_timeout)
            .field("acquire_timeout", &self.acquire_timeout)
            .finish_non_exhaustive()
    }
}

/// Documents, signatures, texts, idempotency keys and dead letters in one `SQLite` file.
///
/// Cheap to clone; clones and repositories share the connections. Durable: `WAL` with
/// `synchronous=FULL`. One process at a time: idempotency keys of running requests are in memory.
///
/// ```no_run
/// # async fn example() -> dms_core::Result<()> {
/// use dms_core::ports::DocumentRepository as _;
/// use dms_store::sqlite::{SqliteDatabase, SqliteOptions};
///
/// let database = SqliteDatabase::open("dms.db".as_ref(), SqliteOptions::default()).await?;
/// let newest = database.documents().list(&dms_core::ListQuery::default()).await?;
/// println!("{} documents", newest.documents.len());
/// database.close().await
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteDatabase {
    shared: Arc<Shared>,
}

/// What the repositories share.
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) reads: SqlitePool,
    pub(super) reservations: Reservations,
    pub(super) pages: Pages,
    pub(super) clock: Arc<dyn Clock>,
    maintenance: SqlitePool,
}

impl Shared {
    /// The time as it is stored.
    pub(super) fn now(&self) -> time::OffsetDateTime {
        timestamp::truncate(self.clock.now())
    }

    /// The time `age` ago as it is stored; none if nothing stored can be that old.
    pub(super) fn ago(&self, age: Duration) -> Option<String> {
        let age = time::Duration::try_from(age).ok()?;
        let then = self.now().checked_sub(age)?;
        (then.year() >= 0).then(|| timestamp::format(then))
    }
}

/// Bounds of the page caches in KiB. The operating system caches the file as well.
mod cache_kib {
    pub(super) const WRITER: u32 = 4_096;
    pub(super) const READER: u32 = 1_024;
    pub(super) const MAINTENANCE: u32 = 512;
}

/// Pages of the log after which a commit moves them to the file: 16 MiB, so that the syncs this
/// takes are shared by thousands of writes.
const CHECKPOINT_PAGES: u32 = 4_096;

/// How long to wait before a locked file is opened again.
const LOCKED_PAUSE: Duration = Duration::from_millis(10);

/// What the log may keep on disk once its pages are moved.
const LOG_BYTES_MAX: u32 = 64 << 20;

impl SqliteDatabase {
    /// Opens the file, creating it if it isn't there, and brings its schema up to date. Its folder
    /// must exist. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// - `Conflict` with code `schema_newer` if a newer build wrote the file;
    /// - `Conflict` with code `schema_older` if a migration is missing and `migrate` is off;
    /// - `Unavailable` if the file can't be opened or is locked; `StorageFull`;
    /// - `Internal` if it is no `SQLite` database or corrupt.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        let any = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(options.busy_timeout)
            .foreign_keys(true)
            .pragma("temp_store", "memory")
            .disable_statement_logging();
        let writing = any
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("cache_size", kib(cache_kib::WRITER))
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .pragma("journal_size_limit", LOG_BYTES_MAX.to_string())
            .thread_name(|_| "sqlite-writer".to_owned());

        let mut connection = unlocked(options.busy_timeout, || writing.connect()).await?;
        if options.migrate {
            migrations::apply(&mut connection).await?;
        } else {
            migrations::check(&mut connection).await?;
        }

        let reading = any
            .read_only(true)
            .pragma("cache_size", kib(cache_kib::READER))
            .thread_name(|n| format!("sqlite-read-{n}"));
        let maintaining = writing
            .clone()
            .create_if_missing(false)
            .pragma("cache_size", kib(cache_kib::MAINTENANCE))
            .thread_name(|_| "sqlite-maintain".to_owned());
        let pool = SqlitePoolOptions::new()
            .acquire_timeout(options.acquire_timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            // A connection to a file doesn't go stale.
            .test_before_acquire(false);
        let bounds = Bounds {
            queue_jobs_max: options.queue_jobs_max,
            queue_bytes_max: options.queue_bytes_max,
            group_jobs_max: options.group_jobs_max,
        };
        let reads = pool.clone().max_connections(options.read_connections_max.max(1));
        let writer = Writer::start(connection, writing, bounds);
        let shared = Shared {
            reads: unlocked(options.busy_timeout, || reads.clone().connect_with(reading.clone()))
                .await?,
            maintenance: pool.max_connections(1).connect_lazy_with(maintaining),
            pages: Pages::new(writer.commits()),
            writer,
            reservations: Reservations::default(),
            clock: options.clock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The documents.
    pub fn documents(&self) -> SqliteDocumentRepository {
        SqliteDocumentRepository::new(Arc::clone(&self.shared))
    }

    /// The signatures.
    pub fn signatures(&self) -> SqliteSignatureRepository {
        SqliteSignatureRepository::new(Arc::clone(&self.shared))
    }

    /// The extracted texts.
    pub fn texts(&self) -> SqliteTextRepository {
        SqliteTextRepository::new(Arc::clone(&self.shared))
    }

    /// The idempotency keys.
    pub fn idempotency(&self) -> SqliteIdempotencyRepository {
        SqliteIdempotencyRepository::new(Arc::clone(&self.shared))
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> SqliteDeadLetterRepository {
        SqliteDeadLetterRepository::new(Arc::clone(&self.shared))
    }

    /// Read-only connections, for readers of the change log.
    pub fn read_pool(&self) -> SqlitePool {
        self.shared.reads.clone()
    }

    /// One connection for small writes that don't go through the writer: how far a consumer has
    /// come, trimming of the change log. Whoever holds its lock makes every other write wait.
    pub fn maintenance_pool(&self) -> SqlitePool {
        self.shared.maintenance.clone()
    }

    /// A counter that is raised after each commit: whoever follows the change log waits for it. Its
    /// sender is gone once the database is closed.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.shared.writer.commits()
    }

    /// Refuses new writes, finishes those that wait, closes every connection and moves the log into
    /// the file. Waits for connections that others hold; doing it again changes nothing.
    ///
    /// # Errors
    /// `StorageFull`, `Unavailable` if the log stays beside the file, which loses nothing: the next
    /// opening reads it.
    pub async fn close(&self) -> Result<()> {
        let connection = self.shared.writer.stop().await;
        self.shared.reads.close().await;
        self.shared.maintenance.close().await;
        if let Some(mut connection) = connection {
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&mut connection)
                .await
                .map_err(from_sqlx)?;
            connection.close().await.map_err(from_sqlx)?;
        }
        Ok(())
    }
}

impl fmt::Debug for SqliteDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteDatabase").field("reads", &self.shared.reads).finish_non_exhaustive()
    }
}

/// Opens until nobody else has the file locked, for at most `timeout`.
///
/// `SQLite` doesn't wait by itself for everything an opening may meet: whoever turns a new file to
/// `WAL`, or moves the log into the file as the last to close it, holds a lock that isn't waited for.
async fn unlocked<T, F>(timeout: Duration, open: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = sqlx::Result<T>>,
{
    let deadline = Instant::now() + timeout;
    loop {
        match open().await {
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(LOCKED_PAUSE).await;
            }
            outcome => return outcome.map_err(from_sqlx),
        }
    }
}

/// `SQLite` takes a number of pages, or a negative number of KiB.
fn kib(kib: u32) -> String {
    format!("-{kib}")
}
