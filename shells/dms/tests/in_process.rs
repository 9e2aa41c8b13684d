//! The product inside another program: started by the builder, several side by side, with ports of
//! the caller's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use dms::Dms;
use dms_core::fake::{InMemoryBlobStore, InMemorySearchIndex};
use dms_core::model::search::SearchQuery;
use dms_core::use_cases::{CreateDocument, bytes_stream};
use dms_core::{Caller, ErrorKind};
use dms_rpc::grpc::{GrpcClientConfig, GrpcDocumentClient};
use serde_json::{Value, json};
use tower::ServiceExt as _;

async fn call(dms: &Dms, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .expect("a request");
    let response = dms.router().oneshot(request).await.expect("an answer");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a whole body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

async fn create(dms: &Dms, title: &str) -> String {
    let body = json!({"title": title, "content": "words", "created_by": "ann"});
    let (status, document) = call(dms, "POST", "/documents", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{document}");
    document["id"].as_str().expect("an id").to_owned()
}

async fn found(dms: &Dms, text: &str) -> u64 {
    let query = SearchQuery { text: Some(text.into()), ..SearchQuery::default() };
    dms.search().search(&query).await.expect("an answer").total
}

async fn searchable(dms: &Dms, text: &str) {
    let started = Instant::now();
    while found(dms, text).await == 0 {
        assert!(started.elapsed() < Duration::from_mins(1), "{text} isn't found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn several_side_by_side_know_nothing_of_each_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let one = Dms::builder(folder.path().join("one")).start().await.expect("a start");
    let other = Dms::builder(folder.path().join("other")).start().await.expect("a start");
    let id = create(&one, "alpha").await;
    create(&other, "beta").await;
    searchable(&one, "alpha").await;
    searchable(&other, "beta").await;
    assert_eq!(found(&one, "beta").await, 0);
    let (status, _) = call(&other, "GET", &format!("/documents/{id}"), &Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    one.shutdown().await.expect("a clean end");
    other.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_folder_can_be_opened_again_after_shutdown_and_not_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dms = Dms::builder(folder.path()).start().await.expect("a start");
    let id = create(&dms, "kept").await;
    assert!(Dms::builder(folder.path()).start().await.is_err(), "opened twice");
    dms.shutdown().await.expect("a clean end");
    let dms = Dms::builder(folder.path()).start().await.expect("a second start");
    let (status, document) = call(&dms, "GET", &format!("/documents/{id}"), &Value::Null).await;
    assert_eq!((status, &document["title"]), (StatusCode::OK, &json!("kept")));
    dms.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn use_cases_work_without_http() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dms = Dms::builder(folder.path()).start().await.expect("a start");
    let caller = Caller::system("embedding");
    let request = CreateDocument {
        title: "no http".into(),
        created_by: "ann".into(),
        content_type: Some("text/html".into()),
    };
    let content = bytes_stream("<p>a <b>paragraph</b> of text</p>");
    let created =
        dms.documents().create(&caller, request, content, None).await.expect("a document");
    searchable(&dms, "\"paragraph of text\"").await;
    dms.documents().delete(&caller, created.resource.id, None).await.expect("a deletion");
    let gone = dms.documents().get(&caller, created.resource.id).await;
    assert_eq!(gone.expect_err("deleted").kind(), ErrorKind::NotFound);
    dms.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn ports_of_the_callers_own_are_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs = Arc::new(InMemoryBlobStore::default());
    let index = Arc::new(InMemorySearchIndex::default());
    let dms = Dms::builder(folder.path())
        .blob_store(blobs.clone())
        .search_index(index.clone())
        .start()
        .await
        .expect("a start");
    create(&dms, "elsewhere").await;
    searchable(&dms, "elsewhere").await;
    assert!(!folder.path().join("blobs").exists(), "content went to the caller's store");
    assert!(!folder.path().join("index").exists(), "documents went to the caller's index");
    dms.shutdown().await.expect("a clean end");
}

/// Asks `grpc.health.v1` until it says so.
async fn says_ready(client: &GrpcDocumentClient, ready: bool) {
    let started = Instant::now();
    while client.check().await.is_ok() != ready {
        assert!(started.elapsed() < Duration::from_mins(1), "ready over gRPC isn't {ready}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn grpc_says_whether_it_is_ready_as_http_does() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dms = Dms::builder(folder.path()).start().await.expect("a start");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(dms.grpc().clone().serve(listener, std::future::pending()));
    let client = GrpcDocumentClient::new(&GrpcClientConfig::new(url)).expect("a client");
    says_ready(&client, true).await;
    let is_up = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&is_up);
    dms.health().add("engine", true, move || {
        let is_up = seen.load(Ordering::SeqCst);
        async move { if is_up { Ok(()) } else { Err("away".into()) } }
    });
    says_ready(&client, false).await;
    is_up.store(true, Ordering::SeqCst);
    says_ready(&client, true).await;
    dms.drain();
    says_ready(&client, false).await;
    dms.shutdown().await.expect("a clean end");
    server.abort();
}
