//! The document cache and the view counters: in process, or in Redis.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dms_core::Result;
use dms_core::ports::IdempotencyRepository;
use dms_runtime::settings::CacheLocation;
use dms_store::cache::{CacheOptions, MokaDocumentCache};
#[cfg(feature = "engines")]
use dms_store::redis::{
    RedisClient, RedisDocumentCache, RedisIdempotencyRepository, RedisViewCounter,
};
use dms_store::sqlite::SqliteViewCounter;
use futures_util::FutureExt as _;

use super::{Closer, Reads};

/// Memory the document cache may take.
const CACHE_BYTES_MAX: u64 = 16 << 20;
/// How old a cached document may be.
const CACHE_TIME_TO_LIVE: Duration = Duration::from_secs(30);

/// Where cached documents are.
#[derive(Clone)]
pub(crate) enum CacheBackend {
    Memory,
    #[cfg(feature = "engines")]
    Redis(RedisClient),
}

impl CacheBackend {
    pub(crate) fn open(location: &CacheLocation) -> Result<Self> {
        match location {
            CacheLocation::Memory => Ok(Self::Memory),
            #[cfg(feature = "engines")]
            CacheLocation::Redis(url) => super::engines::redis(url).map(Self::Redis),
            other => Err(super::storage::not_built(other)),
        }
    }

    /// Cache and counters; the counters of this process are kept in `folder`, and closed at the end.
    pub(crate) async fn reads(&self, folder: &Path) -> Result<(Reads, Option<Closer>)> {
        let options = CacheOptions { bytes_max: CACHE_BYTES_MAX, time_to_live: CACHE_TIME_TO_LIVE };
        match self {
            Self::Memory => {
                let views = SqliteViewCounter::open(&folder.join("views.db")).await?;
                let reads = Reads {
                    cache: Arc::new(MokaDocumentCache::new(options)),
                    views: Arc::new(views.clone()),
                };
                Ok((reads, Some(Closer::new(move || async move { views.close().await }.boxed()))))
            }
            #[cfg(feature = "engines")]
            Self::Redis(client) => {
                let reads = Reads {
                    cache: Arc::new(RedisDocumentCache::new(client.clone(), options)),
                    views: Arc::new(RedisViewCounter::new(client.clone())),
                };
                Ok((reads, None))
            }
        }
    }

    /// Idempotency keys, with what the cache can do to spare the database.
    pub(crate) fn idempotency(
        &self,
        keys: Arc<dyn IdempotencyRepository>,
    ) -> Arc<dyn IdempotencyRepository> {
        match self {
            Self::Memory => keys,
            #[cfg(feature = "engines")]
            Self::Redis(client) => Arc::new(RedisIdempotencyRepository::new(client.clone(), keys)),
        }
    }
}
