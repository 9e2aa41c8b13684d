//! Clients that go away, connections that say nothing, and the end of a server.

use std::sync::Arc;
use std::time::Duration;

use dms_core::DocumentId;
use dms_rpc::grpc::proto::{GetDocumentRequest, UpdateDocumentStatusRequest};
use dms_rpc::grpc::{GrpcAuthentication, GrpcLimits};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::support::{Counter, Running, ScriptedDocuments, document, patiently};

fn sign() -> UpdateDocumentStatusRequest {
    UpdateDocumentStatusRequest {
        document_id: DocumentId::generate().to_string(),
        status: "signed".into(),
        idempotency_key: None,
        expected_version: None,
    }
}

/// Updates that wait for the gate, and are counted when they begin and when they end.
struct Gated {
    begun: Counter,
    ended: Counter,
    gate: Arc<Semaphore>,
}

impl Gated {
    fn new() -> (Self, ScriptedDocuments) {
        let gated = Self {
            begun: Counter::default(),
            ended: Counter::default(),
            gate: Arc::new(Semaphore::new(0)),
        };
        let (begun, ended) = (gated.begun.clone(), gated.ended.clone());
        let gate = Arc::clone(&gated.gate);
        let documents = ScriptedDocuments::on_update(move |update| {
            let (begun, ended, gate) = (begun.clone(), ended.clone(), Arc::clone(&gate));
            async move {
                begun.add();
                gate.acquire().await.unwrap().forget();
                ended.add();
                Ok(document(update.id))
            }
        });
        (gated, documents)
    }
}

#[tokio::test]
async fn an_update_ends_though_its_client_is_gone() {
    let (gated, documents) = Gated::new();
    let server = Running::start(documents.server()).await;
    let call = tokio::spawn({
        let mut calls = server.calls();
        async move { calls.update_document_status(sign()).await }
    });
    gated.begun.reached(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // Another round trip: by now the server knows that the first client is gone.
    let get = GetDocumentRequest { document_id: DocumentId::generate().to_string() };
    server.calls().get_document(get).await.unwrap();
    assert_eq!(gated.ended.get(), 0);
    gated.gate.add_permits(1);
    gated.ended.reached(1).await;
}

#[tokio::test]
async fn an_abandoned_update_keeps_its_place_among_the_calls() {
    let (gated, documents) = Gated::new();
    let limits = GrpcLimits { calls_max: 1, ..GrpcLimits::default() };
    let server = Running::start(documents.server_with(GrpcAuthentication::Off, limits)).await;
    let mut request = tonic::Request::new(sign());
    request.metadata_mut().insert("grpc-timeout", "20m".parse().unwrap());
    server.calls().update_document_status(request).await.unwrap_err();
    gated.begun.reached(1).await;
    server.calls().update_document_status(sign()).await.unwrap_err();
    assert_eq!(gated.begun.get(), 1);
    gated.gate.add_permits(1);
    gated.ended.reached(1).await;
}

#[tokio::test]
async fn the_end_waits_for_calls_under_way_and_for_abandoned_updates() {
    let (gated, documents) = Gated::new();
    let server = Running::start(documents.server()).await;
    let kept = tokio::spawn({
        let mut calls = server.calls();
        async move { calls.update_document_status(sign()).await }
    });
    let abandoned = tokio::spawn({
        let mut calls = server.calls();
        async move { calls.update_document_status(sign()).await }
    });
    gated.begun.reached(2).await;
    abandoned.abort();
    server.begin_stop();
    // Once connections are refused, the end has begun.
    patiently(async { while TcpStream::connect(server.address()).await.is_ok() {} }).await;
    assert_eq!(gated.ended.get(), 0);
    gated.gate.add_permits(2);
    patiently(kept).await.unwrap().unwrap();
    server.stopped().await;
    assert_eq!(gated.ended.get(), 2);
}

#[tokio::test]
async fn the_end_waits_for_an_update_that_nobody_waits_for() {
    let (gated, documents) = Gated::new();
    let limits = GrpcLimits { drain_max: Duration::from_hours(1), ..GrpcLimits::default() };
    let server = Running::start(documents.server_with(GrpcAuthentication::Off, limits)).await;
    let mut request = tonic::Request::new(sign());
    request.metadata_mut().insert("grpc-timeout", "20m".parse().unwrap());
    server.calls().update_document_status(request).await.unwrap_err();
    gated.begun.reached(1).await;
    let mut stopped = std::pin::pin!(server.stopped());
    // However long: it can't end before the update has.
    let early = tokio::time::timeout(Duration::from_millis(200), &mut stopped).await;
    assert!(early.is_err());
    gated.gate.add_permits(1);
    stopped.await;
    assert_eq!(gated.ended.get(), 1);
}

#[tokio::test]
async fn the_end_does_not_wait_for_ever() {
    let begun = Counter::default();
    let documents = ScriptedDocuments::on_get({
        let begun = begun.clone();
        move |_| {
            begun.add();
            std::future::pending()
        }
    });
    let limits = GrpcLimits { drain_max: Duration::from_millis(50), ..GrpcLimits::default() };
    let server = Running::start(documents.server_with(GrpcAuthentication::Off, limits)).await;
    let get = GetDocumentRequest { document_id: DocumentId::generate().to_string() };
    let mut calls = server.calls();
    let call = tokio::spawn(async move { calls.get_document(get).await });
    begun.reached(1).await;
    server.stopped().await;
    patiently(call).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let limits = GrpcLimits { first_call_max: Duration::from_millis(20), ..GrpcLimits::default() };
    let server = ScriptedDocuments::new().server_with(GrpcAuthentication::Off, limits);
    let server = Running::start(server).await;
    let mut silent = TcpStream::connect(server.address()).await.unwrap();
    let mut received = Vec::new();
    // Whether it ends with a reset or not, it ends.
    let _ = patiently(silent.read_to_end(&mut received)).await;
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_end() {
    let limits = GrpcLimits { drain_max: Duration::from_hours(1), ..GrpcLimits::default() };
    let server = ScriptedDocuments::new().server_with(GrpcAuthentication::Off, limits);
    let server = Running::start(server).await;
    let silent = TcpStream::connect(server.address()).await.unwrap();
    let get = GetDocumentRequest { document_id: DocumentId::generate().to_string() };
    server.calls().get_document(get).await.unwrap();
    server.stopped().await;
    drop(silent);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_a_place() {
    let limits = GrpcLimits { connections_max: 1, ..GrpcLimits::default() };
    let server = ScriptedDocuments::new().server_with(GrpcAuthentication::Off, limits);
    let server = Running::start(server).await;
    let get = || GetDocumentRequest { document_id: DocumentId::generate().to_string() };
    let mut first = server.calls();
    first.get_document(get()).await.unwrap();
    let mut second = server.calls();
    let waiting = tokio::spawn(async move { second.get_document(get()).await });
    // Calls on the first connection pass the waiting one by.
    for _ in 0..20 {
        first.get_document(get()).await.unwrap();
    }
    assert!(!waiting.is_finished());
    drop(first);
    patiently(waiting).await.unwrap().unwrap();
}
