//! A database with the tables of the product, and what reads it.

use std::collections::HashMap;
use std::time::Duration;

use dms_cdc::postgres::{WalChangeSource, WalOptions};
use dms_core::model::change::{Change, DocumentRow, Operation, Record, RowChange};
use dms_core::ports::{BatchLimits, ChangeSource};
use dms_core::{DocumentId, DocumentStatus};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};
use time::OffsetDateTime;

/// Longest that anything is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

const SCHEMA: &str = "
    CREATE TABLE documents (
        id uuid PRIMARY KEY, title text NOT NULL, content_type text NOT NULL,
        content_size bigint NOT NULL, content_sha256 text, s3_key text, status text NOT NULL,
        created_by text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(), version integer NOT NULL DEFAULT 1,
        deleted_at timestamptz);
    CREATE TABLE signatures (
        id uuid PRIMARY KEY, document_id uuid NOT NULL, signer_email text NOT NULL,
        signer_name text NOT NULL, image_key text NOT NULL DEFAULT 'k',
        image_content_type text NOT NULL DEFAULT 'image/png',
        created_at timestamptz NOT NULL DEFAULT now(),
        status_applied boolean NOT NULL DEFAULT false);
    CREATE TABLE unrelated (filler text);
    CREATE FUNCTION raise_version() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.version = OLD.version + 1; RETURN NEW; END';
    CREATE TRIGGER documents_version BEFORE UPDATE ON documents
        FOR EACH ROW EXECUTE FUNCTION raise_version();
    ALTER TABLE documents REPLICA IDENTITY FULL;
    ALTER TABLE signatures REPLICA IDENTITY FULL;";

pub(crate) const PUBLICATION: &str = "CREATE PUBLICATION cdc FOR TABLE documents, signatures";

fn server_url() -> String {
    std::env::var("DMS_TEST_POSTGRES_URL")
        .unwrap_or_else(|_| "postgres://docs:docs_pw@127.0.0.1:5432/docs_db".into())
}

pub(crate) struct Database {
    server: String,
    pub(crate) pool: PgPool,
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn new() -> Self {
        let this = Self::without_publication().await;
        this.run(PUBLICATION).await;
        this
    }

    /// On a server of the test's own.
    pub(crate) async fn on(server: &str) -> Self {
        let this = Self::create(server.to_owned()).await;
        this.run(PUBLICATION).await;
        this
    }

    pub(crate) async fn without_publication() -> Self {
        Self::create(server_url()).await
    }

    async fn create(server: String) -> Self {
        let name = format!("wal_{}", DocumentId::generate().as_uuid().simple());
        let mut connection = PgConnection::connect(&server).await.expect("PostgreSQL runs");
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("database");
        let (before, rest) = server.rsplit_once('/').expect("a URL with a database");
        let query = rest.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        let url = format!("{before}/{name}{query}");
        let options: PgConnectOptions = url.parse().expect("URL");
        let pool = PgPoolOptions::new().max_connections(4).connect_lazy_with(options);
        let this = Self { server, pool, name, url };
        this.run(SCHEMA).await;
        this
    }

