//! S3: the suite of the port on a real one, and what happens when it's away.
#![cfg(feature = "s3")]

mod proxy;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dms_core::ports::BlobStore as _;
use dms_core::use_cases::bytes_stream;
use dms_core::{DocumentId, Error, ErrorChain, ErrorKind};
use dms_store::s3::{S3BlobStore, S3Options};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use proxy::{Line, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);

const KEY: &str = "minioadmin";
const SECRET: &str = "minioadmin";

/// Enough for an upload in several parts.
const LARGE: usize = (11 << 20) + 7;

fn endpoint() -> String {
    std::env::var("DMS_TEST_S3_ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:9000".to_owned())
}

fn address() -> String {
    endpoint().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// A request that the store itself never makes; gives status and body.
async fn ask(method: &str, path: &str) -> (u16, String) {
    let credential =
        AwsCredential { key_id: KEY.to_owned(), secret_key: SECRET.to_owned(), token: None };
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method.parse().unwrap();
    *request.uri_mut() = format!("{}/{path}", endpoint()).parse().unwrap();
    if method == "DELETE" {
        request.headers_mut().insert("x-minio-force-delete", "true".parse().unwrap());
    }
    AwsAuthorizer::new(&credential, "s3", "us-east-1").try_authorize(&mut request, None).unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.call(request).await.expect("S3");
    let status = answer.status().as_u16();
    (status, String::from_utf8(answer.into_body().bytes().await.unwrap().to_vec()).unwrap())
}

/// A bucket of one test.
struct Bucket {
    options: S3Options,
}

impl Bucket {
    /// The name of a bucket that isn't there.
    fn named() -> Self {
        let options = S3Options {
            bucket: format!("dms-test-{}", DocumentId::generate()),
            endpoint: Some(endpoint()),
            access_key_id: KEY.to_owned(),
            secret_access_key: SECRET.to_owned(),
            create_bucket: true,
            // The machine may be busy.
            response_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(30),
            ..S3Options::default()
        };
        Self { options }
    }

    async fn made() -> Self {
        let bucket = Self::named();
        bucket.store().prepare().await.expect("a bucket");
        bucket
    }

    fn store(&self) -> S3BlobStore {
        S3BlobStore::new(self.options.clone()).expect("a store")
    }

    fn store_through(&self, proxy: &Proxy) -> S3BlobStore {
        let endpoint = Some(format!("http://{}", proxy.address));
        S3BlobStore::new(S3Options { endpoint, ..self.options.clone() }).expect("a store")
    }

    /// One that doesn't wait long for an answer.
    fn hasty_store_through(&self, proxy: &Proxy) -> S3BlobStore {
        let second = Duration::from_secs(1);
        let options = S3Options {
            endpoint: Some(format!("http://{}", proxy.address)),
            response_timeout: second,
            connect_timeout: second,
            ..self.options.clone()
        };
        S3BlobStore::new(options).expect("a store")
    }

    /// Uploads in parts of `key` that were begun and neither completed nor aborted.
    async fn uploads(&self, key: &str) -> usize {
        // `MinIO` lists those of one key only.
        let (status, body) =
            ask("GET", &format!("{}?prefix={key}&uploads=", self.options.bucket)).await;
        assert_eq!(status, 200, "{body}");
        body.matches("<Upload>").count()
    }

    async fn remove(self) {
        let (status, body) = ask("DELETE", &self.options.bucket).await;
        assert!(status < 300, "{status}: {body}");
    }
}

fn new_key() -> String {
    format!("{}/content", DocumentId::generate())
}

fn content(size: usize) -> Bytes {
    let low = |i: usize| i.to_le_bytes()[0];
    (0..size).map(|i| low(i % 251) ^ low(i >> 12)).collect()
}

fn in_chunks(content: &Bytes) -> Vec<dms_core::Result<Bytes>> {
    content.chunks(300_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

async fn read(blobs: &S3BlobStore, key: &str) -> dms_core::Result<Bytes> {
    let stream = blobs.get(key, None).await?.stream;
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("read to the end");
    Ok(chunks.concat().into())
}

async fn assert_absent(blobs: &S3BlobStore, key: &str) {
    assert_eq!(read(blobs, key).await.expect_err("nothing").kind(), ErrorKind::NotFound);
    let listed: Vec<_> = blobs.list(key).try_collect().await.expect("list");
    assert_eq!(listed, []);
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn assert_unavailable(error: &Error) {
    let dependency = (error.kind(), error.dependency());
    assert_eq!(dependency, (ErrorKind::Unavailable, Some("storage")), "{error:?}");
}

/// Everything an error says.
fn all_of(error: &Error) -> String {
    format!("{} {error:?}", ErrorChain(error))
}

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
    assert_eq!(keys.len(), inside.len() + 1);
    assert!(keys.iter().all(|key| key.starts_with("a/b/") || key == "outside/content"));
    bucket.remove().await;
}

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
        match outcome {
            Ok(_) => assert!(read(&blobs, &key).await.unwrap() == content),
            Err(error) => {
                assert_unavailable(&error);
                assert_absent(&blobs, &key).await;
            }
        }
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
        match outcome {
            Ok(_) => assert!(read(&blobs, &key).await.unwrap() == content),
            Err(error) => {
                assert_unavailable(&error);
                assert_absent(&blobs, &key).await;
            }
        }
        assert_eq!(bucket.uploads(&key).await, 0);
    }
    bucket.remove().await;
}

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

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn a_bucket_that_is_not_there_is_unavailable_until_it_is_made() {
    let mut bucket = Bucket::named();
    bucket.options.create_bucket = false;
    let blobs = bucket.store();
    assert_unavailable(&blobs.check().await.unwrap_err());
    assert_unavailable(&blobs.prepare().await.unwrap_err());
    assert_unavailable(&blobs.put(&new_key(), bytes_stream("x")).await.unwrap_err());
    let error = blobs.get(&new_key(), None).await.map(|_| ()).unwrap_err();
    assert_unavailable(&error);
    let error = blobs.list("").try_collect::<Vec<_>>().await.unwrap_err();
    assert_unavailable(&error);
    // In development the bucket comes with the first look at the store.
    bucket.options.create_bucket = true;
    bucket.store().check().await.expect("made");
    blobs.check().await.expect("there");
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn preparing_switches_versioning_on_and_can_be_done_again() {
    let bucket = Bucket::made().await;
    let blobs = bucket.store();
    blobs.prepare().await.expect("again");
    let (_, versioning) = ask("GET", &format!("{}?versioning=", bucket.options.bucket)).await;
    assert!(versioning.contains("<Status>Enabled</Status>"), "{versioning}");
    let key = new_key();
    blobs.put(&key, bytes_stream("x")).await.unwrap();
    blobs.delete(&key).await.unwrap();
    assert_absent(&blobs, &key).await;
    let (_, versions) =
        ask("GET", &format!("{}?prefix={key}&versions=", bucket.options.bucket)).await;
    assert_eq!(versions.matches("<Version>").count(), 1, "it can be had back: {versions}");
    for _ in 0..3 {
        blobs.check().await.unwrap();
    }
    let listed: Vec<_> = blobs.list("").try_collect().await.unwrap();
    assert_eq!(listed, [], "a check leaves nothing");
    assert_eq!(bucket.uploads(".check").await, 0);
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn secrets_are_not_told() {
    let mut bucket = Bucket::made().await;
    let right = bucket.options.clone();
    bucket.options.secret_access_key = "hunter2secret".to_owned();
    bucket.options.session_token = Some("hunter2secret".to_owned());
    assert!(!format!("{:?}", bucket.options).contains("hunter2secret"));
    bucket.options.session_token = None;
    let blobs = bucket.store();
    assert!(!format!("{blobs:?}").contains("hunter2secret"));
    let get = blobs.get(&new_key(), None).await.map(|_| ());
    let put = blobs.put(&new_key(), bytes_stream("x")).await.map(|_| ());
    for outcome in [blobs.check().await, blobs.prepare().await, get, put] {
        let error = outcome.expect_err("the secret is wrong");
        assert_unavailable(&error);
        assert!(!all_of(&error).contains("hunter2secret"), "{}", all_of(&error));
    }
    bucket.options = right;
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

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let good = || Bucket::named().options;
    S3BlobStore::new(good()).expect("good");
    let bad = [
        ("bucket", S3Options { bucket: String::new(), ..good() }),
        ("bucket", S3Options { bucket: "../x".to_owned(), ..good() }),
        ("bucket", S3Options { bucket: "Upper".to_owned(), ..good() }),
        ("prefix", S3Options { prefix: Some("a//b".to_owned()), ..good() }),
        ("prefix", S3Options { prefix: Some("/a".to_owned()), ..good() }),
        ("endpoint", S3Options { endpoint: Some("127.0.0.1:9000".to_owned()), ..good() }),
        (
            "endpoint",
            S3Options { endpoint: Some("http://u:hunter2secret@host".to_owned()), ..good() },
        ),
        ("region", S3Options { region: String::new(), ..good() }),
        ("access key id", S3Options { access_key_id: String::new(), ..good() }),
        (
            "secret access key",
            S3Options { secret_access_key: "hunter2secret\n".to_owned(), ..good() },
        ),
    ];
    for (field, options) in bad {
        let error = S3BlobStore::new(options).expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}");
        assert_eq!(error.fields()[0].field, field);
        assert!(!all_of(&error).contains("hunter2secret"), "{field}");
    }
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
