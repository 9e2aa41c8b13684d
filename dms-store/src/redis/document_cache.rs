//! The document cache.

use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::{DocumentCache, DocumentLoader, View, Viewed};
use dms_core::{Document, DocumentId, Error, ErrorChain, Result, Visitor};
use futures_util::FutureExt as _;
use redis::Script;

use super::client::RedisClient;
use super::views::{views_key, visitors_key};
use super::wire::{decode, encode};
use crate::cache::{CacheOptions, Entry, MokaDocumentCache};

/// Gives what is kept of a document, unless it's older than `ARGV[1]`, and counts a view of a live
/// one by `ARGV[2]`, if given.
static LOOK_UP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local kept = redis.call('GET', KEYS[1])
        local version = kept and tonumber(string.sub(kept, 1, 10))
        if not version or version < tonumber(ARGV[1]) then return false end
        if ARGV[2] and string.sub(kept, 11, 11) == '1' then
            redis.call('INCR', KEYS[2])
            redis.call('PFADD', KEYS[3], ARGV[2])
        end
        return kept",
    )
});

/// Keeps `ARGV[1]` for `ARGV[2]` milliseconds unless what is kept says as much; gives that then. A
/// view by `ARGV[3]`, if given, is counted unless a deletion is kept.
static OFFER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local kept = redis.call('GET', KEYS[1])
        local header = kept and string.match(kept, '^%d%d%d%d%d%d%d%d%d%d[012]')
        local stays = header and header >= string.sub(ARGV[1], 1, 11)
        if not stays then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
        if ARGV[3] and not (stays and string.sub(header, 11) == '2') then
            redis.call('INCR', KEYS[2])
            redis.call('PFADD', KEYS[3], ARGV[3])
        end
        return stays and kept",
    )
});

/// Bounds of a [`RedisDocumentCache`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedisCacheOptions {
    /// Of the cache in this process that is asked first.
    pub local: CacheOptions,
    /// How long Redis keeps a document after it was loaded or written; 30 s.
    ///
    /// When an invalidation is lost because Redis is away, a reader may get a document that is older
    /// by this and [`CacheOptions::time_to_live`] together; a reader in the process that wrote it
    /// never does while this isn't longer than that.
    pub time_to_live: Duration,
}

impl Default for RedisCacheOptions {
    fn default() -> Self {
        Self::from(CacheOptions::default())
    }
}

impl From<CacheOptions> for RedisCacheOptions {
    /// The same time to live in both.
    fn from(local: CacheOptions) -> Self {
        Self { local, time_to_live: local.time_to_live }
    }
}

/// Documents read recently: in this process, behind that in Redis, for all processes. Cheap to
/// clone; clones share the documents.
///
/// Of concurrent reads of one document one asks Redis, and if need be the loader. Redis replaces a
/// version only by a newer one, in one step. While Redis is away this is the cache in process alone.
///
/// With a [`RedisViewCounter`](super::RedisViewCounter) on the same client, a read that this process
/// has no answer to and its view are one round trip to Redis; if Redis hasn't the document either,
/// there is a second one after it was loaded.
#[derive(Clone)]
pub struct RedisDocumentCache {
    local: MokaDocumentCache,
    remote: Remote,
}

#[derive(Clone)]
struct Remote {
    client: RedisClient,
    time_to_live_ms: u64,
}

/// A view to be counted with a read, and then how that went.
#[derive(Clone)]
struct Counting {
    visitor: Visitor,
    outcome: Arc<Mutex<Option<Result<()>>>>,
}

