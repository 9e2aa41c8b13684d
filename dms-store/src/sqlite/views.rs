//! View counts in an `SQLite` file of their own.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::ViewCounter;
use dms_core::{DocumentId, Error, ErrorKind, Result, Sha256, ViewStats, Visitor};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::{commit_failed, from_sqlx, not_committed};
use crate::sql::DATABASE;

/// Views that may wait for the writer. More wait for room, each for [`RECORD_TIMEOUT`].
const QUEUE_MAX: usize = 8_192;

/// Views in one transaction.
const BATCH_MAX: usize = 4_096;

/// How long a view may wait, for room in the queue and then for its commit.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reader waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections for reading; each is a thread.
const READ_CONNECTIONS: u32 = 2;

/// What the log may keep on disk once its pages are moved, in bytes.
const LOG_BYTES_MAX: u32 = 16 << 20;

/// Version of the tables below, kept in the file's header.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = "
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS view_totals (
        document_id BLOB PRIMARY KEY NOT NULL,
        total_views INTEGER NOT NULL,
        unique_views INTEGER NOT NULL
    ) WITHOUT ROWID, STRICT;
    CREATE TABLE IF NOT EXISTS view_visitors (
        document_id BLOB NOT NULL,
        visitor INTEGER NOT NULL,
        PRIMARY KEY (document_id, visitor)
    ) WITHOUT ROWID, STRICT;
    PRAGMA user_version = 1;
    COMMIT;
";

/// Takes `[[document in hex, views, [visitor, …]], …]`; must come before [`ADD_VISITORS`].
///
/// Materialized, since a document's visitors would be parsed anew for each of them otherwise.
const ADD_TOTALS: &str = "
    WITH batch (document_id, views, visitors) AS MATERIALIZED (
        SELECT unhex(value ->> 0), value ->> 1, value -> 2 FROM json_each(?1)
    )
    INSERT INTO view_totals (document_id, total_views, unique_views)
    SELECT document_id, views, (
        SELECT count(*) FROM json_each(batch.visitors) AS new
        WHERE NOT EXISTS (
            SELECT 1 FROM view_visitors AS old
            WHERE old.document_id = batch.document_id AND old.visitor = new.value
        )
    )
    FROM batch WHERE true
    ON CONFLICT (document_id) DO UPDATE SET
        total_views = total_views + excluded.total_views,
        unique_views = unique_views + excluded.unique_views
";

const ADD_VISITORS: &str = "
    WITH batch (document_id, visitors) AS MATERIALIZED (
        SELECT unhex(value ->> 0), value -> 2 FROM json_each(?1)
    )
    INSERT INTO view_visitors (document_id, visitor)
    SELECT document_id, new.value FROM batch, json_each(batch.visitors) AS new WHERE true
    ON CONFLICT DO NOTHING
";

/// Counts views in an `SQLite` file. Cheap to clone; clones share the connections.
///
/// A recorded view has reached the operating system: it survives the death of the process, and
/// `kill -9`. The file isn't synced for each view (`synchronous=NORMAL`): if the machine loses power,
/// the views of the last moments may be lost, always the newest and never anything else.
///
/// Views that arrive while a commit is running share the next one.
///
/// Distinct visitors are counted exactly, by 64 bits of the SHA-256 of document and visitor. Two
/// visitors of a document with a million would be taken for one with a probability of 1 in 37
/// million, and who a visitor was can't be read from the file without guessing the name.
#[derive(Clone)]
pub struct SqliteViewCounter(Arc<Shared>);

struct Shared {
    queue: mpsc::Sender<View>,
    stop: CancellationToken,
    writer: Mutex<Option<JoinHandle<Option<SqliteConnection>>>>,
    reads: SqlitePool,
}

struct View {
    document: DocumentId,
    visitor: i64,
    recorded: oneshot::Sender<Result<()>>,
}

