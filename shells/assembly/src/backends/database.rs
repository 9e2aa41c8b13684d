//! The database: an SQLite file, or a PostgreSQL server.

use std::path::Path;
use std::sync::Arc;

use dms_cdc::sqlite::{ChangeLogTrimmer, SqliteChangeSource, TrimOptions};
use dms_core::Result;
use dms_core::ports::Clock;
use dms_runtime::settings::{DatabaseLocation, Migrate};
use dms_store::sqlite::{SqliteDatabase, SqliteOptions};

use super::Repositories;
use crate::indexing::INDEX_CONSUMER;
use crate::preparation::Preparations;

/// An open database.
pub(crate) enum Database {
    Sqlite(Sqlite),
    #[cfg(feature = "engines")]
    Postgres(dms_store::postgres::PostgresDatabase),
}

/// What only the embedded database has: a change log to follow and to trim.
#[derive(Clone)]
pub(crate) struct Sqlite {
    pub(crate) database: SqliteDatabase,
    pub(crate) index_source: Arc<SqliteChangeSource>,
    pub(crate) trimmer: Arc<ChangeLogTrimmer>,
}

impl Database {
    pub(crate) fn repositories(&self) -> Repositories {
        match self {
            Self::Sqlite(Sqlite { database, .. }) => Repositories {
                documents: Arc::new(database.documents()),
                signatures: Arc::new(database.signatures()),
                texts: Arc::new(database.texts()),
                idempotency: Arc::new(database.idempotency()),
                dead_letters: Arc::new(database.dead_letters()),
            },
            #[cfg(feature = "engines")]
            Self::Postgres(database) => Repositories {
                documents: Arc::new(database.documents()),
                signatures: Arc::new(database.signatures()),
                texts: Arc::new(database.texts()),
                idempotency: Arc::new(database.idempotency()),
                dead_letters: Arc::new(database.dead_letters()),
            },
        }
    }

    /// The change log of an embedded database, to be trimmed.
    pub(crate) fn trimmer(&self) -> Option<Arc<ChangeLogTrimmer>> {
        match self {
            Self::Sqlite(sqlite) => Some(Arc::clone(&sqlite.trimmer)),
            #[cfg(feature = "engines")]
            Self::Postgres(_) => None,
        }
    }

    /// Writes what is still in memory and closes everything.
    pub(crate) async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(sqlite) => {
                let flushed = sqlite.index_source.flush().await;
                flushed.and(sqlite.database.close().await)
            }
            #[cfg(feature = "engines")]
            Self::Postgres(database) => {
                database.close().await;
                Ok(())
            }
        }
    }
}

pub(crate) async fn open_database(
    location: &DatabaseLocation,
    migrate: Migrate,
    clock: &Arc<dyn Clock>,
    preparations: &mut Preparations,
) -> Result<Database> {
    match location {
        DatabaseLocation::Sqlite(path) => open_sqlite(path, migrate, clock).await,
        #[cfg(feature = "engines")]
        DatabaseLocation::Postgres { url, direct_url, replica_url } => {
            super::engines::postgres(url, direct_url, replica_url.as_ref(), migrate, preparations)
        }
        #[allow(unreachable_patterns, reason = "places are added to the settings first")]
        other => {
            let _ = preparations;
            Err(super::storage::not_built(other))
        }
    }
}

async fn open_sqlite(path: &Path, migrate: Migrate, clock: &Arc<dyn Clock>) -> Result<Database> {
    let options = SqliteOptions {
        clock: Arc::clone(clock),
        migrate: migrate == Migrate::Auto,
        ..SqliteOptions::default()
    };
    let database = SqliteDatabase::open(path, options).await?;
    let index_source = Arc::new(SqliteChangeSource::new(
        database.read_pool(),
        database.maintenance_pool(),
        database.commits(),
        INDEX_CONSUMER,
    ));
    let trimmer = ChangeLogTrimmer::new(database.maintenance_pool(), TrimOptions::default());
    Ok(Database::Sqlite(Sqlite { database, index_source, trimmer: Arc::new(trimmer) }))
}
