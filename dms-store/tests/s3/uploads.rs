//! A put is there whole or not at all, however it ends.

use std::time::Duration;

use bytes::Bytes;
use dms_core::ports::BlobStore as _;
use dms_core::use_cases::bytes_stream;
use dms_core::{Error, ErrorKind, Result};
use dms_store::s3::S3BlobStore;
use futures_util::{StreamExt as _, stream};

use crate::common::until;
use crate::proxy::{Line, Proxy};
use crate::support::{
    Bucket, LARGE, address, assert_absent, assert_unavailable, content, in_chunks, new_key, read,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn large_content_is_stored_once_and_whole() {
    let bucket = Bucket::made().await;
    let blobs = bucket.store();
    for size in [5 << 20, (5 << 20) + 1, 10 << 20, (10 << 20) + 1, LARGE] {
        let (key, content) = (new_key(), content(size));
        let chunks = stream::iter(in_chunks(&content)).boxed();
        assert_eq!(blobs.put(&key, chunks).await.unwrap(), size as u64);
        assert!(read(&blobs, &key).await.unwrap() == content, "{size} bytes");
        let again = stream::iter(in_chunks(&Bytes::from(vec![0; size]))).boxed();
        let error = blobs.put(&key, again).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Conflict, "already_exists"));
        assert!(read(&blobs, &key).await.unwrap() == content, "{size} bytes stay");
        assert_eq!(bucket.uploads(&key).await, 0, "{size} bytes");
    }
    for _ in 0..3 {
        let key = new_key();
        let contents = [1_u8, 2, 3].map(|fill| Bytes::from(vec![fill; LARGE]));
        let puts = contents
            .iter()
            .map(|content| blobs.put(&key, stream::iter(in_chunks(content)).boxed()));
        let outcomes = futures_util::future::join_all(puts).await;
        let winners: Vec<_> = (0..3).filter(|i| outcomes[*i].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert!(read(&blobs, &key).await.unwrap() == contents[winners[0]]);
        assert_eq!(bucket.uploads(&key).await, 0);
    }
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn a_client_that_leaves_during_an_upload_leaves_nothing() {
    let bucket = Bucket::made().await;
    let (blobs, key) = (bucket.store(), new_key());
    let pending = stream::iter(in_chunks(&content(LARGE))).chain(stream::pending()).boxed();
    let put = {
        let (blobs, key) = (blobs.clone(), key.clone());
        tokio::spawn(async move { blobs.put(&key, pending).await })
    };
    until("the upload is under way", || async { bucket.uploads(&key).await == 1 }).await;
    assert_absent(&blobs, &key).await;
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    blobs.settle().await;
    assert_eq!(bucket.uploads(&key).await, 0);
    assert_absent(&blobs, &key).await;
    blobs.put(&key, bytes_stream("another try")).await.unwrap();
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn puts_dropped_at_any_moment_leave_nothing() {
    let bucket = Bucket::made().await;
    let blobs = bucket.store();
    for size in [10, LARGE] {
        let content = content(size);
        for wait_ms in (0..).map(|round| round * 31) {
            let key = new_key();
            let put = blobs.put(&key, stream::iter(in_chunks(&content)).boxed());
            let outcome = tokio::time::timeout(Duration::from_millis(wait_ms), put).await;
            blobs.settle().await;
            assert_eq!(bucket.uploads(&key).await, 0, "{size} bytes after {wait_ms} ms");
            match outcome {
                Ok(stored) => {
                    stored.unwrap();
                    assert!(read(&blobs, &key).await.unwrap() == content);
                    break;
                }
                Err(_) => assert_absent(&blobs, &key).await,
            }
        }
    }
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn a_truncated_stream_leaves_nothing() {
    let bucket = Bucket::made().await;
    let blobs = bucket.store();
    for size in [0, 1_000, LARGE] {
        let key = new_key();
        let truncated = || stream::iter([Err(Error::malformed("body ended early"))]);
        let chunks = stream::iter(in_chunks(&content(size))).chain(truncated()).boxed();
        let error = blobs.put(&key, chunks).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "the stream's own error");
        assert_eq!(bucket.uploads(&key).await, 0, "gone when the put returns");
        assert_absent(&blobs, &key).await;
    }
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn content_that_is_changed_on_its_way_is_refused() {
    let bucket = Bucket::made().await;
    let proxy = Proxy::to(address()).await;
    let blobs = bucket.store_through(&proxy);
    for size in [1_000, LARGE] {
        let (key, content) = (new_key(), Bytes::from(vec![0xEE; size]));
        proxy.set(Line::Noisy);
        let error = blobs.put(&key, bytes_stream(content.clone())).await.unwrap_err();
        assert_unavailable(&error);
        proxy.set(Line::Open);
        blobs.settle().await;
        assert_absent(&blobs, &key).await;
        assert_eq!(bucket.uploads(&key).await, 0);
        blobs.put(&key, bytes_stream(content.clone())).await.unwrap();
        assert!(read(&blobs, &key).await.unwrap() == content);
    }
    bucket.remove().await;
}

/// The key has all of it if the put succeeded, and nothing otherwise.
async fn assert_there_or_withdrawn(
    blobs: &S3BlobStore,
    key: &str,
    content: &Bytes,
    put: Result<u64>,
) {
    match put {
        Ok(_) => assert!(read(blobs, key).await.unwrap() == *content),
        Err(error) => {
            assert_unavailable(&error);
            assert_absent(blobs, key).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn a_put_whose_answer_is_lost_is_there_or_withdrawn() {
    let bucket = Bucket::made().await;
    let proxy = Proxy::to(address()).await;
    let blobs = bucket.store_through(&proxy);
    for size in [10, 1_000_000] {
        let (key, content) = (new_key(), content(size));
        proxy.set(Line::LosesAnAnswer);
        let outcome = blobs.put(&key, bytes_stream(content.clone())).await;
        blobs.settle().await;
        assert_there_or_withdrawn(&blobs, &key, &content, outcome).await;
    }
    // The loss hits some request of an upload in parts.
    for _ in 0..3 {
        let (key, content) = (new_key(), content(LARGE));
        let put = blobs.put(&key, stream::iter(in_chunks(&content)).boxed());
        let lose = async {
            let before = proxy.round_trips();
            until("under way", || async { proxy.round_trips() > before + 2 }).await;
            proxy.set(Line::LosesAnAnswer);
        };
        let (outcome, ()) = tokio::join!(put, lose);
        proxy.set(Line::Open);
        blobs.settle().await;
        assert_there_or_withdrawn(&blobs, &key, &content, outcome).await;
        assert_eq!(bucket.uploads(&key).await, 0);
    }
    bucket.remove().await;
}
