//! View counts in an `SQLite` file of their own.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::ViewCounter;
use dms_core::{DocumentId, Error, ErrorChain, ErrorKind, Result, Sha256, ViewStats, Visitor};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::error::{commit_failed, from_sqlx, not_committed};
use super::view_log::{Numbered, PLACES, View, ViewLog};
use crate::sql::DATABASE;

/// Views after which the tables take over what the log has.
const FOLD_VIEWS: u64 = PLACES / 4;

/// Requests to do so that may wait; those beyond wait for room.
const QUEUE_MAX: usize = 1_024;

/// How long a view may wait for room in the log, and statistics for the tables to take over the log.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// How long to wait for a lock that another process holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reader waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections for reading; each is a thread.
const READ_CONNECTIONS: u32 = 2;

/// What the log may keep on disk once its pages are moved, in bytes.
const LOG_BYTES_MAX: u32 = 16 << 20;

/// Version of the tables below, kept in the file's header.
const SCHEMA_VERSION: i32 = 2;

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
    CREATE TABLE IF NOT EXISTS view_log (
        folded INTEGER NOT NULL
    ) STRICT;
    INSERT INTO view_log (folded) SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM view_log);
    PRAGMA user_version = 2;
    COMMIT;
";

/// Number of the last view of the log that is in the tables.
const FOLDED: &str = "SELECT folded FROM view_log";

const SET_FOLDED: &str = "UPDATE view_log SET folded = ?1";

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
/// A view is written to a log beside the file, named like it with `-log` appended: one call of the
/// operating system, on the thread that records. It then survives the death of the process, and
/// `kill -9`. The tables take over the log in one transaction for thousands of views, and before
/// statistics are read. Neither is synced for each view (`synchronous=NORMAL`): if the machine loses
/// power, some of the views of the last moments may be lost, and never anything else.
///
/// One process at a time: the log is locked while it is open.
///
/// Distinct visitors are counted exactly, by 64 bits of the SHA-256 of document and visitor. Two
/// visitors of a document with a million would be taken for one with a probability of 1 in 37
/// million, and who a visitor was can't be read from the file without guessing the name.
#[derive(Clone)]
pub struct SqliteViewCounter(Arc<Shared>);

struct Shared {
    state: Arc<State>,
    /// Asks for the tables to take over the log.
    folds: mpsc::Sender<Option<oneshot::Sender<Result<()>>>>,
    stop: CancellationToken,
    writer: Mutex<Option<JoinHandle<Option<SqliteConnection>>>>,
    reads: SqlitePool,
}

/// What recording and taking over have in common.
struct State {
    log: Mutex<Log>,
    /// Told whenever there is room in the log again.
    room: Notify,
}

struct Log {
    /// None once the counter is closed, so that others may have it.
    file: Option<ViewLog>,
    /// Number of the last view.
    last: u64,
    /// What isn't in the tables and not about to be.
    pending: Vec<Numbered>,
    /// Number of the last view that is in the tables.
    folded: u64,
    closed: bool,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Views that aren't in the tables.
    fn waiting(&self) -> u64 {
        self.last - self.folded
    }
}

impl SqliteViewCounter {
    /// Opens the file, creating it if it isn't there. Its folder must exist. Must be called in a
    /// Tokio runtime, which then runs one task until [`close`](Self::close).
    ///
    /// # Errors
    /// - `Conflict` with code `schema_newer` if a newer build wrote the file;
    /// - `Unavailable` if a file can't be opened or is locked; `StorageFull`;
    /// - `Internal` if it is no `SQLite` database or corrupt.
    pub async fn open(path: &Path) -> Result<Self> {
        let log_path = ViewLog::path_of(path);
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
        let folded: i64 =
            sqlx::query_scalar(FOLDED).fetch_one(&mut connection).await.map_err(from_sqlx)?;
        let folded = folded.cast_unsigned();
        let opening = move || ViewLog::open(&log_path, folded, BUSY_TIMEOUT);
        let (file, pending) = tokio::task::spawn_blocking(opening)
            .await
            .map_err(|error| Error::internal("opening ended early").with_source(error))?
            .map_err(|error| from_io("the log of views can't be opened", error))?;
        let reads = SqlitePoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(
                options.read_only(true).thread_name(|_| "dms-views-read".to_owned()),
            );
        let folded = pending.first().map_or(file.last(), |(number, _)| number - 1);
        let log = Log { last: file.last(), file: Some(file), pending, folded, closed: false };
        let state = Arc::new(State { log: Mutex::new(log), room: Notify::new() });
        let (folds, asked) = mpsc::channel(QUEUE_MAX);
        let stop = CancellationToken::new();
        let writer = Writer {
            state: Arc::clone(&state),
            options: write_options,
            connection: Some(connection),
        };
        let task = tokio::spawn(writer.run(asked, stop.clone()));
        let writer = Mutex::new(Some(task));
        Ok(Self(Arc::new(Shared { state, folds, stop, writer, reads })))
    }

    /// Refuses what comes from now on, has the tables take over the log, and closes the files. Doing
    /// it again changes nothing. Without it, the log keeps what the tables don't have.
    ///
    /// # Errors
    /// `Internal` if the writer had panicked; `Unavailable` or `StorageFull` if the log can't be
    /// moved into the file: it is read when the file is opened again.
    pub async fn close(&self) -> Result<()> {
        self.0.state.lock().closed = true;
        self.0.state.room.notify_waiters();
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
            .field("waiting", &self.0.state.lock().waiting())
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
        0..SCHEMA_VERSION => {
            sqlx::raw_sql(SCHEMA).execute(connection).await.map(|_| ()).map_err(from_sqlx)
        }
        _ => Err(Error::new(ErrorKind::Conflict, "view counts were written by a newer version")
            .with_code("schema_newer")),
    }
}