impl SqliteViewCounter {
    /// Opens the file, creating it if it isn't there. Its folder must exist. Must be called in a
    /// Tokio runtime, which then runs one task until [`close`](Self::close).
    ///
    /// # Errors
    /// - `Conflict` with code `schema_newer` if a newer build wrote the file;
    /// - `Unavailable` if the file can't be opened or is locked; `StorageFull`;
    /// - `Internal` if it is no `SQLite` database or corrupt.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("journal_size_limit", LOG_BYTES_MAX.to_string())
            .disable_statement_logging();
        let write_options = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .thread_name(|_| "dms-views-writer".to_owned());
        let mut connection = write_options.connect().await.map_err(from_sqlx)?;
        migrate(&mut connection).await?;
        let reads = SqlitePoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(
                options.read_only(true).thread_name(|_| "dms-views-read".to_owned()),
            );
        let (queue, views) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let writer = Writer { options: write_options, connection: Some(connection) };
        let task = tokio::spawn(writer.run(views, stop.clone()));
        Ok(Self(Arc::new(Shared { queue, stop, writer: Mutex::new(Some(task)), reads })))
    }

    /// Commits what waits, refuses what comes later, and closes the file. Doing it again changes
    /// nothing. Without it, views that wait are still committed as long as the runtime runs.
    ///
    /// # Errors
    /// `Internal` if the writer had panicked; `Unavailable` or `StorageFull` if the log can't be
    /// moved into the file: it is read when the file is opened again.
    pub async fn close(&self) -> Result<()> {
        self.0.stop.cancel();
        let task = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(task) = task else { return Ok(()) };
        let connection = task
            .await
            .map_err(|error| Error::internal("view writer ended early").with_source(error))?;
        // The connection that is closed last moves the log into the file, and must be able to write.
        self.0.reads.close().await;
        match connection {
            Some(connection) => connection.close().await.map_err(from_sqlx),
            None => Ok(()),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for SqliteViewCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteViewCounter")
            .field("waiting", &(QUEUE_MAX - self.0.queue.capacity()))
            .finish_non_exhaustive()
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<()> {
    let version: i32 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await
        .map_err(from_sqlx)?;
    match version {
        SCHEMA_VERSION => Ok(()),
        // Several processes may get here at once: each statement may be repeated.
        0 => sqlx::raw_sql(SCHEMA).execute(connection).await.map(|_| ()).map_err(from_sqlx),
        _ => Err(Error::new(ErrorKind::Conflict, "view counts were written by a newer version")
            .with_code("schema_newer")),
    }
}

fn closed() -> Error {
    Error::unavailable(DATABASE, "view counter closed")
}

/// What stands for a visitor of a document in the file.
fn visitor_hash(document: DocumentId, visitor: &Visitor) -> i64 {
    let id = document.as_uuid();
    let digest = Sha256::of(&[id.as_bytes(), visitor.0.as_bytes()].concat());
    let (first, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
    i64::from_be_bytes(*first)
}

#[async_trait]
impl ViewCounter for SqliteViewCounter {
    /// # Errors
    /// - `Unavailable` if the queue stays full for 5 s, the file can't be written, or the counter
    ///   is closed; `StorageFull`: the view isn't counted;
    /// - `Timeout` if the commit takes longer than 5 s: whether it is counted is unknown.
    async fn record(&self, id: DocumentId, visitor: &Visitor) -> Result<()> {
        let visitor = visitor_hash(id, visitor);
        let place = tokio::time::timeout(RECORD_TIMEOUT, self.0.queue.reserve())
            .await
            .map_err(|elapsed| {
                Error::unavailable(DATABASE, "too many views wait").with_source(elapsed)
            })?
            .map_err(|_| closed())?;
        let (recorded, answer) = oneshot::channel();
        place.send(View { document: id, visitor, recorded });
        match tokio::time::timeout(RECORD_TIMEOUT, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(closed()),
            Err(elapsed) => {
                Err(Error::new(ErrorKind::Timeout, "view not committed in time")
                    .with_source(elapsed))
            }
        }
    }

    async fn stats(&self, id: DocumentId) -> Result<ViewStats> {
        let row: Option<(i64, i64)> = sqlx::query_as(
            "SELECT total_views, unique_views FROM view_totals WHERE document_id = ?1",
        )
        .bind(id.as_uuid().into_bytes().to_vec())
        .fetch_optional(&self.0.reads)
        .await
        .map_err(from_sqlx)?;
        let (total, unique) = row.unwrap_or_default();
        Ok(ViewStats { total_views: total.cast_unsigned(), unique_views: unique.cast_unsigned() })
    }
}

/// Owns the connection that writes.
struct Writer {
    options: SqliteConnectOptions,
    /// None after an error: whatever state it was in is gone with it.
    connection: Option<SqliteConnection>,
}

impl Writer {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<View>,
        stop: CancellationToken,
    ) -> Option<SqliteConnection> {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !queue.is_closed() => queue.close(),
                received = queue.recv_many(&mut batch, BATCH_MAX) => {
                    if received == 0 {
                        break;
                    }
                    let outcome = self.commit(&batch).await;
                    for view in batch.drain(..) {
                        // Nobody may be waiting any more.
                        let _ = view.recorded.send(outcome.clone().map_err(Failure::into_error));
                    }
                }
            }
        }
        self.connection
    }

    async fn commit(&mut self, batch: &[View]) -> Result<(), Failure> {
        let views = to_json(batch);
        let before = |error| Failure { error: Arc::new(error), in_commit: false };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(before)?,
        };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(before)?;
        for statement in [ADD_TOTALS, ADD_VISITORS] {
            sqlx::query(statement).bind(&views).execute(&mut *transaction).await.map_err(before)?;
        }
        transaction
            .commit()
            .await
            .map_err(|error| Failure { error: Arc::new(error), in_commit: true })?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Why a batch wasn't committed, for each of its views.
#[derive(Clone)]
struct Failure {
    error: Arc<sqlx::Error>,
    in_commit: bool,
}

impl Failure {
    fn into_error(self) -> Error {
        if self.in_commit { commit_failed(&self.error) } else { not_committed(&self.error) }
    }
}

/// The batch as [`ADD_TOTALS`] takes it: each document once, each of its visitors once.
fn to_json(batch: &[View]) -> String {
    let mut documents: HashMap<DocumentId, (u64, Vec<i64>)> = HashMap::new();
    for view in batch {
        let (views, visitors) = documents.entry(view.document).or_default();
        *views += 1;
        visitors.push(view.visitor);
    }
    let rows: Vec<_> = documents
        .into_iter()
        .map(|(id, (views, mut visitors))| {
            visitors.sort_unstable();
            visitors.dedup();
            (id.as_uuid().simple().to_string(), views, visitors)
        })
        .collect();
    // Texts and integers always have a form in JSON.
    serde_json::to_string(&rows).unwrap_or_default()
}
