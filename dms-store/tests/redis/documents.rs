//! What several processes that cache documents see, and what Redis keeps of it.

use std::time::Duration;

use dms_core::ports::{DocumentCache as _, ViewCounter as _};
use dms_core::{DocumentId, ErrorKind, ViewStats};
use dms_store::cache::CacheOptions;
use dms_store::redis::{RedisCacheOptions, RedisDocumentCache, RedisViewCounter};
use futures_util::FutureExt as _;

use crate::common::until;
use crate::proxy::{Line, Proxy};
use crate::support::{
    Keys, address, document, forbidden, loaded, not_there, nothing_here, version, view,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn processes_share_documents_and_an_older_version_never_comes_back() {
    let keys = Keys::new();
    let process = || RedisDocumentCache::new(keys.client(), CacheOptions::default());
    let id = DocumentId::generate();
    assert_eq!(version(&process(), id, loaded(id, 1)).await, 1);
    assert_eq!(version(&process(), id, forbidden()).await, 1, "another process has it from Redis");

    // A slow reader elsewhere has read the row before the write, and fills it in afterwards.
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let (began, begun) = tokio::sync::oneshot::channel::<()>();
    let slow = process();
    slow.invalidate(id, 2).await;
    let load = async move {
        began.send(()).expect("it's awaited");
        gate.await.expect("opened");
        Ok(document(id, 1))
    };
    let reader = tokio::spawn(async move { slow.get_or_load(id, load.boxed()).await });
    begun.await.expect("it loads");
    process().put(document(id, 2)).await;
    open.send(()).expect("it waits");
    assert!(reader.await.unwrap().unwrap().version >= 1);
    assert_eq!(version(&process(), id, forbidden()).await, 2, "the old value has lost");

    process().put_deleted(id, 3).await;
    process().put(document(id, 2)).await;
    process().invalidate(id, 3).await;
    let error = process().get_or_load(id, forbidden()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "deleted for every process");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_process_that_knows_of_a_newer_version_does_not_take_an_older_one_from_redis() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let id = DocumentId::generate();
    let options =
        RedisCacheOptions { time_to_live: Duration::from_hours(1), ..RedisCacheOptions::default() };
    RedisDocumentCache::new(keys.client(), options).put(document(id, 1)).await;
    let client = keys.hasty_client(&proxy);
    let cache = RedisDocumentCache::new(client.clone(), options);
    proxy.set(Line::Cut);
    cache.invalidate(id, 2).await;
    proxy.set(Line::Open);
    until("Redis is back", || async { client.check().await.is_ok() }).await;
    assert_eq!(version(&cache, id, loaded(id, 2)).await, 2, "although Redis still has 1");
    let other = RedisDocumentCache::new(keys.client(), options);
    assert_eq!(version(&other, id, forbidden()).await, 2, "Redis has learnt it now");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_lost_invalidation_is_made_good_by_the_time_to_live() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let options = RedisCacheOptions {
        local: CacheOptions { time_to_live: Duration::from_millis(300), ..CacheOptions::default() },
        time_to_live: Duration::from_millis(300),
    };
    let writer = RedisDocumentCache::new(keys.hasty_client(&proxy), options);
    let reader = RedisDocumentCache::new(keys.client(), options);
    let id = DocumentId::generate();
    assert_eq!(version(&writer, id, loaded(id, 1)).await, 1);
    version(&reader, id, loaded(id, 1)).await;
    proxy.set(Line::Cut);
    writer.put(document(id, 2)).await;
    let reader = &reader;
    until("the reader has the new version", || async move {
        version(reader, id, loaded(id, 2)).await == 2
    })
    .await;
    for _ in 0..50 {
        assert_eq!(version(&writer, id, loaded(id, 2)).await, 2, "the writer never had less");
        assert_eq!(version(reader, id, loaded(id, 2)).await, 2, "nor has the reader again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_read_and_its_view_are_one_round_trip() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let client = keys.client_through(&proxy);
    let [one, other] =
        [0, 1].map(|_| RedisDocumentCache::new(client.clone(), CacheOptions::default()));
    let counter = RedisViewCounter::new(client.clone());
    // Connected, and Redis knows the scripts.
    let warm = DocumentId::generate();
    one.get_or_load_viewed(warm, loaded(warm, 1), view(&client, "jane")).await.unwrap();

    let id = DocumentId::generate();
    let mut before = proxy.round_trips();
    let mut trips = || {
        let now = proxy.round_trips();
        now - std::mem::replace(&mut before, now)
    };
    let read = async |cache: &RedisDocumentCache, load| {
        let viewed = cache.get_or_load_viewed(id, load, view(&client, "jane")).await.unwrap();
        viewed.counted.unwrap();
    };
    read(&one, loaded(id, 1)).await;
    assert_eq!(trips(), 2, "nobody had it: asked for, then kept, with the view");
    read(&other, forbidden()).await;
    assert_eq!(trips(), 1, "Redis had it: value and view");
    read(&other, forbidden()).await;
    assert_eq!(trips(), 1, "this process had it: the view");
    other.get_or_load(id, forbidden()).await.unwrap();
    assert_eq!(trips(), 0, "no view");
    let stats = counter.stats(id).await.unwrap();
    assert_eq!(stats, ViewStats { total_views: 3, unique_views: 1 });
    assert_eq!(trips(), 1, "both counts");
    one.put(document(id, 2)).await;
    assert_eq!(trips(), 1, "a write");
    let absent = DocumentId::generate();
    one.get_or_load_viewed(absent, not_there(absent), view(&client, "jane")).await.unwrap_err();
    assert_eq!(trips(), 1, "what isn't there");
    assert_eq!(counter.stats(absent).await.unwrap().total_views, 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn readers_that_leave_do_no_harm() {
    let keys = Keys::new();
    let client = keys.client();
    let cache = RedisDocumentCache::new(client.clone(), nothing_here());
    let id = DocumentId::generate();
    cache.put(document(id, 1)).await;
    for polls in 0..40 {
        let mut read = cache.get_or_load_viewed(id, loaded(id, 1), view(&client, "jane"));
        for _ in 0..polls % 5 {
            if futures_util::future::poll_immediate(&mut read).await.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(read);
        let other = DocumentId::generate();
        cache.put(document(other, polls + 1)).await;
        assert_eq!(version(&cache, other, forbidden()).await, polls + 1, "answers aren't mixed up");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn what_is_not_ours_is_loaded_over() {
    let keys = Keys::new();
    let cache = RedisDocumentCache::new(keys.client(), nothing_here());
    let id = DocumentId::generate();
    cache.put(document(id, 1)).await;
    let key = keys.all().pop().expect("the document's key");
    for garbage in ["", "x", "garbage that is long enough", "00000000011{}", "000000000a1"] {
        let () = Keys::ask(redis::cmd("SET").arg(&key).arg(garbage));
        assert_eq!(version(&cache, id, loaded(id, 2)).await, 2, "{garbage:?}");
    }
    let () = Keys::ask(redis::cmd("DEL").arg(&key));
    let () = Keys::ask(redis::cmd("LPUSH").arg(&key).arg("x"));
    assert_eq!(version(&cache, id, loaded(id, 3)).await, 3, "not even a string");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn documents_leave_redis_after_their_time_and_counts_stay() {
    let keys = Keys::new();
    let client = keys.client();
    let cache = RedisDocumentCache::new(client.clone(), CacheOptions::default());
    let id = DocumentId::generate();
    cache.get_or_load_viewed(id, loaded(id, 1), view(&client, "jane")).await.unwrap();
    cache.put_deleted(DocumentId::generate(), 2).await;
    cache.invalidate(DocumentId::generate(), 2).await;
    let all = keys.all();
    assert_eq!(all.len(), 5, "{all:?}");
    for key in all {
        let expires_in_ms: i64 = Keys::ask(redis::cmd("PTTL").arg(&key));
        if key.ends_with(":document:v1") {
            assert!((1..=30_000).contains(&expires_in_ms), "{key} in {expires_in_ms}");
        } else {
            assert_eq!(expires_in_ms, -1, "{key} stays");
        }
    }
}
