//! The database: its addresses, what is done once, and its repositories.

use std::fmt;
use std::sync::Arc;

use dms_core::ports::DocumentRepository as _;
use dms_core::{Error, ErrorKind, Result};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, query_as};
use tokio::time::timeout;

use super::connections::{Bounds, Connections, PoolStats};
use super::error::{from_sqlx, no_answer};
use super::options::{PostgresOptions, parse};
use super::replica::Replica;
use super::{
    PostgresDeadLetterRepository, PostgresDocumentRepository, PostgresIdempotencyRepository,
    PostgresSignatureRepository, PostgresTextRepository, migrations, pooler,
};

/// The oldest server that is supported, as it numbers itself.
const SERVER_VERSION_MIN: i32 = 150_000;

/// Documents, signatures, texts, idempotency keys and dead letters in `PostgreSQL`.
///
/// Cheap to clone; clones and repositories share the connections. Any number of processes may use
/// one database.
///
/// ```no_run
/// # async fn example() -> dms_core::Result<()> {
/// use dms_core::ports::DocumentRepository as _;
/// use dms_store::postgres::{PostgresDatabase, PostgresOptions};
///
/// let url = "postgres://dms:secret@127.0.0.1:5432/dms";
/// let database = PostgresDatabase::new(PostgresOptions::new(url))?;
/// database.prepare().await?;
/// let newest = database.documents().list(&dms_core::ListQuery::default()).await?;
/// println!("{} documents", newest.documents.len());
/// database.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresDatabase {
    shared: Arc<Shared>,
}

/// What the repositories share.
pub(super) struct Shared {
    pub(super) connections: Connections,
    pub(super) replica: Option<Replica>,
    pooled: PgConnectOptions,
    direct: PgConnectOptions,
    options: PostgresOptions,
}

impl PostgresDatabase {
    /// Reads the options and connects to nothing: calls connect when they need to, and find the
    /// database whenever it is there. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// `Invalid` if a URL can't be read; the field is `url`, `direct_url` or `replica_url`.
    pub fn new(options: PostgresOptions) -> Result<Self> {
        let pooled = parse("url", &options.url)?;
        let direct = match &options.direct_url {
            Some(url) => parse("direct_url", url)?,
            None => pooled.clone(),
        };
        let replica =
            options.replica_url.as_ref().map(|url| parse("replica_url", url)).transpose()?;
        let bounds = Bounds {
            connections_max: options.connections_max,
            waiting_max: options.waiting_max,
            acquire_timeout: options.acquire_timeout,
            statement_timeout: options.statement_timeout,
        };
        let shared = Shared {
            connections: Connections::new(pooled.clone(), bounds),
            replica: replica.map(|replica| Replica::new(Connections::new(replica, bounds))),
            pooled,
            direct,
            options,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reaches the database once: brings its schema up to date, or refuses an older one, and makes
    /// sure that a pooler before it gives right answers. Several processes may do it at once, and
    /// again.
    ///
    /// # Errors
    /// - `Unavailable` if the database can't be reached: try again later;
    /// - `Conflict` with code `schema_newer`, `schema_older` (migrations are off), `pooler_unfit`,
    ///   or `server_older`, and a message that says what to do;
    /// - `Internal` if a migration fails.
    pub async fn prepare(&self) -> Result<()> {
        let options = &self.shared.options;
        let connecting = timeout(options.acquire_timeout, self.shared.direct.connect());
        let mut direct = connecting.await.map_err(no_answer)?.map_err(from_sqlx)?;
        let server = timeout(options.statement_timeout, Server::ask(&mut direct));
        let server = server.await.map_err(no_answer)??;
        server.refuse_older()?;
        if options.migrate {
            migrations::apply(&mut direct, options.prepare_timeout).await?;
        } else {
            migrations::check(&mut direct, options.statement_timeout).await?;
        }
        // What becomes of a connection that has done its work is of no interest.
        let _ = timeout(options.acquire_timeout, direct.close()).await;

        let patience = options.acquire_timeout + options.statement_timeout;
        let gate = pooler::check(&self.shared.pooled, patience).await?;
        tracing::info!(
            server = server.version,
            wal_level = server.wal_level,
            pooler = ?gate,
            "database is ready"
        );
        Ok(())
    }

    /// The documents.
    pub fn documents(&self) -> PostgresDocumentRepository {
        PostgresDocumentRepository::new(Arc::clone(&self.shared))
    }

    /// The signatures.
    pub fn signatures(&self) -> PostgresSignatureRepository {
        PostgresSignatureRepository::new(Arc::clone(&self.shared))
    }

    /// The extracted texts.
    pub fn texts(&self) -> PostgresTextRepository {
        PostgresTextRepository::new(Arc::clone(&self.shared))
    }

    /// The idempotency keys.
    pub fn idempotency(&self) -> PostgresIdempotencyRepository {
        PostgresIdempotencyRepository::new(Arc::clone(&self.shared))
    }

    /// The dead letters.
    pub fn dead_letters(&self) -> PostgresDeadLetterRepository {
        PostgresDeadLetterRepository::new(Arc::clone(&self.shared))
    }

    /// Whether the database answers and has a schema. The replica isn't asked: nothing depends on it.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn check(&self) -> Result<()> {
        self.documents().check().await
    }

    /// What the connections to `url` are doing.
    pub fn pool_stats(&self) -> PoolStats {
        self.shared.connections.stats()
    }

    /// Refuses new calls, finishes the statements that run, and closes every connection. Doing it
    /// again changes nothing.
    pub async fn close(&self) {
        self.shared.connections.close().await;
        if let Some(replica) = &self.shared.replica {
            replica.close().await;
        }
    }
}

impl fmt::Debug for PostgresDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresDatabase")
            .field("options", &self.shared.options)
            .field("stats", &self.pool_stats())
            .finish()
    }
}

/// What a server says of itself.
struct Server {
    version_number: i32,
    version: String,
    wal_level: String,
}

impl Server {
    async fn ask(connection: &mut PgConnection) -> Result<Self> {
        let (version_number, version, wal_level) = query_as(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                current_setting('wal_level')",
        )
        .fetch_one(connection)
        .await
        .map_err(from_sqlx)?;
        Ok(Self { version_number, version, wal_level })
    }

    fn refuse_older(&self) -> Result<()> {
        if self.version_number >= SERVER_VERSION_MIN {
            return Ok(());
        }
        let message = format!("database server is {}: use postgresql 15 or newer", self.version);
        Err(Error::new(ErrorKind::Conflict, message).with_code("server_older"))
    }
}