fn closed() -> Error {
    Error::unavailable(DATABASE, "view counter closed")
}

fn from_io(message: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::StorageFull, "no space left for views").with_source(error)
        }
        _ => Error::unavailable(DATABASE, message).with_source(error),
    }
}

/// What stands for a visitor of a document in the file.
fn visitor_hash(document: DocumentId, visitor: &Visitor) -> i64 {
    let id = document.as_uuid();
    let digest = Sha256::of(&[id.as_bytes(), visitor.0.as_bytes()].concat());
    let (first, _) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
    i64::from_be_bytes(*first)
}

impl Shared {
    /// Writes a view to the log; gives whether there was room.
    fn append(&self, view: View) -> Result<bool> {
        let waiting = {
            let mut log = self.state.lock();
            if log.closed {
                return Err(closed());
            }
            if log.waiting() >= PLACES {
                return Ok(false);
            }
            let appended = log.file.as_mut().ok_or_else(closed)?.append(view);
            log.last = appended.map_err(|error| from_io("view can't be written", error))?;
            let numbered = (log.last, view);
            log.pending.push(numbered);
            log.waiting()
        };
        if waiting % FOLD_VIEWS == 0 {
            // If there is no room, enough have asked.
            let _ = self.folds.try_send(None);
        }
        Ok(true)
    }

    /// Returns once the tables have what was recorded before.
    async fn fold(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        let fold = async {
            self.folds.send(Some(answer)).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        };
        tokio::time::timeout(WAIT_MAX, fold).await.map_err(|elapsed| {
            Error::unavailable(DATABASE, "too many views wait").with_source(elapsed)
        })?
    }
}

#[async_trait]
impl ViewCounter for SqliteViewCounter {
    /// # Errors
    /// `Unavailable` if the log stays full for 5 s, can't be written, or the counter is closed;
    /// `StorageFull`. The view isn't counted.
    async fn record(&self, id: DocumentId, visitor: &Visitor) -> Result<()> {
        let view = View { document: id, visitor: visitor_hash(id, visitor) };
        if self.0.append(view)? {
            return Ok(());
        }
        let append = async {
            loop {
                let mut room = std::pin::pin!(self.0.state.room.notified());
                room.as_mut().enable();
                if self.0.append(view)? {
                    return Ok(());
                }
                let _ = self.0.folds.try_send(None);
                room.await;
            }
        };
        tokio::time::timeout(WAIT_MAX, append).await.map_err(|elapsed| {
            Error::unavailable(DATABASE, "too many views wait").with_source(elapsed)
        })?
    }

    async fn stats(&self, id: DocumentId) -> Result<ViewStats> {
        let waiting = self.0.state.lock().waiting();
        if waiting > 0 {
            self.0.fold().await?;
        }
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
    state: Arc<State>,
    options: SqliteConnectOptions,
    /// None after an error: whatever state it was in is gone with it.
    connection: Option<SqliteConnection>,
}

impl Writer {
    async fn run(
        mut self,
        mut asked: mpsc::Receiver<Option<oneshot::Sender<Result<()>>>>,
        stop: CancellationToken,
    ) -> Option<SqliteConnection> {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                received = asked.recv_many(&mut waiting, QUEUE_MAX) => {
                    if received == 0 {
                        break;
                    }
                    let outcome = self.fold().await;
                    for answer in waiting.drain(..).flatten() {
                        // Nobody may be waiting any more.
                        let _ = answer.send(outcome.clone().map_err(Failure::into_error));
                    }
                }
            }
        }
        asked.close();
        let outcome = self.fold().await;
        let file = self.state.lock().file.take();
        if let Some(file) = file.filter(|_| outcome.is_ok()) {
            // What stays there is in the tables already.
            let _ = file.clear();
        }
        while let Ok(answer) = asked.try_recv() {
            if let Some(answer) = answer {
                let _ = answer.send(outcome.clone().map_err(Failure::into_error));
            }
        }
        self.connection
    }

    /// Has the tables take over what is in the log now.
    async fn fold(&mut self) -> Result<(), Failure> {
        let (batch, up_to) = {
            let mut log = self.state.lock();
            (std::mem::take(&mut log.pending), log.last)
        };
        if batch.is_empty() {
            return Ok(());
        }
        let outcome = self.commit(&batch, up_to).await;
        let mut log = self.state.lock();
        match &outcome {
            Ok(()) => {
                log.folded = up_to;
                self.state.room.notify_waiters();
            }
            Err(failure) => {
                tracing::warn!(error = %ErrorChain(&failure.error), "views stay in the log");
                let later = std::mem::replace(&mut log.pending, batch);
                log.pending.extend(later);
            }
        }
        outcome
    }

    async fn commit(&mut self, batch: &[Numbered], up_to: u64) -> Result<(), Failure> {
        let before = |error| Failure { error: Arc::new(error), in_commit: false };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(before)?,
        };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(before)?;
        // A commit that seemed to fail may have succeeded.
        let folded: i64 =
            sqlx::query_scalar(FOLDED).fetch_one(&mut *transaction).await.map_err(before)?;
        let new = batch.iter().filter(|(number, _)| *number > folded.cast_unsigned());
        let views = to_json(new.map(|(_, view)| view));
        for statement in [ADD_TOTALS, ADD_VISITORS] {
            sqlx::query(statement).bind(&views).execute(&mut *transaction).await.map_err(before)?;
        }
        sqlx::query(SET_FOLDED)
            .bind(up_to.cast_signed())
            .execute(&mut *transaction)
            .await
            .map_err(before)?;
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
fn to_json<'a>(batch: impl Iterator<Item = &'a View>) -> String {
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
