//! The client: what it repeats, how long it waits, what it makes of answers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::DocumentClient as _;
use dms_core::{Caller, DocumentId, DocumentStatus, Error, ErrorKind, RequestId, SignatureId};
use dms_rpc::grpc::proto::document_service_server::{DocumentService, DocumentServiceServer};
use dms_rpc::grpc::proto::{
    DocumentExistsRequest, DocumentExistsResponse, DocumentResponse, GetDocumentRequest,
    UpdateDocumentStatusRequest,
};
use dms_rpc::grpc::{GrpcClientConfig, GrpcDocumentClient};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::support::{Counter, Running, ScriptedDocuments, document, patiently};

fn caller() -> Caller {
    Caller::system("test")
}

/// Fails as often as told, then succeeds; counts the calls.
fn failing(times: usize, kind: ErrorKind) -> (Counter, ScriptedDocuments) {
    let calls = Counter::default();
    let documents = ScriptedDocuments::on_get({
        let calls = calls.clone();
        move |id| {
            let fails = calls.add() < times;
            async move { if fails { Err(Error::new(kind, "scripted")) } else { Ok(document(id)) } }
        }
    });
    (calls, documents)
}

#[tokio::test]
async fn documents_are_read_and_signed() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let client = GrpcDocumentClient::new(&server.config()).unwrap();
    let id = DocumentId::generate();
    assert_eq!(client.get(&caller(), id).await.unwrap(), document(id));
    let signed = client.mark_signed(&caller(), id, SignatureId::generate()).await.unwrap();
    assert_eq!((signed.id, signed.status), (id, DocumentStatus::Signed));
}

#[tokio::test]
async fn a_service_that_is_unavailable_for_a_moment_is_asked_again() {
    let (calls, documents) = failing(2, ErrorKind::Unavailable);
    let server = Running::start(documents.server()).await;
    let client = GrpcDocumentClient::new(&server.config()).unwrap();
    client.get(&caller(), DocumentId::generate()).await.unwrap();
    assert_eq!(calls.get(), 3);
}

#[tokio::test]
async fn repetitions_are_bounded() {
    let (calls, documents) = failing(usize::MAX, ErrorKind::Unavailable);
    let server = Running::start(documents.server()).await;
    let config = GrpcClientConfig { retries_max: 2, ..server.config() };
    let client = GrpcDocumentClient::new(&config).unwrap();
    let error = client.get(&caller(), DocumentId::generate()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(calls.get(), 3);
}

#[tokio::test]
async fn nothing_else_is_repeated_and_kinds_come_back() {
    for kind in
        [ErrorKind::NotFound, ErrorKind::Conflict, ErrorKind::Internal, ErrorKind::StorageFull]
    {
        let (calls, documents) = failing(usize::MAX, kind);
        let server = Running::start(documents.server()).await;
        let client = GrpcDocumentClient::new(&server.config()).unwrap();
        let error = client.get(&caller(), DocumentId::generate()).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (kind, kind.default_code()));
        assert_eq!(calls.get(), 1);
    }
}

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    let documents = ScriptedDocuments::on_get(|_| std::future::pending());
    let server = Running::start(documents.server()).await;
    let config = GrpcClientConfig { deadline: Duration::from_millis(50), ..server.config() };
    let client = GrpcDocumentClient::new(&config).unwrap();
    let error = patiently(client.get(&caller(), DocumentId::generate())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn no_repetition_begins_after_the_deadline() {
    let (calls, documents) = failing(usize::MAX, ErrorKind::Unavailable);
    let server = Running::start(documents.server()).await;
    let config = GrpcClientConfig { retry_pause: Duration::from_hours(1), ..server.config() };
    let client = GrpcDocumentClient::new(&config).unwrap();
    let error = patiently(client.get(&caller(), DocumentId::generate())).await.unwrap_err();
    assert_eq!((error.kind(), calls.get()), (ErrorKind::Unavailable, 1));
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = GrpcDocumentClient::new(&GrpcClientConfig::new(url)).unwrap();
    let error = patiently(client.get(&caller(), DocumentId::generate())).await.unwrap_err();
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("documents")));
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_service_that_hangs_up_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hangs_up = tokio::spawn(async move {
        while let Ok(accepted) = listener.accept().await {
            drop(accepted);
        }
    });
    let config =
        GrpcClientConfig { retry_pause: Duration::from_millis(1), ..GrpcClientConfig::new(url) };
    let client = GrpcDocumentClient::new(&config).unwrap();
    let error = patiently(client.get(&caller(), DocumentId::generate())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    hangs_up.abort();
}

#[tokio::test]
async fn a_call_whose_connection_is_lost_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = TcpListenerStream::new(listener).enumerate();
    let incoming = accepted.filter_map(|(n, stream)| async move {
        // The first is closed as soon as it is there.
        (n > 0).then(|| stream.map(|stream| (stream, None)))
    });
    let server = ScriptedDocuments::new().server();
    let server = tokio::spawn(server.serve_incoming(incoming, std::future::pending()));
    let config =
        GrpcClientConfig { retry_pause: Duration::from_millis(1), ..GrpcClientConfig::new(url) };
    let client = GrpcDocumentClient::new(&config).unwrap();
    client.get(&caller(), DocumentId::generate()).await.unwrap();
    server.abort();
}

