//! The document cache: [`DocumentCache`].

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use time::OffsetDateTime;

use crate::ports::{DocumentCache, DocumentLoader};
use crate::{Document, DocumentId, DocumentStatus, Error, ErrorKind, Result, Sha256};

/// Checks everything that [`DocumentCache`] promises, but for its bounds. The cache must have room
/// for a thousand small documents and keep them for as long as the suite runs.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(cache: &dyn DocumentCache) {
    loads_once(cache).await;
    errors_are_not_kept(cache).await;
    newer_stays(cache).await;
    deletions_stay(cache).await;
    invalidation(cache).await;
    loads_that_began_before(cache).await;
    late_readers_do_not_join_old_loads(cache).await;
    single_flight(cache).await;
    shared_errors(cache).await;
    dropped_loader(cache).await;
    abandoned_load(cache).await;
    documents_do_not_wait_for_each_other(cache).await;
}

pub(super) fn document(id: DocumentId, version: i32) -> Arc<Document> {
    Arc::new(Document {
        id,
        title: format!("version {version}"),
        content_type: "text/plain".to_owned(),
        content_size: 1,
        content_sha256: Sha256::of(b"x"),
        s3_key: Document::content_key(id),
        status: DocumentStatus::Created,
        created_by: "jane".to_owned(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version,
    })
}

pub(super) fn loaded(id: DocumentId, version: i32) -> DocumentLoader {
    async move { Ok(document(id, version)) }.boxed()
}

fn forbidden() -> DocumentLoader {
    async { panic!("loaded although it is cached") }.boxed()
}

type Answer<'a> = BoxFuture<'a, Result<Arc<Document>>>;

pub(super) async fn poll_once<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    poll_fn(|cx| match future.poll_unpin(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Waits for an answer that a broken cache would never give.
async fn soon<T>(mut future: BoxFuture<'_, T>, step: &str) -> T {
    const PATIENCE: Duration = Duration::from_secs(20);
    let began = Instant::now();
    poll_fn(|cx| {
        let polled = future.poll_unpin(cx);
        if polled.is_pending() {
            assert!(began.elapsed() < PATIENCE, "{step}: no answer");
            std::thread::sleep(Duration::from_millis(1));
            cx.waker().wake_by_ref();
        }
        polled
    })
    .await
}

/// Holds loaders back until it is opened.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    pub(super) fn open(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        state.1.drain(..).for_each(Waker::wake);
    }

    async fn pass(self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(());
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    pub(super) fn load(&self, id: DocumentId, version: i32) -> DocumentLoader {
        let gate = self.clone();
        async move {
            gate.pass().await;
            Ok(document(id, version))
        }
        .boxed()
    }
}

/// Begins to load `version`, as far as the gate.
async fn begin<'a>(
    cache: &'a dyn DocumentCache,
    gate: &Gate,
    id: DocumentId,
    version: i32,
) -> Answer<'a> {
    let mut answer = cache.get_or_load(id, gate.load(id, version));
    assert!(poll_once(&mut answer).await.is_none(), "the loader is held back");
    answer
}

async fn assert_kept(cache: &dyn DocumentCache, id: DocumentId, version: i32, step: &str) {
    let kept = cache.get_or_load(id, forbidden()).await.expect(step);
    assert_eq!((kept.id, kept.version), (id, version), "{step}");
}

async fn assert_deleted(cache: &dyn DocumentCache, id: DocumentId, step: &str) {
    let error = cache.get_or_load(id, forbidden()).await.expect_err(step);
    assert_eq!(error.kind(), ErrorKind::NotFound, "{step}: {error:?}");
}

/// Nothing is kept: the loader runs, and what it gives is answered.
async fn assert_absent(cache: &dyn DocumentCache, id: DocumentId, version: i32, step: &str) {
    let answer = cache.get_or_load(id, loaded(id, version)).await.expect(step);
    assert_eq!(answer.version, version, "{step}: loaded anew");
}

async fn loads_once(cache: &dyn DocumentCache) {
    let id = DocumentId::generate();
    assert_absent(cache, id, 3, "a document never seen").await;
    assert_kept(cache, id, 3, "loaded before").await;
    let other = DocumentId::generate();
    cache.put(document(other, 1)).await;
    assert_kept(cache, other, 1, "put before").await;
    assert_kept(cache, id, 3, "another document was put").await;
}

