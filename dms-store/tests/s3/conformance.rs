//! The suite of the port, straight and behind a prefix.

use std::sync::Arc;

use dms_core::ports::BlobStore as _;
use dms_core::use_cases::bytes_stream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::support::{Bucket, content, new_key, read};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn passes_the_suite() {
    let bucket = Bucket::made().await;
    let blobs = bucket.store();
    dms_core::conformance::blobs::suite(&blobs).await;
    blobs.settle().await;
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn passes_the_suite_behind_a_prefix_and_leaves_the_rest_alone() {
    let mut bucket = Bucket::made().await;
    let outside = bucket.store();
    outside.put("outside/content", bytes_stream("x")).await.unwrap();
    bucket.options.prefix = Some("a/b".to_owned());
    let blobs = bucket.store();
    dms_core::conformance::blobs::suite(&blobs).await;
    blobs.settle().await;
    let inside: Vec<_> = blobs.list("").try_collect().await.unwrap();
    assert!(!inside.is_empty());
    let keys: Vec<_> = outside.list("").map_ok(|blob| blob.key).try_collect().await.unwrap();
    // The longest key inside is too long for one outside.
    let seen_outside = inside.iter().filter(|blob| blob.key.len() + "a/b/".len() <= 200).count();
    assert_eq!(keys.len(), seen_outside + 1);
    assert!(keys.iter().all(|key| key.starts_with("a/b/") || key == "outside/content"));
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn many_at_once_with_few_requests_at_a_time() {
    let mut bucket = Bucket::made().await;
    bucket.options.requests_max = 3;
    let blobs = Arc::new(bucket.store());
    stream::iter(0..100)
        .for_each_concurrent(50, |i| {
            let blobs = Arc::clone(&blobs);
            async move {
                let (key, content) = (new_key(), content(1_000 + i));
                blobs.put(&key, bytes_stream(content.clone())).await.expect("put");
                assert!(read(&blobs, &key).await.expect("get") == content);
                blobs.delete(&key).await.expect("delete");
            }
        })
        .await;
    bucket.remove().await;
}