#[tokio::test]
async fn a_client_outlives_a_restart_of_the_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Running::start_on(ScriptedDocuments::new().server(), listener);
    let client = GrpcDocumentClient::new(&server.config()).unwrap();
    client.get(&caller(), DocumentId::generate()).await.unwrap();
    server.stopped().await;
    let error = client.get(&caller(), DocumentId::generate()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let listener = TcpListener::bind(address).await.unwrap();
    let _server = Running::start_on(ScriptedDocuments::new().server(), listener);
    client.get(&caller(), DocumentId::generate()).await.unwrap();
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_allowed() {
    let (begun, running) = (Counter::default(), Counter::default());
    let most = Arc::new(Mutex::new(0));
    let gate = Arc::new(Semaphore::new(0));
    let documents = ScriptedDocuments::on_get({
        let (begun, running, most, gate) =
            (begun.clone(), running.clone(), Arc::clone(&most), Arc::clone(&gate));
        move |id| {
            begun.add();
            let now = running.add() + 1;
            let mut most = most.lock().unwrap();
            *most = now.max(*most);
            let (running, gate) = (running.clone(), Arc::clone(&gate));
            async move {
                gate.acquire().await.unwrap().forget();
                running.subtract();
                Ok(document(id))
            }
        }
    });
    let server = Running::start(documents.server()).await;
    let config = GrpcClientConfig { calls_max: 2, ..server.config() };
    let client = Arc::new(GrpcDocumentClient::new(&config).unwrap());
    let calls = (0..6).map(|_| {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.get(&caller(), DocumentId::generate()).await })
    });
    let calls: Vec<_> = calls.collect();
    for round in 1..=3 {
        begun.reached(2 * round).await;
        gate.add_permits(2);
    }
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    assert_eq!(*most.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_call_that_never_got_a_place_was_not_sent() {
    let begun = Counter::default();
    let documents = ScriptedDocuments::on_get({
        let begun = begun.clone();
        move |_| {
            begun.add();
            std::future::pending()
        }
    });
    let server = Running::start(documents.server()).await;
    let config =
        GrpcClientConfig { calls_max: 1, deadline: Duration::from_millis(300), ..server.config() };
    let client = Arc::new(GrpcDocumentClient::new(&config).unwrap());
    let first = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.get(&caller(), DocumentId::generate()).await }
    });
    begun.reached(1).await;
    let slow = GrpcClientConfig { deadline: Duration::ZERO, calls_max: 0, ..config };
    let error = GrpcDocumentClient::new(&slow)
        .unwrap()
        .get(&caller(), DocumentId::generate())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(patiently(first).await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(begun.get(), 1);
}

/// Metadata and idempotency key of a call.
type Recorded = (MetadataMap, Option<String>);

/// Keeps what calls bring along and answers with nonsense.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Recorded>>>);

#[async_trait]
impl DocumentService for Recorder {
    async fn update_document_status(
        &self,
        request: Request<UpdateDocumentStatusRequest>,
    ) -> Result<Response<DocumentResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.0.lock().unwrap().push((metadata, message.idempotency_key));
        Ok(Response::new(DocumentResponse::default()))
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> Result<Response<DocumentResponse>, Status> {
        self.0.lock().unwrap().push((request.metadata().clone(), None));
        Ok(Response::new(DocumentResponse::default()))
    }

    async fn document_exists(
        &self,
        _: Request<DocumentExistsRequest>,
    ) -> Result<Response<DocumentExistsResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }
}

#[tokio::test]
async fn deadline_request_id_and_key_are_sent() {
    let recorder = Recorder::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = DocumentServiceServer::new(recorder.clone());
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    let server = tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
    );
    let client = GrpcDocumentClient::new(&GrpcClientConfig::new(url)).unwrap();
    let caller = Caller { request_id: RequestId::from_caller("r-7").unwrap(), ..Caller::default() };
    let signature = SignatureId::generate();
    let unreadable = client.get(&caller, DocumentId::generate()).await.unwrap_err();
    assert_eq!(unreadable.kind(), ErrorKind::Internal);
    client.mark_signed(&caller, DocumentId::generate(), signature).await.unwrap_err();
    let calls = recorder.0.lock().unwrap();
    for (metadata, _) in &*calls {
        assert_eq!(metadata.get("x-request-id").unwrap(), "r-7");
        assert!(metadata.get("grpc-timeout").is_some());
        assert!(metadata.get("authorization").is_none());
    }
    assert_eq!(calls[1].1.as_deref(), Some(&*format!("signature/{signature}")));
    server.abort();
}

#[tokio::test]
async fn readiness_is_what_the_service_says() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let client = GrpcDocumentClient::new(&server.config()).unwrap();
    client.check().await.unwrap();
    server.health.set_serving(false).await;
    assert_eq!(client.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.stopped().await;
    assert_eq!(client.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn addresses_that_cannot_work_are_refused() {
    for bad in ["", "localhost:50051", "https://localhost:50051", "unix:///run/x", "http://"] {
        let refused = GrpcDocumentClient::new(&GrpcClientConfig::new(bad)).err();
        assert_eq!(refused.map(|e| e.kind()), Some(ErrorKind::Invalid), "{bad:?}");
    }
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let config = GrpcClientConfig::new("http://127.0.0.1:1");
    let refused = GrpcDocumentClient::new(&config).err();
    assert_eq!(refused.map(|e| e.kind()), Some(ErrorKind::Internal));
}