    pub(crate) async fn run(&self, sql: &str) {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        query.execute(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        query.fetch_one(&self.pool).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// The name of a slot of this database; names are the server's.
    pub(crate) fn slot(&self, consumer: &str) -> String {
        let consumer = consumer.replace('-', "_");
        format!("{}_{consumer}", self.name)
    }

    pub(crate) fn options(&self, consumer: &str) -> WalOptions {
        WalOptions {
            status_every: Duration::from_millis(100),
            ..WalOptions::new(self.url.clone(), self.slot(consumer))
        }
    }

    pub(crate) fn source(&self, consumer: &str) -> WalChangeSource {
        WalChangeSource::new(self.options(consumer)).expect("options")
    }

    pub(crate) async fn confirmed(&self, consumer: &str) -> Option<String> {
        let slot = self.slot(consumer);
        self.text(&format!(
            "SELECT max(confirmed_flush_lsn)::text FROM pg_replication_slots WHERE slot_name = '{slot}'"
        ))
        .await
    }

    pub(crate) async fn drop_slot(&self, consumer: &str) {
        let slot = self.slot(consumer);
        let drop = format!(
            "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots
             WHERE slot_name = '{slot}'"
        );
        let dropped = async {
            // As long as its consumer is leaving.
            while sqlx::raw_sql(AssertSqlSafe(drop.clone())).execute(&self.pool).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, dropped).await.expect("slot dropped");
    }

    pub(crate) async fn insert(&self, count: usize) -> Vec<DocumentId> {
        let ids: Vec<_> = (0..count).map(|_| DocumentId::generate()).collect();
        for id in &ids {
            self.run(&insert_sql(*id, "created")).await;
        }
        ids
    }

    /// Version of each document.
    pub(crate) async fn versions(&self) -> HashMap<DocumentId, i32> {
        let query = sqlx::query_as("SELECT id::text, version FROM documents");
        let rows: Vec<(String, i32)> = query.fetch_all(&self.pool).await.expect("rows");
        rows.into_iter().map(|(id, version)| (id.parse().expect("an id"), version)).collect()
    }

    pub(crate) async fn append(&self, operation: Operation, row: RowChange) {
        let RowChange::Document { after: Some(row), .. } = row else { panic!("no document") };
        let sql = match operation {
            Operation::Create => {
                "INSERT INTO documents (id, title, content_type, content_size,
                    content_sha256, s3_key, status, created_by, created_at, updated_at, deleted_at)
                VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
            }
            _ => {
                "UPDATE documents SET title = $2, content_type = $3, content_size = $4,
                    content_sha256 = $5, s3_key = $6, status = $7, created_by = $8, created_at = $9,
                    updated_at = $10, deleted_at = $11 WHERE id = $1::uuid"
            }
        };
        sqlx::query(sql)
            .bind(row.id.to_string())
            .bind(row.title)
            .bind(row.content_type)
            .bind(i64::try_from(row.content_size).expect("small"))
            .bind(row.content_sha256.map(|sha256| sha256.to_string()))
            .bind(row.s3_key)
            .bind(row.status.as_str())
            .bind(row.created_by)
            .bind(row.created_at)
            .bind(row.updated_at)
            .bind(row.deleted.then_some(OffsetDateTime::UNIX_EPOCH))
            .execute(&self.pool)
            .await
            .expect("row written");
    }
}

pub(crate) fn insert_sql(id: DocumentId, status: &str) -> String {
    format!(
        "INSERT INTO documents (id, title, content_type, content_size, status, created_by)
         VALUES ('{id}', 'Title', 'text/plain', 1, '{status}', 'somebody')"
    )
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Also when the test fails; in a thread, for the test's own runtime may be ending.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("runtime").block_on(clean(&server, &name));
        });
        let is_cleaned = cleaner.join().is_ok();
        assert!(is_cleaned || std::thread::panicking(), "database {} is left over", self.name);
    }
}

async fn clean(server: &str, name: &str) {
    let mut connection = PgConnection::connect(server).await.expect("PostgreSQL runs");
    let steps = [
        format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE database = '{name}' AND active"
        ),
        format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
             WHERE database = '{name}'"
        ),
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
    ];
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let mut failed = None;
        for step in steps.clone() {
            let done = sqlx::raw_sql(AssertSqlSafe(step)).execute(&mut connection).await;
            failed = done.err().or(failed);
        }
        match failed {
            None => return,
            Some(error) if std::time::Instant::now() > deadline => panic!("{error}"),
            Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let held = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The next `count` records; whether they are acknowledged is up to the caller.
pub(crate) async fn read(source: &dyn ChangeSource, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    let read = async {
        while records.len() < count {
            let batch = source.next_batch(BatchLimits::default()).await.expect("batch");
            records.extend(batch.records);
        }
    };
    let is_done = tokio::time::timeout(PATIENCE, read).await.is_ok();
    assert!(is_done, "{} of {count} records came", records.len());
    assert_eq!(records.len(), count, "{records:?}");
    records
}

pub(crate) fn change(record: &Record) -> &Change {
    match record {
        Record::Change(change) => change,
        Record::Poison(poison) => panic!("{poison:?}"),
    }
}

pub(crate) fn document(record: &Record) -> &DocumentRow {
    match &change(record).row {
        RowChange::Document { after: Some(row), .. } => row,
        other => panic!("no document: {other:?}"),
    }
}

pub(crate) fn ids(records: &[Record]) -> Vec<DocumentId> {
    records.iter().map(|record| document(record).id).collect()
}

/// What a sink keeps: the newest version of each document.
#[derive(Debug, Default)]
pub(crate) struct Index(pub(crate) HashMap<DocumentId, i32>);

impl Index {
    pub(crate) fn apply(&mut self, records: &[Record]) {
        for record in records {
            let row = document(record);
            let version = self.0.entry(row.id).or_default();
            *version = row.version.max(*version);
            assert_eq!(row.status, DocumentStatus::Created);
        }
    }
}
