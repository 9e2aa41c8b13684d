//! A store that is away, hangs, is cut off or full.

use dms_core::ErrorKind;
use dms_core::ports::BlobStore as _;
use dms_core::use_cases::bytes_stream;
use dms_store::s3::S3BlobStore;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::common::until;
use crate::proxy::{Line, Proxy};
use crate::support::{
    Bucket, LARGE, address, assert_absent, assert_unavailable, content, in_chunks, new_key, read,
};

/// Every operation, and how it ends.
async fn assert_away(blobs: &S3BlobStore) {
    assert_unavailable(&blobs.check().await.unwrap_err());
    for size in [10, LARGE] {
        let error = blobs.put(&new_key(), bytes_stream(content(size))).await.unwrap_err();
        assert_unavailable(&error);
    }
    for range in [None, Some(0..1)] {
        let error = blobs.get(&new_key(), range).await.map(|_| ()).unwrap_err();
        assert_unavailable(&error);
    }
    assert_unavailable(&blobs.delete(&new_key()).await.unwrap_err());
    let error = blobs.list("").try_collect::<Vec<_>>().await.unwrap_err();
    assert_unavailable(&error);
    assert_unavailable(&blobs.prepare().await.unwrap_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_endpoint_is_unavailable() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut bucket = Bucket::named();
    bucket.options.endpoint = Some(format!("http://{nobody}"));
    assert_away(&bucket.store()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn a_store_that_is_away_or_hangs_is_unavailable_and_used_again_later() {
    let bucket = Bucket::made().await;
    let proxy = Proxy::to(address()).await;
    let blobs = bucket.hasty_store_through(&proxy);
    for line in [Line::Cut, Line::Held] {
        proxy.set(line);
        assert_away(&blobs).await;
        proxy.set(Line::Open);
        until("used again", || async { blobs.check().await.is_ok() }).await;
        let key = new_key();
        until("stored", || async { blobs.put(&key, bytes_stream("x")).await.is_ok() }).await;
    }
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn an_upload_or_a_read_that_is_cut_is_an_error() {
    let bucket = Bucket::made().await;
    let proxy = Proxy::to(address()).await;
    let blobs = bucket.hasty_store_through(&proxy);
    let (key, whole) = (new_key(), content(LARGE));
    let before = proxy.bytes_up();
    let put = blobs.put(&key, stream::iter(in_chunks(&whole)).boxed());
    let cut = async {
        until("half of it is sent", || async { proxy.bytes_up() > before + LARGE / 2 }).await;
        proxy.set(Line::Cut);
    };
    let (outcome, ()) = tokio::join!(put, cut);
    assert_unavailable(&outcome.unwrap_err());
    proxy.set(Line::Open);
    blobs.settle().await;
    let patient = bucket.store_through(&proxy);
    assert_absent(&patient, &key).await;
    patient.put(&key, stream::iter(in_chunks(&whole)).boxed()).await.expect("the key is free");

    let mut reading = blobs.get(&key, None).await.unwrap();
    let mut received = reading.stream.next().await.unwrap().unwrap().len();
    proxy.set(Line::Cut);
    let mut failed = false;
    while let Some(chunk) = reading.stream.next().await {
        match chunk {
            Ok(chunk) => received += chunk.len(),
            Err(_) => {
                failed = true;
                break;
            }
        }
    }
    assert!(failed, "{received} bytes of {LARGE} and no error");
    proxy.set(Line::Open);
    assert!(read(&patient, &key).await.unwrap() == whole);
    bucket.remove().await;
}

/// A server that has one answer to everything.
async fn server_that_says(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 8_192];
                let _ = client.read(&mut request).await;
                let head = format!(
                    "HTTP/1.1 {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
                    answer.split('|').next().unwrap(),
                    answer.split('|').nth(1).unwrap().len(),
                    answer.split('|').nth(1).unwrap()
                );
                let _ = client.write_all(head.as_bytes()).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_told_from_a_busy_one() {
    for (answer, kind) in [
        (
            "507 Insufficient Storage|<Error><Code>XMinioStorageFull</Code></Error>",
            ErrorKind::StorageFull,
        ),
        ("400 Bad Request|<Error><Code>QuotaExceeded</Code></Error>", ErrorKind::StorageFull),
        ("503 Slow Down|<Error><Code>SlowDown</Code></Error>", ErrorKind::Unavailable),
        ("403 Forbidden|<Error><Code>AccessDenied</Code></Error>", ErrorKind::Unavailable),
    ] {
        let mut bucket = Bucket::named();
        bucket.options.endpoint = Some(server_that_says(answer).await);
        let error = bucket.store().put(&new_key(), bytes_stream("x")).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{answer}: {error:?}");
    }
}
