//! The engines: each opened without a connection, so that a program starts whether they are there
//! or not.

use std::sync::Arc;

use dms_cdc::kafka::{KafkaChangeSource, KafkaSourceOptions};
use dms_cdc::postgres::{WalChangeSource, WalOptions};
use dms_core::Result;
use dms_core::ports::{BlobStore, ChangeSource, SearchIndex};
use dms_runtime::Secret;
use dms_runtime::settings::{Migrate, S3Location};
use dms_search::{ElasticsearchIndex, ElasticsearchOptions};
use dms_store::postgres::{PostgresDatabase, PostgresOptions};
use dms_store::redis::{RedisClient, RedisOptions};
use dms_store::s3::{S3BlobStore, S3Options};
use futures_util::FutureExt as _;

use super::{Closer, Database};
use crate::preparation::Preparations;

/// Group and slots of consumers that keep no place begin with this.
const LIVE: &str = "dms-live";

pub(super) fn postgres(
    url: &Secret,
    direct_url: &Secret,
    replica_url: Option<&Secret>,
    migrate: Migrate,
    preparations: &mut Preparations,
) -> Result<Database> {
    let database = PostgresDatabase::new(PostgresOptions {
        direct_url: Some(direct_url.expose().to_owned()),
        replica_url: replica_url.map(|url| url.expose().to_owned()),
        migrate: migrate == Migrate::Auto,
        ..PostgresOptions::new(url.expose())
    })?;
    let prepared = database.clone();
    preparations.add("DMS_DATABASE_URL", "database-preparation", move || {
        let database = prepared.clone();
        async move { database.prepare().await }.boxed()
    });
    Ok(Database::Postgres(database))
}

pub(super) fn s3(
    bucket: &S3Location,
    preparations: &mut Preparations,
) -> Result<Arc<dyn BlobStore>> {
    let store = S3BlobStore::new(S3Options {
        bucket: bucket.bucket.clone(),
        prefix: bucket.prefix.clone(),
        endpoint: bucket.endpoint.clone(),
        region: bucket.region.clone(),
        access_key_id: bucket.access_key_id.expose().to_owned(),
        secret_access_key: bucket.secret_access_key.expose().to_owned(),
        // Whoever speaks to it without encryption develops; elsewhere a missing bucket is a mistake.
        create_bucket: bucket.endpoint.as_deref().is_some_and(|url| url.starts_with("http://")),
        ..S3Options::default()
    })?;
    let store = Arc::new(store);
    let prepared = Arc::clone(&store);
    preparations.add("DMS_STORAGE_URL", "storage-preparation", move || {
        let store = Arc::clone(&prepared);
        async move { store.prepare().await }.boxed()
    });
    Ok(store)
}

pub(super) fn redis(url: &Secret) -> Result<RedisClient> {
    RedisClient::new(url.expose(), RedisOptions::default())
}

pub(super) fn elasticsearch(url: &Secret, alias: Option<&str>) -> Result<Arc<dyn SearchIndex>> {
    let mut options = ElasticsearchOptions::new(url.expose());
    if let Some(alias) = alias {
        alias.clone_into(&mut options.alias);
    }
    Ok(Arc::new(ElasticsearchIndex::new(options)?))
}

pub(super) fn wal_source(url: &Secret, consumer: &str) -> Result<(Arc<dyn ChangeSource>, Closer)> {
    let source = Arc::new(WalChangeSource::new(WalOptions::new(url.expose(), slot(consumer)))?);
    let closed = Arc::clone(&source);
    Ok((source, Closer::new(move || async move { closed.flush().await }.boxed())))
}

pub(super) fn transient_wal_source(url: &Secret) -> Result<Arc<dyn ChangeSource>> {
    let options = WalOptions::new(url.expose(), slot(LIVE));
    Ok(Arc::new(WalChangeSource::transient(options)?))
}

pub(super) fn kafka_source(
    brokers: &[String],
    topic_prefix: Option<&str>,
    consumer: &str,
) -> Result<(Arc<dyn ChangeSource>, Closer)> {
    let options = kafka_options(brokers, topic_prefix, consumer);
    let source = Arc::new(KafkaChangeSource::new(options)?);
    let closed = Arc::clone(&source);
    let close = move || {
        async move {
            let flushed = closed.flush().await;
            closed.close().await;
            flushed
        }
        .boxed()
    };
    Ok((source, Closer::new(close)))
}

pub(super) fn transient_kafka_source(
    brokers: &[String],
    topic_prefix: Option<&str>,
) -> Result<Arc<dyn ChangeSource>> {
    let options = kafka_options(brokers, topic_prefix, LIVE);
    Ok(Arc::new(KafkaChangeSource::transient(options)?))
}

fn kafka_options(
    brokers: &[String],
    topic_prefix: Option<&str>,
    consumer: &str,
) -> KafkaSourceOptions {
    let mut options = KafkaSourceOptions::new(brokers.join(","), consumer);
    if let Some(prefix) = topic_prefix {
        options.topics = vec![format!("{prefix}.documents"), format!("{prefix}.signatures")];
    }
    options
}

/// A slot's name has no hyphens
/// (<https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION-SLOTS>).
fn slot(consumer: &str) -> String {
    consumer.replace('-', "_")
}
