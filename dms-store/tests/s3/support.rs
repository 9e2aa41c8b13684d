//! A bucket of each test's own, and contents to put into it.

use std::time::Duration;

use bytes::Bytes;
use dms_core::ports::BlobStore as _;
use dms_core::{DocumentId, Error, ErrorKind};
use dms_store::s3::{S3BlobStore, S3Options};
use futures_util::TryStreamExt as _;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};

use crate::proxy::Proxy;

const KEY: &str = "minioadmin";
const SECRET: &str = "minioadmin";

/// Enough for an upload in several parts.
pub(crate) const LARGE: usize = (11 << 20) + 7;

fn endpoint() -> String {
    std::env::var("DMS_TEST_S3_ENDPOINT").unwrap_or_else(|_| "http://127.0.0.1:9000".to_owned())
}

pub(crate) fn address() -> String {
    endpoint().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// A request that the store itself never makes; gives status and body.
pub(crate) async fn ask(method: &str, path: &str) -> (u16, String) {
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
pub(crate) struct Bucket {
    pub(crate) options: S3Options,
}

impl Bucket {
    /// The name of a bucket that isn't there.
    pub(crate) fn named() -> Self {
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

    pub(crate) async fn made() -> Self {
        let bucket = Self::named();
        bucket.store().prepare().await.expect("a bucket");
        bucket
    }

    pub(crate) fn store(&self) -> S3BlobStore {
        S3BlobStore::new(self.options.clone()).expect("a store")
    }

    pub(crate) fn store_through(&self, proxy: &Proxy) -> S3BlobStore {
        let endpoint = Some(format!("http://{}", proxy.address));
        S3BlobStore::new(S3Options { endpoint, ..self.options.clone() }).expect("a store")
    }

    /// One that doesn't wait long for an answer.
    pub(crate) fn hasty_store_through(&self, proxy: &Proxy) -> S3BlobStore {
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
    pub(crate) async fn uploads(&self, key: &str) -> usize {
        // `MinIO` lists those of one key only.
        let (status, body) =
            ask("GET", &format!("{}?prefix={key}&uploads=", self.options.bucket)).await;
        assert_eq!(status, 200, "{body}");
        body.matches("<Upload>").count()
    }

    pub(crate) async fn remove(self) {
        let (status, body) = ask("DELETE", &self.options.bucket).await;
        assert!(status < 300, "{status}: {body}");
    }
}

pub(crate) fn new_key() -> String {
    format!("{}/content", DocumentId::generate())
}

pub(crate) fn content(size: usize) -> Bytes {
    let low = |i: usize| i.to_le_bytes()[0];
    (0..size).map(|i| low(i % 251) ^ low(i >> 12)).collect()
}

pub(crate) fn in_chunks(content: &Bytes) -> Vec<dms_core::Result<Bytes>> {
    content.chunks(300_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

pub(crate) async fn read(blobs: &S3BlobStore, key: &str) -> dms_core::Result<Bytes> {
    let stream = blobs.get(key, None).await?.stream;
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("read to the end");
    Ok(chunks.concat().into())
}

pub(crate) async fn assert_absent(blobs: &S3BlobStore, key: &str) {
    assert_eq!(read(blobs, key).await.expect_err("nothing").kind(), ErrorKind::NotFound);
    let listed: Vec<_> = blobs.list(key).try_collect().await.expect("list");
    assert_eq!(listed, []);
}

pub(crate) fn assert_unavailable(error: &Error) {
    let dependency = (error.kind(), error.dependency());
    assert_eq!(dependency, (ErrorKind::Unavailable, Some("storage")), "{error:?}");
}
