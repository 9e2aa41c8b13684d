//! A Redis that is away, hangs, or comes late.

use std::error::Error as _;
use std::sync::Arc;

use dms_core::conformance::cache;
use dms_core::ports::{DocumentCache as _, ViewCounter as _};
use dms_core::{DocumentId, ErrorKind, Visitor};
use dms_store::cache::CacheOptions;
use dms_store::redis::{RedisClient, RedisDocumentCache, RedisOptions, RedisViewCounter};

use crate::common::until;
use crate::proxy::{Line, Proxy};
use crate::support::{
    Keys, address, document, forbidden, loaded, not_there, nothing_here, version, view,
};

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_fails_and_nothing_is_asked_twice() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = RedisClient::new(&format!("redis://{nobody}"), RedisOptions::default()).unwrap();
    let cache = RedisDocumentCache::new(client.clone(), CacheOptions::default());
    // The suite that a cache passes, on what is left of it.
    cache::suite(&cache).await;
    let id = DocumentId::generate();
    let viewed = cache.get_or_load_viewed(id, loaded(id, 1), view(&client, "jane")).await.unwrap();
    let error = viewed.counted.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("cache")));
    let error = client.check().await.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("cache")));
    assert!(error.source().is_some(), "it says why");
    assert_eq!(
        RedisViewCounter::new(client).stats(id).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_redis_that_hangs_costs_one_read_its_deadline_and_is_used_again_later() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let client = keys.hasty_client(&proxy);
    let cache = RedisDocumentCache::new(client.clone(), nothing_here());
    until("connected", || async { client.check().await.is_ok() }).await;
    proxy.set(Line::Held);
    let id = DocumentId::generate();
    assert_eq!(version(&cache, id, loaded(id, 1)).await, 1, "the first read waits in vain");
    // Attempts to connect send a little; a thousand reads would send a lot.
    let asked = proxy.bytes_up();
    for _ in 0..1_000 {
        assert_eq!(version(&cache, id, loaded(id, 1)).await, 1);
        let view = view(&client, "jane");
        let viewed = cache.get_or_load_viewed(id, loaded(id, 1), view).await.unwrap();
        assert_eq!(viewed.document.version, 1);
    }
    assert!(proxy.bytes_up() - asked < 20_000, "{} bytes asked", proxy.bytes_up() - asked);
    proxy.set(Line::Open);
    until("used again", || async {
        let id = DocumentId::generate();
        cache.put(document(id, 1)).await;
        let read = cache.get_or_load(id, not_there(id)).await;
        read.is_ok()
    })
    .await;
    client.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn a_connection_that_is_cut_is_made_anew_without_being_asked() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    let client = keys.client_through(&proxy);
    client.check().await.unwrap();
    let counter = RedisViewCounter::new(client.clone());
    let id = DocumentId::generate();
    for cut in 1..=3 {
        let before = proxy.bytes_up();
        proxy.set(Line::Cut);
        until("away is noticed", || async { client.check().await.is_err() }).await;
        proxy.set(Line::Open);
        until("a new connection", || async { proxy.bytes_up() > before }).await;
        until("back", || async { client.check().await.is_ok() }).await;
        counter.record(id, &Visitor(Arc::from("jane"))).await.unwrap();
        assert_eq!(counter.stats(id).await.unwrap().total_views, cut);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn services_that_start_before_redis_use_it_once_it_is_there() {
    let keys = Keys::new();
    let proxy = Proxy::to(address()).await;
    proxy.set(Line::Cut);
    let client = keys.client_through(&proxy);
    let cache = RedisDocumentCache::new(client.clone(), nothing_here());
    let id = DocumentId::generate();
    assert_eq!(version(&cache, id, loaded(id, 1)).await, 1);
    assert_eq!(client.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    proxy.set(Line::Open);
    until("there", || async { client.check().await.is_ok() }).await;
    cache.put(document(id, 2)).await;
    assert_eq!(version(&cache, id, forbidden()).await, 2);
}
