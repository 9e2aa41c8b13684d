//! A database of its own for each test, removed with it.

use std::time::Duration;

use dms_core::{Document, DocumentId, NewDocument, NewSignature, Sha256, Signature, SignatureId};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use uuid::Uuid;

/// A database that is there as long as this lives.
pub(crate) struct Bed {
    name: String,
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The server as a test reaches it.
pub(crate) fn server_url() -> String {
    variable("DMS_TEST_POSTGRES_URL", "postgres://docs:docs_pw@127.0.0.1:5432/docs_db")
}

fn pooler_url() -> String {
    variable("DMS_TEST_PGBOUNCER_URL", "postgres://docs:docs_pw@127.0.0.1:6432/docs_db")
}

fn with_database(url: &str, name: &str) -> String {
    let (server, _) = url.rsplit_once('/').expect("a URL with a database");
    format!("{server}/{name}")
}

/// The URL of the same database at another port of this machine.
pub(crate) fn at_port(url: &str, port: u16) -> String {
    let (start, database) = url.rsplit_once('/').expect("a URL with a database");
    let (credentials, _) = start.rsplit_once('@').expect("a URL with a password");
    format!("{credentials}@127.0.0.1:{port}/{database}")
}

/// Host and port of a URL.
pub(crate) fn address(url: &str) -> String {
    let (start, _) = url.rsplit_once('/').expect("a URL with a database");
    start.rsplit_once('@').expect("a URL with a password").1.to_owned()
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<u64> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await?.rows_affected())
}

impl Bed {
    /// An empty database.
    pub(crate) async fn new() -> Self {
        let name = format!("dms_test_{}", Uuid::now_v7().simple());
        let mut connection = PgConnection::connect(&server_url()).await.expect("PostgreSQL");
        run(&mut connection, &format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .expect("a role that may create databases");
        Self { name }
    }

    /// Lets who comes through the pooler wait long for a lock, as an operator might.
    pub(crate) async fn with_lock_timeout(self, timeout: &str) -> Self {
        let mut shell = self.shell().await;
        let (role,): (String,) =
            sqlx::query_as("SELECT current_user::text").fetch_one(&mut shell).await.unwrap();
        let name = &self.name;
        let sql = format!("ALTER ROLE {role} IN DATABASE {name} SET lock_timeout = '{timeout}'");
        run(&mut shell, &sql).await.unwrap();
        self
    }

    pub(crate) fn direct_url(&self) -> String {
        with_database(&server_url(), &self.name)
    }

    pub(crate) fn pooled_url(&self) -> String {
        with_database(&pooler_url(), &self.name)
    }

    /// Straight to the server.
    pub(crate) fn direct(&self) -> PostgresOptions {
        patient(&self.direct_url())
    }

    /// Through the pooler, but for migrations.
    pub(crate) fn pooled(&self) -> PostgresOptions {
        PostgresOptions { direct_url: Some(self.direct_url()), ..patient(&self.pooled_url()) }
    }

    /// A connection such as psql has.
    pub(crate) async fn shell(&self) -> PgConnection {
        PgConnection::connect(&self.direct_url()).await.expect("PostgreSQL")
    }
}

/// Options for a machine that is busy with much else.
pub(crate) fn patient(url: &str) -> PostgresOptions {
    let long = Duration::from_secs(20);
    PostgresOptions { acquire_timeout: long, statement_timeout: long, ..PostgresOptions::new(url) }
}

/// Options under which it shows soon that nobody answers.
pub(crate) fn impatient(url: &str) -> PostgresOptions {
    PostgresOptions {
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: Duration::from_secs(3),
        ..PostgresOptions::new(url)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let remove = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server_url()).await?;
                run(&mut connection, &sql).await
            })
        };
        // A test that failed must not fail again here.
        if let Ok(Err(error)) = std::thread::spawn(remove).join() {
            eprintln!("database of a test not removed: {error}");
        }
    }
}

/// A database that is ready.
pub(crate) async fn prepared(options: PostgresOptions) -> PostgresDatabase {
    let database = PostgresDatabase::new(options).expect("options");
    database.prepare().await.expect("prepare");
    database
}

pub(crate) fn new_document() -> NewDocument {
    let id = DocumentId::generate();
    NewDocument {
        id,
        title: "it's \"a\" title".into(),
        content_type: "text/plain".into(),
        content_size: 5,
        content_sha256: Sha256::of(b"hello"),
        s3_key: Document::content_key(id),
        created_by: "jane".into(),
    }
}

pub(crate) fn new_signature(document_id: DocumentId, signer_email: &str) -> NewSignature {
    let id = SignatureId::generate();
    NewSignature {
        id,
        document_id,
        signer_email: signer_email.into(),
        signer_name: "Jane".into(),
        image_key: Signature::image_key(id),
        image_content_type: "image/png".into(),
    }
}