async fn errors_are_not_kept(cache: &dyn DocumentCache) {
    let id = DocumentId::generate();
    let failing =
        || async { Err(Error::unavailable("database", "no").with_code("custom")) }.boxed();
    for _ in 0..2 {
        let error = cache.get_or_load(id, failing()).await.expect_err("the loader's error");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "custom"), "{error:?}");
        assert_eq!(error.dependency(), Some("database"), "{error:?}");
    }
    let absent = async move { Err(Error::not_found("document", id)) }.boxed();
    let error = cache.get_or_load(id, absent).await.expect_err("the loader's error");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_absent(cache, id, 1, "after errors").await;
}

async fn newer_stays(cache: &dyn DocumentCache) {
    let id = DocumentId::generate();
    for (put, kept) in [(2, 2), (1, 2), (2, 2), (5, 5), (3, 5), (4, 5), (6, 6)] {
        cache.put(document(id, put)).await;
        assert_kept(cache, id, kept, &format!("version {put} was put")).await;
    }
}

async fn deletions_stay(cache: &dyn DocumentCache) {
    let id = DocumentId::generate();
    cache.put(document(id, 2)).await;
    cache.put_deleted(id, 3).await;
    assert_deleted(cache, id, "deleted").await;
    for version in [1, 2, 3] {
        cache.put(document(id, version)).await;
        assert_deleted(cache, id, &format!("version {version} was put after it")).await;
    }
    cache.put_deleted(id, 2).await;
    cache.put_deleted(id, 3).await;
    assert_deleted(cache, id, "deleted again").await;

    let unseen = DocumentId::generate();
    cache.put_deleted(unseen, 2).await;
    assert_deleted(cache, unseen, "deleted without having been kept").await;

    let newer = DocumentId::generate();
    cache.put(document(newer, 4)).await;
    cache.put_deleted(newer, 3).await;
    assert_kept(cache, newer, 4, "a deletion older than what is kept").await;
}

async fn invalidation(cache: &dyn DocumentCache) {
    let id = DocumentId::generate();
    cache.put(document(id, 2)).await;
    cache.invalidate(id, 1).await;
    assert_kept(cache, id, 2, "invalidated at an older version").await;
    cache.invalidate(id, 2).await;
    assert_kept(cache, id, 2, "invalidated at its own version").await;
    cache.invalidate(id, 3).await;
    assert_absent(cache, id, 3, "invalidated at a newer version").await;
    assert_kept(cache, id, 3, "loaded after an invalidation").await;

    cache.invalidate(id, 5).await;
    cache.put(document(id, 4)).await;
    assert_absent(cache, id, 5, "an older version put after an invalidation").await;
    assert_kept(cache, id, 5, "the newer one loaded then").await;

    let deleted = DocumentId::generate();
    cache.put_deleted(deleted, 3).await;
    for version in [2, 3] {
        cache.invalidate(deleted, version).await;
        assert_deleted(cache, deleted, "a deletion isn't forgotten").await;
    }
    cache.invalidate(DocumentId::generate(), 1).await;
}

async fn loads_that_began_before(cache: &dyn DocumentCache) {
    let step = "a put while an older version was loaded";
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let reader = begin(cache, &gate, id, 1).await;
    cache.put(document(id, 2)).await;
    assert_kept(cache, id, 2, step).await;
    gate.open();
    assert!(reader.await.expect(step).version >= 1, "{step}: the reader gets either");
    assert_kept(cache, id, 2, step).await;

    let step = "a put while a newer version was loaded";
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let reader = begin(cache, &gate, id, 3).await;
    cache.put(document(id, 2)).await;
    gate.open();
    assert_eq!(reader.await.expect(step).version, 3, "{step}");
    let kept = cache.get_or_load(id, loaded(id, 3)).await.expect(step);
    assert!(kept.version >= 2, "{step}: got {}", kept.version);

    let step = "a deletion while the document was loaded";
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let reader = begin(cache, &gate, id, 1).await;
    cache.put_deleted(id, 2).await;
    gate.open();
    match reader.await {
        Ok(document) => assert_eq!(document.version, 1, "{step}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{step}: {error:?}"),
    }
    assert_deleted(cache, id, step).await;

    let step = "an invalidation while an older version was loaded";
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let reader = begin(cache, &gate, id, 1).await;
    cache.invalidate(id, 2).await;
    gate.open();
    assert!(reader.await.is_ok(), "{step}");
    assert_absent(cache, id, 2, step).await;
    assert_kept(cache, id, 2, step).await;
}

