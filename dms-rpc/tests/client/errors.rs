//! What a call tells when it fails.

use std::error::Error as _;
use std::time::Duration;

use axum::http::StatusCode;
use dms_core::{DocumentId, Error, ErrorKind};
use dms_rpc::client::{ClientError, DmsClient};
use serde_json::json;

use super::support::{TestServer, document, patiently, problem};

#[tokio::test]
async fn a_problem_is_told_in_full() {
    let server = TestServer::answering(|_| {
        let body = json!({
            "type": "about:blank",
            "title": "Unprocessable Content",
            "status": 422,
            "detail": "not acceptable: limit",
            "code": "validation_failed",
            "request_id": "r-9",
            "errors": [{"field": "limit", "message": "must be 1 to 100"}],
        });
        (StatusCode::UNPROCESSABLE_ENTITY, [("x-request-id", "r-9")], axum::Json(body))
    })
    .await;
    let error = server.client().document(DocumentId::generate()).await.unwrap_err();
    assert!(!error.is_retryable());
    let problem = error.problem().unwrap();
    assert_eq!((problem.status, problem.code.as_str()), (422, "validation_failed"));
    assert_eq!(problem.fields[0].field, "limit");
    assert_eq!(problem.request_id.as_deref(), Some("r-9"));
    assert_eq!(
        error.to_string(),
        "422 Unprocessable Entity, validation_failed, limit must be 1 to 100, request id r-9",
    );
    let core = Error::from(error);
    assert_eq!((core.kind(), core.code()), (ErrorKind::Invalid, "validation_failed"));
    assert_eq!(core.fields()[0].message, "must be 1 to 100");
}

#[tokio::test]
async fn the_current_version_is_told() {
    let server = TestServer::answering(|_| {
        let mut response = problem(412, "version_mismatch");
        response.headers_mut().insert("etag", "\"7\"".parse().unwrap());
        response
    })
    .await;
    let error = server.client().delete_document(DocumentId::generate(), Some(1)).await.unwrap_err();
    assert_eq!(error.problem().unwrap().current_version, Some(7));
}

#[tokio::test]
async fn an_error_of_something_in_between_is_told_by_its_status() {
    let server =
        TestServer::answering(|_| (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>")).await;
    let client = server.builder().retries_max(0).build().unwrap();
    let error = client.document(DocumentId::generate()).await.unwrap_err();
    assert_eq!((error.status(), error.code()), (Some(502), None));
    assert!(error.is_retryable());
    assert_eq!(Error::from(error).kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_answer_that_is_none_is_unreadable() {
    for body in ["", "{}", "<html></html>", "{\"id\":1}"] {
        let server = TestServer::answering(move |_| body).await;
        let error = server.client().document(DocumentId::generate()).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreadable(_)), "{body:?}: {error:?}");
        assert!(!error.is_retryable());
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn redirections_are_not_followed() {
    let server =
        TestServer::answering(|_| (StatusCode::FOUND, [("location", "/elsewhere")], "")).await;
    let error = server.client().document(DocumentId::generate()).await.unwrap_err();
    assert_eq!(error.status(), Some(302));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = DmsClient::builder(url).retry_pause(Duration::from_millis(1)).build().unwrap();
    let error = patiently(client.document(DocumentId::generate())).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { unsent: true, .. }), "{error:?}");
    assert!(error.is_retryable());
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_server_that_hangs_up_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hangs_up = tokio::spawn(async move {
        while let Ok(accepted) = listener.accept().await {
            drop(accepted);
        }
    });
    let client = DmsClient::builder(url).retry_pause(Duration::from_millis(1)).build().unwrap();
    let error = patiently(client.document(DocumentId::generate())).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { unsent: false, .. }), "{error:?}");
    hangs_up.abort();
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let router = axum::Router::new().fallback(std::future::pending::<()>);
    let server = TestServer::of(router).await;
    let client =
        server.builder().request_timeout(Duration::from_millis(30)).retries_max(1).build().unwrap();
    let error = patiently(client.document(DocumentId::generate())).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
    let error = patiently(client.content(DocumentId::generate(), ..)).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
}

#[tokio::test]
async fn a_key_that_cannot_be_sent_is_refused_before_anything_is() {
    let server = TestServer::giving(json!(document(DocumentId::generate()))).await;
    let fields = dms_core::use_cases::CreateDocument::default();
    let error = server.client().create_document(&fields, "x", Some("a\r\nb: c")).await.unwrap_err();
    assert!(matches!(error, ClientError::Request(_)), "{error:?}");
    assert!(server.asked().is_empty());
}

#[test]
fn addresses_and_tokens_that_cannot_work_are_refused() {
    for bad in
        ["", "localhost:8000", "ftp://h", "http://", "http://h?q=1", "http://u:p@h", "http://h#f"]
    {
        let refused = DmsClient::new(bad);
        assert!(matches!(refused, Err(ClientError::Request(_))), "{bad:?}");
    }
    assert!(DmsClient::builder("http://h").bearer_token("a\nb").build().is_err());
    assert!(DmsClient::builder("http://h").root_certificates("no").build().is_ok());
}
