//! Writes whose client goes away.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Method;
use dms_core::Result;
use dms_core::fake::InMemoryBlobStore;
use dms_core::ports::{BlobContent, BlobInfo, BlobStore, ByteStream};
use futures_util::stream::BoxStream;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::ServiceExt as _;

use super::bed::{Bed, Plan, with_json};
use crate::rest::LayerOptions;

const LONG: Duration = Duration::from_secs(20);

/// Stores nothing before it's let.
struct GatedBlobStore {
    inner: InMemoryBlobStore,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl BlobStore for GatedBlobStore {
    async fn put(&self, key: &str, content: ByteStream) -> Result<u64> {
        let _permit = self.gate.acquire().await.expect("never closed");
        self.inner.put(key, content).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent> {
        self.inner.get(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>> {
        self.inner.list(prefix)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

async fn all_writes_end(bed: &Bed) {
    bed.writes.close();
    timeout(LONG, bed.writes.wait()).await.expect("a write never ends");
}

#[tokio::test]
async fn a_write_is_finished_after_its_client_went_away() {
    let gate = Arc::new(Semaphore::new(0));
    let blobs = GatedBlobStore { inner: InMemoryBlobStore::default(), gate: Arc::clone(&gate) };
    let bed = Plan { blobs: Arc::new(blobs), ..Plan::default() }.build();
    let body = json!({"title": "t", "content": "c", "created_by": "a"});
    let request = with_json(Method::POST, "/documents", &[], &body);
    let mut answering = Box::pin(bed.app.clone().oneshot(request));
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Pending if !bed.writes.is_empty() => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
        Poll::Ready(_) => panic!("answered before anything was stored"),
    })
    .await;
    drop(answering);
    gate.add_permits(1);
    all_writes_end(&bed).await;
    assert_eq!(bed.get("/documents").await.json()["documents"].as_array().unwrap().len(), 1);
}

async fn serve(bed: &Bed) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = bed.app.clone().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// The beginning of an upload that says it will be longer.
const BEGINNING: &str = "POST /documents HTTP/1.1\r\nhost: x\r\nidempotency-key: k\r\n\
    content-type: multipart/form-data; boundary=B\r\ncontent-length: 5000\r\n\r\n\
    --B\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\nt\r\n\
    --B\r\ncontent-disposition: form-data; name=\"created_by\"\r\n\r\na\r\n\
    --B\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\nabcdef";

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing_and_gives_its_key_back() {
    let bed = Bed::new();
    let address = serve(&bed).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(BEGINNING.as_bytes()).await.unwrap();
    let begun = async {
        while bed.writes.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, begun).await.expect("the upload never begins");
    drop(client);
    all_writes_end(&bed).await;
    assert!(bed.blob_keys().await.is_empty());
    let body = json!({"title": "t", "content": "c", "created_by": "a"});
    let again = bed.post_with("/documents", &[("idempotency-key", "k")], &body).await;
    assert_eq!(again.status, 201, "{again:?}");
}

#[tokio::test]
async fn an_upload_that_stalls_is_answered_and_leaves_nothing() {
    let layers = LayerOptions { deadline: Duration::from_millis(100), ..LayerOptions::default() };
    let bed = Plan { layers, ..Plan::default() }.build();
    let address = serve(&bed).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(BEGINNING.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, client.read_to_end(&mut answer)).await.expect("no end").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
    all_writes_end(&bed).await;
    assert!(bed.blob_keys().await.is_empty());
}