/// Whoever asks after a write was acknowledged must not get what was read before it.
async fn late_readers_do_not_join_old_loads(cache: &dyn DocumentCache) {
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let early = begin(cache, &gate, id, 1).await;
    cache.invalidate(id, 2).await;
    let late = soon(cache.get_or_load(id, loaded(id, 2)), "a late reader's own load").await;
    let late = late.expect("the late reader's own load");
    assert_eq!(late.version, 2, "read after an invalidation, while an older load is running");
    gate.open();
    assert!(early.await.is_ok(), "the early reader");
    assert_kept(cache, id, 2, "an old load ended after a new one").await;
}

/// A loader that counts how often it is run to its end.
fn counted(gate: &Gate, runs: &Arc<AtomicUsize>, id: DocumentId, version: i32) -> DocumentLoader {
    let (load, runs) = (gate.load(id, version), Arc::clone(runs));
    async move {
        let document = load.await;
        runs.fetch_add(1, Ordering::Relaxed);
        document
    }
    .boxed()
}

async fn single_flight(cache: &dyn DocumentCache) {
    let (id, gate, runs) = (DocumentId::generate(), Gate::default(), Arc::default());
    let mut readers: Vec<Answer<'_>> =
        (1..=32).map(|version| cache.get_or_load(id, counted(&gate, &runs, id, version))).collect();
    for reader in &mut readers {
        assert!(poll_once(reader).await.is_none(), "everyone waits for the one load");
    }
    gate.open();
    let versions: Vec<_> =
        join_all(readers).await.into_iter().map(|r| r.expect("loaded").version).collect();
    assert_eq!(runs.load(Ordering::Relaxed), 1, "loads of 32 concurrent readers");
    assert!(versions.iter().all(|version| *version == versions[0]), "one answer: {versions:?}");
    assert_kept(cache, id, versions[0], "loaded together").await;
}

async fn shared_errors(cache: &dyn DocumentCache) {
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let failing = || {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Err(Error::unavailable("database", "no answer").with_code("custom"))
        }
        .boxed()
    };
    let mut readers: Vec<Answer<'_>> = (0..8).map(|_| cache.get_or_load(id, failing())).collect();
    for reader in &mut readers {
        assert!(poll_once(reader).await.is_none(), "everyone waits");
    }
    gate.open();
    for answer in join_all(readers).await {
        let error = answer.expect_err("the load failed");
        assert_eq!((error.kind(), error.code()), (ErrorKind::Unavailable, "custom"), "{error:?}");
    }
    assert_absent(cache, id, 1, "after a failed load").await;
}

async fn dropped_loader(cache: &dyn DocumentCache) {
    let (id, gate, runs) = (DocumentId::generate(), Gate::default(), Arc::default());
    let mut readers: Vec<Answer<'_>> =
        (0..4).map(|_| cache.get_or_load(id, counted(&gate, &runs, id, 1))).collect();
    for reader in &mut readers {
        assert!(poll_once(reader).await.is_none(), "everyone waits");
    }
    drop(readers.remove(0));
    drop(readers.remove(1));
    for reader in &mut readers {
        assert!(poll_once(reader).await.is_none(), "the others still wait");
    }
    gate.open();
    for answer in join_all(readers).await {
        assert_eq!(answer.expect("another takes over").version, 1);
    }
    assert_eq!(runs.load(Ordering::Relaxed), 1, "loads that ended");
    assert_kept(cache, id, 1, "loaded by whoever took over").await;
}

async fn abandoned_load(cache: &dyn DocumentCache) {
    let (id, gate) = (DocumentId::generate(), Gate::default());
    let readers = [begin(cache, &gate, id, 1).await, begin(cache, &gate, id, 1).await];
    drop(readers);
    let step = "everyone who waited is gone";
    let answer = soon(cache.get_or_load(id, loaded(id, 2)), step).await.expect(step);
    assert_eq!(answer.version, 2, "{step}");
    assert_kept(cache, id, 2, "loaded after everyone was gone").await;
}

async fn documents_do_not_wait_for_each_other(cache: &dyn DocumentCache) {
    let gate = Gate::default();
    let blocked: Vec<_> = {
        let mut blocked = Vec::new();
        for _ in 0..200 {
            blocked.push(begin(cache, &gate, DocumentId::generate(), 1).await);
        }
        blocked
    };
    let step = "a document while 200 others are loading";
    let id = DocumentId::generate();
    soon(cache.get_or_load(id, loaded(id, 1)), step).await.expect(step);
    gate.open();
    for answer in join_all(blocked).await {
        answer.expect("loaded");
    }
}
