//! Reads that are counted: [`DocumentCache::get_or_load_viewed`] with a [`ViewCounter`].

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};

use super::cache::{Gate, document, loaded, poll_once};
use crate::fake::InMemoryViewCounter;
use crate::ports::{DocumentCache, DocumentLoader, View, ViewCounter, Viewed};
use crate::{DocumentId, Error, ErrorKind, Result, ViewStats, Visitor};

/// Checks that each read of a document is counted once, by the counter that was asked for, and that
/// nothing else is. `views` is the counter that is used with the cache.
///
/// # Panics
/// If that doesn't hold.
pub async fn suite(cache: &dyn DocumentCache, views: Arc<dyn ViewCounter>) {
    each_read_is_counted(cache, &views).await;
    what_is_not_there_is_not_viewed(cache, &views).await;
    readers_of_one_load(cache, &views).await;
    after_writes(cache, &views).await;
    the_counter_that_was_asked_for(cache, &views).await;
    a_broken_counter(cache).await;
}

fn view(views: &Arc<dyn ViewCounter>, visitor: &str) -> View {
    View { visitor: Visitor(Arc::from(visitor)), counter: Arc::clone(views) }
}

async fn read(
    cache: &dyn DocumentCache,
    id: DocumentId,
    load: DocumentLoader,
    view: View,
    step: &str,
) -> i32 {
    let viewed = cache.get_or_load_viewed(id, load, view).await.expect(step);
    viewed.counted.expect(step);
    assert_eq!(viewed.document.id, id, "{step}");
    viewed.document.version
}

async fn assert_stats(
    views: &Arc<dyn ViewCounter>,
    id: DocumentId,
    expected: (u64, u64),
    step: &str,
) {
    let stats = views.stats(id).await.expect(step);
    let expected = ViewStats { total_views: expected.0, unique_views: expected.1 };
    assert_eq!(stats, expected, "{step}");
}

async fn each_read_is_counted(cache: &dyn DocumentCache, views: &Arc<dyn ViewCounter>) {
    let (id, step) = (DocumentId::generate(), "a document never seen");
    assert_eq!(read(cache, id, loaded(id, 3), view(views, "jane"), step).await, 3, "{step}");
    assert_stats(views, id, (1, 1), step).await;
    let step = "read again";
    assert_eq!(read(cache, id, loaded(id, 3), view(views, "jane"), step).await, 3, "{step}");
    assert_stats(views, id, (2, 1), step).await;
    let step = "read by somebody else";
    assert_eq!(read(cache, id, loaded(id, 3), view(views, "john"), step).await, 3, "{step}");
    assert_stats(views, id, (3, 2), step).await;
    cache.get_or_load(id, loaded(id, 3)).await.expect("a read that isn't a view");
    assert_stats(views, id, (3, 2), "a read that isn't a view").await;
}

async fn what_is_not_there_is_not_viewed(cache: &dyn DocumentCache, views: &Arc<dyn ViewCounter>) {
    let absent = DocumentId::generate();
    for step in ["no such document", "still no such document"] {
        let load = async move { Err(Error::not_found("document", absent)) }.boxed();
        let error = cache.get_or_load_viewed(absent, load, view(views, "jane")).await;
        assert_eq!(error.expect_err(step).kind(), ErrorKind::NotFound, "{step}");
        assert_stats(views, absent, (0, 0), step).await;
    }
    let (unread, step) = (DocumentId::generate(), "a load that fails");
    let load = async { Err(Error::unavailable("database", "no")) }.boxed();
    let error = cache.get_or_load_viewed(unread, load, view(views, "jane")).await;
    assert_eq!(error.expect_err(step).kind(), ErrorKind::Unavailable, "{step}");
    assert_stats(views, unread, (0, 0), step).await;

    let (deleted, step) = (DocumentId::generate(), "a deleted document");
    cache.put_deleted(deleted, 2).await;
    let load = async { panic!("known to be deleted") }.boxed();
    let error = cache.get_or_load_viewed(deleted, load, view(views, "jane")).await;
    assert_eq!(error.expect_err(step).kind(), ErrorKind::NotFound, "{step}");
    assert_stats(views, deleted, (0, 0), step).await;
}

async fn readers_of_one_load(cache: &dyn DocumentCache, views: &Arc<dyn ViewCounter>) {
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let mut readers: Vec<BoxFuture<'_, Result<Viewed>>> = (0..9)
        .map(|i| {
            let view = view(views, &format!("visitor {}", i % 3));
            cache.get_or_load_viewed(id, gate.load(id, 1), view)
        })
        .collect();
    for reader in &mut readers {
        assert!(poll_once(reader).await.is_none(), "everyone waits for the one load");
    }
    gate.open();
    for viewed in join_all(readers).await {
        viewed.expect("loaded").counted.expect("counted");
    }
    assert_stats(views, id, (9, 3), "each of those who waited").await;
}

async fn after_writes(cache: &dyn DocumentCache, views: &Arc<dyn ViewCounter>) {
    let (id, step) = (DocumentId::generate(), "put, then read");
    cache.put(document(id, 2)).await;
    let load = async { panic!("loaded although it was put") }.boxed();
    assert_eq!(read(cache, id, load, view(views, "jane"), step).await, 2, "{step}");
    assert_stats(views, id, (1, 1), step).await;
    let step = "invalidated, then read";
    cache.invalidate(id, 3).await;
    assert_eq!(read(cache, id, loaded(id, 3), view(views, "jane"), step).await, 3, "{step}");
    assert_stats(views, id, (2, 1), step).await;
}

async fn the_counter_that_was_asked_for(cache: &dyn DocumentCache, views: &Arc<dyn ViewCounter>) {
    let (id, step) = (DocumentId::generate(), "another counter");
    let other: Arc<dyn ViewCounter> = Arc::new(InMemoryViewCounter::new());
    for _ in 0..2 {
        read(cache, id, loaded(id, 1), view(&other, "jane"), step).await;
    }
    assert_stats(&other, id, (2, 1), step).await;
    assert_stats(views, id, (0, 0), step).await;
}

struct Broken;

#[async_trait]
impl ViewCounter for Broken {
    async fn record(&self, _id: DocumentId, _visitor: &Visitor) -> Result<()> {
        Err(Error::unavailable("counter", "broken"))
    }

    async fn stats(&self, _id: DocumentId) -> Result<ViewStats> {
        Err(Error::unavailable("counter", "broken"))
    }
}

async fn a_broken_counter(cache: &dyn DocumentCache) {
    let id = DocumentId::generate();
    let broken: Arc<dyn ViewCounter> = Arc::new(Broken);
    for step in ["loaded", "cached"] {
        let viewed = cache.get_or_load_viewed(id, loaded(id, 1), view(&broken, "jane")).await;
        let viewed = viewed.expect("a view that can't be counted doesn't fail the read");
        assert_eq!(viewed.document.version, 1, "{step}");
        let error = viewed.counted.expect_err("it isn't counted");
        assert_eq!(error.dependency(), Some("counter"), "{step}: {error:?}");
    }
}
