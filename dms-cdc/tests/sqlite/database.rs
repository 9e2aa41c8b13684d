//! A database with the tables of the change log.

use std::time::Duration;

use dms_cdc::RawChange;
use dms_cdc::sqlite::SqliteChangeSource;
use dms_core::DocumentId;
use dms_core::model::change::{Change, DocumentRow, Operation, Position, RowChange, SignatureRow};
use dms_core::{DocumentStatus, SignatureId};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::watch;

const SCHEMA: &str = "
    CREATE TABLE change_log (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT NOT NULL, operation TEXT NOT NULL,
        before TEXT, after TEXT, committed_at TEXT NOT NULL);
    CREATE TABLE change_consumers (
        consumer TEXT PRIMARY KEY, acknowledged INTEGER NOT NULL, updated_at TEXT NOT NULL);";

pub(crate) struct Database {
    pub(crate) reads: SqlitePool,
    pub(crate) writes: SqlitePool,
    commits: watch::Sender<u64>,
    // Removed with everything in it when the database is dropped.
    directory: TempDir,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let writes = connect(&directory, 1, false).await;
        sqlx::raw_sql(SCHEMA).execute(&writes).await.expect("schema");
        let reads = connect(&directory, 4, true).await;
        Self { reads, writes, commits: watch::Sender::new(0), directory }
    }

    /// A pool as another process would have it.
    pub(crate) async fn elsewhere(&self) -> SqlitePool {
        connect(&self.directory, 1, false).await
    }

    pub(crate) fn source(&self, consumer: &str) -> SqliteChangeSource {
        let commits = self.commits.subscribe();
        SqliteChangeSource::new(self.reads.clone(), self.writes.clone(), commits, consumer)
    }

    pub(crate) fn transient(&self) -> SqliteChangeSource {
        SqliteChangeSource::transient(self.reads.clone(), self.commits.subscribe())
    }

    pub(crate) async fn append(&self, operation: Operation, row: RowChange) {
        insert(&self.writes, operation, row).await;
        self.commits.send_modify(|commits| *commits += 1);
    }

    /// Commits changes of new documents, by one statement each.
    pub(crate) async fn append_documents(&self, count: usize) {
        for _ in 0..count {
            self.append(Operation::Create, document(DocumentId::generate(), 1)).await;
        }
    }

    pub(crate) async fn acknowledged(&self, consumer: &str) -> Option<i64> {
        sqlx::query_scalar("SELECT acknowledged FROM change_consumers WHERE consumer = $1")
            .bind(consumer)
            .fetch_optional(&self.reads)
            .await
            .expect("consumers")
    }

    pub(crate) async fn log_length(&self) -> i64 {
        let query = sqlx::query_scalar("SELECT count(*) FROM change_log");
        query.fetch_one(&self.reads).await.expect("log")
    }
}

async fn connect(directory: &TempDir, connections: u32, read_only: bool) -> SqlitePool {
    let options = SqliteConnectOptions::new()
        .filename(directory.path().join("dms.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(5))
        .pragma("query_only", if read_only { "on" } else { "off" });
    let pool = SqlitePoolOptions::new().max_connections(connections);
    pool.connect_with(options).await.expect("database")
}

pub(crate) async fn insert(pool: &SqlitePool, operation: Operation, row: RowChange) {
    let committed_at = OffsetDateTime::now_utc();
    let change = Change { operation, row, position: Position::new(""), committed_at };
    let columns = RawChange::encode(&change);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    sqlx::query(
        "INSERT INTO change_log (entity, operation, before, after, committed_at)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(text(columns.entity))
    .bind(text(columns.operation))
    .bind(columns.before.map(text))
    .bind(columns.after.map(text))
    .bind(text(columns.committed_at))
    .execute(pool)
    .await
    .expect("change inserted");
}

pub(crate) fn document(id: DocumentId, version: i32) -> RowChange {
    let row = DocumentRow {
        id,
        title: "Title".into(),
        content_type: "text/plain".into(),
        content_size: 1,
        content_sha256: None,
        s3_key: None,
        status: DocumentStatus::Created,
        created_by: "somebody".into(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version,
        deleted: false,
    };
    RowChange::Document { before: None, after: Some(row) }
}

pub(crate) fn signature() -> RowChange {
    let row = SignatureRow {
        id: SignatureId::generate(),
        document_id: DocumentId::generate(),
        signer_email: "signer@example.org".into(),
        signer_name: "Signer".into(),
        created_at: OffsetDateTime::UNIX_EPOCH,
    };
    RowChange::Signature { before: None, after: Some(row) }
}
