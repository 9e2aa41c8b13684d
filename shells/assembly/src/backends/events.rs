//! The change stream: the log of SQLite, the write-ahead log of PostgreSQL, or Kafka.

use std::sync::Arc;

use dms_cdc::sqlite::SqliteChangeSource;
use dms_core::ports::ChangeSource;
use dms_core::{Error, Result};
use dms_runtime::settings::EventsLocation;

use super::database::Sqlite;
use super::{Closer, Database};

/// The stream as the index follows it, under the name `consumer`.
pub(crate) fn open_index_source(
    location: &EventsLocation,
    database: Option<&Database>,
    consumer: &str,
) -> Result<(Arc<dyn ChangeSource>, Option<Closer>)> {
    match location {
        // Closing the database writes its place, too.
        EventsLocation::Database => Ok((sqlite(database)?.index_source.clone(), None)),
        #[cfg(feature = "engines")]
        EventsLocation::Postgres(url) => {
            super::engines::wal_source(url, consumer).map(|(source, closer)| (source, Some(closer)))
        }
        #[cfg(feature = "engines")]
        EventsLocation::Kafka { brokers, topic_prefix } => {
            super::engines::kafka_source(brokers, topic_prefix.as_deref(), consumer)
                .map(|(source, closer)| (source, Some(closer)))
        }
        other => {
            let _ = consumer;
            Err(super::storage::not_built(other))
        }
    }
}

/// The stream from now on, for whoever keeps no place in it.
pub(crate) fn open_live_source(
    location: &EventsLocation,
    database: Option<&Database>,
) -> Result<Arc<dyn ChangeSource>> {
    match location {
        EventsLocation::Database => {
            let database = &sqlite(database)?.database;
            Ok(Arc::new(SqliteChangeSource::transient(database.read_pool(), database.commits())))
        }
        #[cfg(feature = "engines")]
        EventsLocation::Postgres(url) => super::engines::transient_wal_source(url),
        #[cfg(feature = "engines")]
        EventsLocation::Kafka { brokers, topic_prefix } => {
            super::engines::transient_kafka_source(brokers, topic_prefix.as_deref())
        }
        other => Err(super::storage::not_built(other)),
    }
}

fn sqlite(database: Option<&Database>) -> Result<&Sqlite> {
    match database {
        Some(Database::Sqlite(sqlite)) => Ok(sqlite),
        _ => Err(Error::internal("the change log is that of a database that isn't open")),
    }
}