impl Counting {
    fn settle(&self, outcome: Result<()>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    fn outcome(&self) -> Option<Result<()>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RedisDocumentCache {
    /// A cache on this client, with nothing in this process yet.
    pub fn new(client: RedisClient, options: impl Into<RedisCacheOptions>) -> Self {
        let options = options.into();
        let time_to_live_ms = options.time_to_live.as_millis().clamp(1, i64::MAX as u128);
        Self {
            local: MokaDocumentCache::new(options.local),
            remote: Remote {
                client,
                time_to_live_ms: u64::try_from(time_to_live_ms).unwrap_or(u64::MAX),
            },
        }
    }

    async fn read(
        &self,
        id: DocumentId,
        load: DocumentLoader,
        counting: Option<Counting>,
    ) -> Result<Arc<Document>> {
        let (local, remote) = (self.local.clone(), self.remote.clone());
        let load = async move {
            let least_version = local.least_version(id).await;
            remote.load(id, least_version, load, counting).await
        };
        self.local.get_or_load(id, load.boxed()).await
    }
}

impl Remote {
    /// The document as Redis has it, or as `load` gives it.
    async fn load(
        &self,
        id: DocumentId,
        least_version: Option<i32>,
        load: DocumentLoader,
        mut counting: Option<Counting>,
    ) -> Result<Arc<Document>> {
        match self.look_up(id, least_version, counting.as_ref()).await {
            Ok(Some(Entry::Live(document))) => return Ok(document),
            Ok(Some(Entry::Deleted(_))) => return Err(deleted(id)),
            Ok(Some(Entry::AtLeast(_)) | None) => {}
            Err(error) => {
                tracing::debug!(document_id = %id, error = %ErrorChain(&error), "cache not asked");
                if let Some(counting) = counting {
                    counting.settle(Err(error));
                }
                return load.await;
            }
        }
        let loaded = load.await?;
        counting = counting.filter(|counting| {
            counting.outcome.lock().unwrap_or_else(PoisonError::into_inner).is_none()
        });
        match self.offer(id, &Entry::Live(Arc::clone(&loaded)), counting.as_ref()).await {
            Some(Entry::Live(newer)) => Ok(newer),
            Some(Entry::Deleted(_)) => Err(deleted(id)),
            Some(Entry::AtLeast(_)) | None => Ok(loaded),
        }
    }

    async fn look_up(
        &self,
        id: DocumentId,
        least_version: Option<i32>,
        counting: Option<&Counting>,
    ) -> Result<Option<Entry>> {
        let mut ask = LOOK_UP.prepare_invoke();
        ask.key(self.document_key(id)).arg(least_version.unwrap_or(0));
        if let Some(counting) = counting {
            ask.key(views_key(&self.client, id)).key(visitors_key(&self.client, id));
            ask.arg(&*counting.visitor.0);
        }
        let kept: Option<Vec<u8>> = self
            .client
            .run(|mut connection| async move { ask.invoke_async(&mut connection).await })
            .await?;
        let Some(kept) = kept else { return Ok(None) };
        if let Some(counting) = counting.filter(|_| kept.get(10) == Some(&b'1')) {
            counting.settle(Ok(()));
        }
        Ok(decode(id, &kept))
    }

    /// Offers `entry` to Redis; gives what stayed in its place. Redis not being there is no failure.
    async fn offer(
        &self,
        id: DocumentId,
        entry: &Entry,
        counting: Option<&Counting>,
    ) -> Option<Entry> {
        let mut ask = OFFER.prepare_invoke();
        ask.key(self.document_key(id)).arg(encode(entry)).arg(self.time_to_live_ms);
        if let Some(counting) = counting {
            ask.key(views_key(&self.client, id)).key(visitors_key(&self.client, id));
            ask.arg(&*counting.visitor.0);
        }
        let kept: Result<Option<Vec<u8>>> = self
            .client
            .run(|mut connection| async move { ask.invoke_async(&mut connection).await })
            .await;
        match kept {
            Ok(kept) => {
                if let Some(counting) = counting {
                    counting.settle(Ok(()));
                }
                decode(id, &kept?)
            }
            Err(error) => {
                tracing::debug!(document_id = %id, error = %ErrorChain(&error), "document not cached");
                if let Some(counting) = counting {
                    counting.settle(Err(error));
                }
                None
            }
        }
    }

    fn document_key(&self, id: DocumentId) -> String {
        self.client.document_key(id, "document:v1")
    }
}

fn deleted(id: DocumentId) -> Error {
    Error::not_found("document", id)
}

impl fmt::Debug for RedisDocumentCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisDocumentCache")
            .field("local", &self.local)
            .field("client", &self.remote.client)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl DocumentCache for RedisDocumentCache {
    async fn get_or_load(&self, id: DocumentId, load: DocumentLoader) -> Result<Arc<Document>> {
        self.read(id, load, None).await
    }

    async fn get_or_load_viewed(
        &self,
        id: DocumentId,
        load: DocumentLoader,
        view: View,
    ) -> Result<Viewed> {
        let together = view.counter.store().as_ref() == Some(self.remote.client.store());
        let counting =
            together.then(|| Counting { visitor: view.visitor.clone(), outcome: Arc::default() });
        let document = self.read(id, load, counting.clone()).await?;
        let counted = match counting.and_then(|counting| counting.outcome()) {
            Some(counted) => counted,
            // The document was here, or somebody else's load has brought it.
            None => view.counter.record(id, &view.visitor).await,
        };
        Ok(Viewed { document, counted })
    }

    // This process first: whoever reads here afterwards mustn't see older, whatever Redis says.

    async fn put(&self, document: Arc<Document>) {
        self.local.put(Arc::clone(&document)).await;
        self.remote.offer(document.id, &Entry::Live(document), None).await;
    }

    async fn put_deleted(&self, id: DocumentId, version: i32) {
        self.local.put_deleted(id, version).await;
        self.remote.offer(id, &Entry::Deleted(version), None).await;
    }

    async fn invalidate(&self, id: DocumentId, version: i32) {
        self.local.invalidate(id, version).await;
        self.remote.offer(id, &Entry::AtLeast(version), None).await;
    }
}
