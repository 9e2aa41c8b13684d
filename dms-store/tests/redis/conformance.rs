//! The suites of the ports.

use std::sync::Arc;
use std::time::Duration;

use dms_core::conformance::{cache, idempotency, viewed_reads, views};
use dms_core::fake::{InMemoryDatabase, ManualClock};
use dms_store::cache::CacheOptions;
use dms_store::redis::{
    RedisCacheOptions, RedisDocumentCache, RedisIdempotencyRepository, RedisViewCounter,
};
use futures_util::future::{BoxFuture, ready};

use crate::support::{Keys, nothing_here};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn the_cache_passes_the_suite() {
    let keys = Keys::new();
    let cache = RedisDocumentCache::new(keys.client(), CacheOptions::default());
    cache::suite(&cache).await;
}

/// So every guard is Redis' own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn the_cache_passes_the_suite_with_nothing_kept_in_process() {
    let keys = Keys::new();
    let options = RedisCacheOptions { local: nothing_here(), ..RedisCacheOptions::default() };
    let cache = RedisDocumentCache::new(keys.client(), options);
    cache::suite(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn reads_that_are_counted_pass_the_suite() {
    let keys = Keys::new();
    for local in [CacheOptions::default(), nothing_here()] {
        let client = keys.client();
        let options = RedisCacheOptions { local, ..RedisCacheOptions::default() };
        let cache = RedisDocumentCache::new(client.clone(), options);
        viewed_reads::suite(&cache, Arc::new(RedisViewCounter::new(client))).await;
        // A counter that is elsewhere.
        let views = Arc::new(RedisViewCounter::new(keys.client()));
        viewed_reads::suite(&cache, views).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn the_view_counter_passes_the_suite() {
    let keys = Keys::new();
    views::suite(&RedisViewCounter::new(keys.client())).await;
}

fn pass_time(clock: Arc<ManualClock>) -> impl Fn(Duration) -> BoxFuture<'static, ()> {
    move |by| {
        clock.advance(by);
        Box::pin(ready(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn idempotency_keys_pass_the_suite() {
    let keys = Keys::new();
    let clock = Arc::new(ManualClock::default());
    let database = InMemoryDatabase::new(clock.clone());
    let inner = Arc::new(database.idempotency());
    let fast = RedisIdempotencyRepository::new(keys.client(), inner);
    idempotency::suite(&fast, &database.documents(), &pass_time(clock)).await;
}
