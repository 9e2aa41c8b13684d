//! The document cache in process.
#![cfg(feature = "memory")]

use std::sync::Arc;
use std::time::Duration;

use dms_core::ports::DocumentCache as _;
use dms_core::{Document, DocumentId, DocumentStatus, Error, ErrorKind, Result, Sha256};
use dms_store::cache::{CacheOptions, MokaDocumentCache};

fn document(id: DocumentId, version: i32) -> Arc<Document> {
    let at = std::time::SystemTime::UNIX_EPOCH.into();
    Arc::new(Document {
        id,
        title: "t".repeat(500),
        content_type: "text/plain".to_owned(),
        content_size: 1,
        content_sha256: Sha256::of(b"x"),
        s3_key: Document::content_key(id),
        status: DocumentStatus::Created,
        created_by: "jane".to_owned(),
        created_at: at,
        updated_at: at,
        version,
    })
}

#[tokio::test]
async fn passes_the_suite() {
    let cache = MokaDocumentCache::new(CacheOptions::default());
    dms_core::conformance::cache::suite(&cache).await;
}

#[tokio::test]
async fn reads_that_are_counted_pass_the_suite() {
    let cache = MokaDocumentCache::new(CacheOptions::default());
    let views = Arc::new(dms_core::fake::InMemoryViewCounter::new());
    dms_core::conformance::viewed_reads::suite(&cache, views).await;
}

#[tokio::test]
async fn memory_is_bounded_in_bytes() {
    let bytes_max = 200_000;
    let options = CacheOptions { bytes_max, ..CacheOptions::default() };
    let cache = MokaDocumentCache::new(options);
    assert_eq!(cache.bytes().await, 0);
    for _ in 0..5_000 {
        cache.put(document(DocumentId::generate(), 1)).await;
        cache.put_deleted(DocumentId::generate(), 1).await;
        cache.invalidate(DocumentId::generate(), 1).await;
    }
    let bytes = cache.bytes().await;
    assert!(bytes <= bytes_max, "{bytes}");
    assert!(bytes > bytes_max / 2, "as much is kept as there is room: {bytes}");
}

/// Answers whether the document had to be loaded.
async fn loads(cache: &MokaDocumentCache, id: DocumentId) -> bool {
    let load = Box::pin(async { Err(Error::unavailable("database", "loaded")) });
    let answer: Result<_> = cache.get_or_load(id, load).await;
    answer.is_err_and(|error| error.kind() == ErrorKind::Unavailable)
}

#[tokio::test]
async fn a_cache_without_room_loads_every_time() {
    let cache = MokaDocumentCache::new(CacheOptions { bytes_max: 0, ..CacheOptions::default() });
    let id = DocumentId::generate();
    cache.put(document(id, 1)).await;
    assert!(loads(&cache, id).await);
    let load = Box::pin(async move { Ok(document(id, 1)) });
    assert_eq!(cache.get_or_load(id, load).await.unwrap().version, 1);
    assert!(loads(&cache, id).await);
}

#[tokio::test]
async fn documents_are_forgotten_after_their_time() {
    let time_to_live = Duration::from_millis(20);
    let cache = MokaDocumentCache::new(CacheOptions { time_to_live, ..CacheOptions::default() });
    let id = DocumentId::generate();
    cache.put(document(id, 1)).await;
    let forgotten = async {
        while !loads(&cache, id).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("it expires");
}

#[tokio::test]
async fn any_time_to_live_is_accepted() {
    for time_to_live in [Duration::ZERO, Duration::MAX] {
        MokaDocumentCache::new(CacheOptions { time_to_live, ..CacheOptions::default() });
    }
}

#[tokio::test]
async fn a_loader_that_panics_is_an_error_for_everyone_who_waits() {
    let cache = MokaDocumentCache::new(CacheOptions::default());
    let id = DocumentId::generate();
    let load = Box::pin(async { panic!("a defect in a loader") });
    let error = cache.get_or_load(id, load).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(loads(&cache, id).await, "the next caller loads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_never_go_back_behind_a_write_they_know_of() {
    use std::sync::atomic::{AtomicI32, Ordering};

    let cache = MokaDocumentCache::new(CacheOptions::default());
    let id = DocumentId::generate();
    // The row, and the newest version whose write was acknowledged.
    let (row, acknowledged) = (Arc::new(AtomicI32::new(1)), Arc::new(AtomicI32::new(1)));
    let writer = {
        let (cache, row, acknowledged) = (cache.clone(), Arc::clone(&row), acknowledged.clone());
        tokio::spawn(async move {
            for version in 2..3_000 {
                row.store(version, Ordering::SeqCst);
                tokio::task::yield_now().await;
                if version % 3 == 0 {
                    cache.invalidate(id, version).await;
                } else {
                    cache.put(document(id, version)).await;
                }
                acknowledged.store(version, Ordering::SeqCst);
            }
        })
    };
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let (cache, row, acknowledged) =
                (cache.clone(), Arc::clone(&row), acknowledged.clone());
            tokio::spawn(async move {
                while acknowledged.load(Ordering::SeqCst) < 2_999 {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let row = Arc::clone(&row);
                    let load = Box::pin(async move {
                        let version = row.load(Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok(document(id, version))
                    });
                    let read = cache.get_or_load(id, load).await.unwrap().version;
                    assert!(read >= least, "read {read} after {least} was acknowledged");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    writer.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}
