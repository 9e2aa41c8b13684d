//! What is repeated, and what isn't.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use dms_core::use_cases::CreateDocument;
use dms_core::{DocumentId, DocumentStatus};
use dms_rpc::client::{DmsClient, UploadContent};
use dms_rpc::types::PatchDocumentBody;
use serde_json::json;

use super::support::{TestServer, document, patiently, problem};

fn fields() -> CreateDocument {
    CreateDocument { title: "t".into(), created_by: "ann".into(), content_type: None }
}

/// Fails with this status so many times, then gives a document.
async fn failing(times: usize, status: u16, code: &'static str) -> TestServer {
    TestServer::answering(move |n| -> Response {
        if n < times {
            problem(status, code)
        } else {
            axum::Json(json!(document(DocumentId::generate()))).into_response()
        }
    })
    .await
}

#[tokio::test]
async fn reads_are_repeated_after_failures_that_pass() {
    for status in [429, 502, 503, 504] {
        let server = failing(2, status, "unavailable").await;
        server.client().document(DocumentId::generate()).await.unwrap();
        assert_eq!(server.asked().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn nothing_is_repeated_after_other_failures() {
    for status in [400, 401, 404, 409, 412, 413, 422, 500, 507] {
        let server = failing(usize::MAX, status, "other").await;
        let error = server.client().document(DocumentId::generate()).await.unwrap_err();
        assert_eq!(error.status(), Some(status));
        assert_eq!(server.asked().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn repetitions_are_bounded_and_the_last_error_is_told() {
    let server = failing(usize::MAX, 503, "overloaded").await;
    let client = server.builder().retries_max(2).build().unwrap();
    let error = client.document(DocumentId::generate()).await.unwrap_err();
    assert_eq!(error.code(), Some("overloaded"));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn a_create_is_repeated_under_the_same_key() {
    let server = failing(2, 503, "unavailable").await;
    server.client().create_document(&fields(), "hello", None).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].header("idempotency-key").is_some());
    for again in &asked[1..] {
        assert_eq!(again.header("idempotency-key"), asked[0].header("idempotency-key"));
        assert_eq!(again.body, asked[0].body);
    }
}

#[tokio::test]
async fn two_creates_have_different_keys() {
    let server = failing(0, 500, "").await;
    let client = server.client();
    for _ in 0..2 {
        client.create_document(&fields(), "hello", None).await.unwrap();
    }
    let asked = server.asked();
    assert_ne!(asked[0].header("idempotency-key"), asked[1].header("idempotency-key"));
}

#[tokio::test]
async fn a_create_waits_for_its_own_earlier_attempt() {
    let server = failing(1, 409, "request_in_progress").await;
    server.client().create_document(&fields(), "hello", None).await.unwrap();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_create_waits_longer_for_an_attempt_that_failed_with_the_key_in_its_hand() {
    let server = TestServer::answering(move |n| -> Response {
        match n {
            0 => problem(503, "unavailable"),
            1..=5 => problem(409, "request_in_progress"),
            _ => axum::Json(json!(document(DocumentId::generate()))).into_response(),
        }
    })
    .await;
    server.client().create_document(&fields(), "hello", None).await.unwrap();
    assert_eq!(server.asked().len(), 7, "more than it repeats otherwise");
    // Somebody else's is not waited for that long.
    let server = failing(usize::MAX, 409, "request_in_progress").await;
    let error = server.client().create_document(&fields(), "hello", None).await.unwrap_err();
    assert_eq!(error.status(), Some(409));
}

#[tokio::test]
async fn changes_are_not_repeated_once_they_were_sent() {
    let server = failing(usize::MAX, 503, "unavailable").await;
    let client = server.client();
    let patch = PatchDocumentBody { status: Some(DocumentStatus::Viewed), title: None };
    client.update_document(DocumentId::generate(), &patch, None).await.unwrap_err();
    client.delete_document(DocumentId::generate(), None).await.unwrap_err();
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_upload_from_memory_is_repeated_and_one_from_a_stream_is_not() {
    let server = failing(1, 503, "unavailable").await;
    let client = server.client();
    client.upload_document(&fields(), UploadContent::bytes("hello"), None).await.unwrap();
    assert_eq!(server.asked().len(), 2);
    assert!(server.asked()[1].text().contains("hello"));

    let server = failing(1, 503, "unavailable").await;
    let content = UploadContent::reader(&b"hello"[..], None);
    let error = server.client().upload_document(&fields(), content, None).await.unwrap_err();
    assert_eq!(error.status(), Some(503));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_waits_as_long_as_the_server_says() {
    let server = TestServer::answering(|n| -> Response {
        if n == 0 {
            let mut response = problem(503, "unavailable");
            response.headers_mut().insert("retry-after", "7".parse().unwrap());
            response
        } else {
            axum::Json(json!(document(DocumentId::generate()))).into_response()
        }
    })
    .await;
    let begun = tokio::time::Instant::now();
    server.client().document(DocumentId::generate()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(7), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_asks_for_a_long_pause_is_left_alone() {
    let server = TestServer::answering(|_| {
        let mut response = problem(429, "overloaded");
        response.headers_mut().insert("retry-after", "3600".parse().unwrap());
        response
    })
    .await;
    let error = patiently(server.client().document(DocumentId::generate())).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_hours(1)));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn reads_and_creates_are_repeated_when_the_connection_is_lost() {
    for create in [false, true] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            drop(listener.accept().await);
            let answer = || async { axum::Json(json!(document(DocumentId::generate()))) };
            axum::serve(listener, axum::Router::new().fallback(answer)).await
        });
        let client = DmsClient::builder(url).retry_pause(Duration::from_millis(1)).build().unwrap();
        if create {
            client.create_document(&fields(), "hello", None).await.unwrap();
        } else {
            client.document(DocumentId::generate()).await.unwrap();
        }
        server.abort();
    }
}

#[tokio::test]
async fn a_change_that_could_not_be_sent_is_repeated() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = DmsClient::builder(format!("http://{address}"))
        .retry_pause(Duration::from_millis(20))
        .retries_max(1_000)
        .build()
        .unwrap();
    let change = tokio::spawn(async move {
        let patch = PatchDocumentBody { status: Some(DocumentStatus::Viewed), title: None };
        client.update_document(DocumentId::generate(), &patch, None).await
    });
    // It can't succeed before somebody listens.
    tokio::task::yield_now().await;
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let answer = || async { axum::Json(json!(document(DocumentId::generate()))) };
    let router = axum::Router::new().fallback(answer);
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    patiently(change).await.unwrap().unwrap();
    server.abort();
}
