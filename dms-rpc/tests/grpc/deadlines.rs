//! Deadlines and bounds.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use dms_core::DocumentId;
use dms_rpc::grpc::proto::GetDocumentRequest;
use dms_rpc::grpc::{GrpcAuthentication, GrpcLimits, GrpcServer};
use prost::Message as _;
use tonic::Code;
use tower::ServiceExt as _;

use super::support::{Counter, Running, ScriptedDocuments, document, patiently};

/// A call without tonic's client, which would end it itself when its time is over.
async fn raw_get(server: &GrpcServer, timeout: Option<&str>) -> Response<Body> {
    let message = GetDocumentRequest { document_id: DocumentId::generate().to_string() };
    let mut body = vec![0; 5];
    message.encode(&mut body).unwrap();
    body[4] = u8::try_from(body.len() - 5).unwrap();
    let mut request = Request::post("/document.DocumentService/GetDocument")
        .header("content-type", "application/grpc")
        .body(Body::from(body))
        .unwrap();
    if let Some(timeout) = timeout {
        request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
    }
    patiently(server.router().oneshot(request)).await.unwrap()
}

fn code(response: &Response<Body>) -> Option<&str> {
    response.headers().get("grpc-status").map(|code| code.to_str().unwrap())
}

fn stuck() -> ScriptedDocuments {
    ScriptedDocuments::on_get(|_| std::future::pending())
}

const DEADLINE_EXCEEDED: Option<&str> = Some("4");

#[tokio::test]
async fn the_deadline_a_call_brings_is_honoured() {
    let server = stuck().server();
    let response = raw_get(&server, Some("20m")).await;
    assert_eq!(code(&response), DEADLINE_EXCEEDED);
    assert_eq!(response.headers()["dms-error-code"], "timeout");
}

#[tokio::test]
async fn a_deadline_that_has_passed_begins_nothing() {
    let begun = Counter::default();
    let documents = ScriptedDocuments::on_get({
        let begun = begun.clone();
        move |id| {
            begun.add();
            async move { Ok(document(id)) }
        }
    });
    let response = raw_get(&documents.server(), Some("0m")).await;
    assert_eq!(code(&response), DEADLINE_EXCEEDED);
    assert_eq!(begun.get(), 0);
}

#[tokio::test]
async fn no_call_outlasts_the_longest_deadline() {
    let limits = GrpcLimits { deadline_max: Duration::from_millis(20), ..GrpcLimits::default() };
    let server = stuck().server_with(GrpcAuthentication::Off, limits);
    assert_eq!(code(&raw_get(&server, None).await), DEADLINE_EXCEEDED);
    assert_eq!(code(&raw_get(&server, Some("1H")).await), DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn a_malformed_deadline_is_an_invalid_argument() {
    let server = ScriptedDocuments::new().server();
    let response = raw_get(&server, Some("soon")).await;
    assert_eq!(code(&response), Some("3"));
    assert_eq!(response.headers()["dms-error-code"], "malformed_request");
}

#[tokio::test]
async fn a_call_beyond_the_bound_is_refused_at_once_and_the_next_is_not() {
    let begun = Counter::default();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let documents = ScriptedDocuments::on_get({
        let (begun, gate) = (begun.clone(), gate.clone());
        move |id| {
            begun.add();
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                Ok(document(id))
            }
        }
    });
    let limits = GrpcLimits { calls_max: 1, ..GrpcLimits::default() };
    let server = Running::start(documents.server_with(GrpcAuthentication::Off, limits)).await;
    let get = || GetDocumentRequest { document_id: DocumentId::generate().to_string() };
    let first = tokio::spawn({
        let mut calls = server.calls();
        let get = get();
        async move { calls.get_document(get).await }
    });
    begun.reached(1).await;

    let status = server.calls().get_document(get()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.metadata().get("dms-error-code").unwrap(), "overloaded");
    assert_eq!(begun.get(), 1);

    gate.add_permits(2);
    patiently(first).await.unwrap().unwrap();
    // The place is given back when the call is over on the server, not when its answer arrives.
    let mut calls = server.calls();
    patiently(async { while calls.get_document(get()).await.is_err() {} }).await;
}
