//! What each call answers.

use std::sync::{Arc, Mutex};

use dms_core::fake::{
    InMemoryBlobStore, InMemoryDatabase, InMemoryDocumentCache, InMemoryViewCounter,
};
use dms_core::model::timestamp;
use dms_core::ports::DocumentClient;
use dms_core::use_cases::{
    CreateDocument, DocumentLimits, Documents, DocumentsPorts, bytes_stream,
};
use dms_core::{
    Caller, DocumentId, DocumentPatch, DocumentStatus, Error, ErrorKind, Sha256, SignatureId,
};
use dms_rpc::grpc::proto::{
    DocumentExistsRequest, GetDocumentRequest, UpdateDocumentStatusRequest,
};
use dms_rpc::grpc::{
    DocumentServer, GrpcAuthentication, GrpcDocumentClient, GrpcLimits, GrpcServer,
};
use tonic::{Code, Request};

use super::support::{Running, ScriptedDocuments, Update, document};

fn get(id: &(impl ToString + ?Sized)) -> GetDocumentRequest {
    GetDocumentRequest { document_id: id.to_string() }
}

fn update(id: &(impl ToString + ?Sized), status: &str) -> UpdateDocumentStatusRequest {
    UpdateDocumentStatusRequest {
        document_id: id.to_string(),
        status: status.into(),
        idempotency_key: None,
        expected_version: None,
    }
}

async fn serving(documents: Documents) -> Running {
    let server = DocumentServer::new(documents);
    let server = GrpcServer::new(server, GrpcAuthentication::Off, GrpcLimits::default()).unwrap();
    Running::start(server).await
}

#[tokio::test]
async fn a_document_is_given_with_every_field() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let id = DocumentId::generate();
    let answer = server.calls().get_document(get(&id)).await.unwrap().into_inner();
    let expected = document(id);
    assert_eq!(answer.id, id.to_string());
    assert_eq!(answer.title, "Contract");
    assert_eq!(answer.status, "created");
    assert_eq!(answer.content_type, "text/plain");
    assert_eq!(answer.content_size, 5);
    assert_eq!(answer.s3_key, format!("{id}/content"));
    assert_eq!(answer.created_by, "ann");
    assert_eq!(answer.version, 1);
    assert_eq!(answer.content_sha256, Sha256::of(b"hello").to_string());
    let at = answer.created_at.unwrap();
    let micros = at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000;
    assert_eq!(micros, timestamp::to_unix_micros(expected.created_at));
}

#[tokio::test]
async fn every_kind_of_error_has_its_code_and_tells_its_machine_readable_one() {
    let kinds = [
        (ErrorKind::NotFound, Code::NotFound),
        (ErrorKind::VersionMismatch, Code::Aborted),
        (ErrorKind::Conflict, Code::FailedPrecondition),
        (ErrorKind::Unavailable, Code::Unavailable),
        (ErrorKind::Timeout, Code::DeadlineExceeded),
        (ErrorKind::StorageFull, Code::ResourceExhausted),
        (ErrorKind::Internal, Code::Internal),
    ];
    for (kind, code) in kinds {
        let documents = ScriptedDocuments::on_get(move |_| async move {
            Err(Error::new(kind, "inner detail").with_source(Error::internal("cause")))
        });
        let server = Running::start(documents.server()).await;
        let status = server.calls().get_document(get(&DocumentId::generate())).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert_eq!(status.metadata().get("dms-error-code").unwrap(), kind.default_code());
        let request_id = status.metadata().get("x-request-id").unwrap().to_str().unwrap();
        let shows = format!("{status:?}").contains("cause");
        assert!(!shows, "{status:?}");
        if kind.is_retryable() || kind == ErrorKind::Internal {
            assert!(!status.message().contains("inner detail"), "{status:?}");
            assert!(status.message().contains(request_id), "{status:?}");
        }
    }
}

#[tokio::test]
async fn malformed_ids_and_unknown_statuses_are_invalid_arguments() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let mut calls = server.calls();
    for bad in ["", "1", "0198c0de00007000800000000000000000"] {
        let status = calls.get_document(get(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}");
        let exists = DocumentExistsRequest { document_id: bad.into() };
        assert_eq!(calls.document_exists(exists).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let id = DocumentId::generate();
    for bad in ["", "Signed", "lost"] {
        let status = calls.update_document_status(update(&id, bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad:?}");
        assert_eq!(status.message(), "status must be one of created, viewed, signed");
    }
    let key = UpdateDocumentStatusRequest {
        idempotency_key: Some(String::new()),
        ..update(&id, "signed")
    };
    let status = calls.update_document_status(key).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_unknown_document_does_not_exist_and_is_no_error() {
    let known = DocumentId::generate();
    let documents = ScriptedDocuments::on_get(move |id| async move {
        if id == known { Ok(document(id)) } else { Err(Error::not_found("document", id)) }
    });
    let server = Running::start(documents.server()).await;
    let mut calls = server.calls();
    for (id, exists) in [(known, true), (DocumentId::generate(), false)] {
        let request = DocumentExistsRequest { document_id: id.to_string() };
        assert_eq!(calls.document_exists(request).await.unwrap().into_inner().exists, exists);
    }
}

#[tokio::test]
async fn existence_is_not_denied_while_it_cannot_be_told() {
    let documents =
        ScriptedDocuments::on_get(|_| async { Err(Error::unavailable("database", "down")) });
    let server = Running::start(documents.server()).await;
    let request = DocumentExistsRequest { document_id: DocumentId::generate().to_string() };
    let status = server.calls().document_exists(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn an_update_takes_its_version_and_its_key_along() {
    let seen = Arc::new(Mutex::new(Vec::<Update>::new()));
    let documents = ScriptedDocuments::on_update({
        let seen = Arc::clone(&seen);
        move |update| {
            let id = update.id;
            seen.lock().unwrap().push(update);
            async move { Ok(document(id)) }
        }
    });
    let server = Running::start(documents.server()).await;
    let id = DocumentId::generate();
    let request = UpdateDocumentStatusRequest {
        idempotency_key: Some("k-1".into()),
        expected_version: Some(4),
        ..update(&id, "viewed")
    };
    server.calls().update_document_status(request).await.unwrap();
    server.calls().update_document_status(update(&id, "signed")).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].id, id);
    assert_eq!(seen[0].patch.status, Some(DocumentStatus::Viewed));
    assert_eq!(seen[0].patch.title, None);
    assert_eq!(seen[0].expected_version, Some(4));
    assert_eq!(seen[0].idempotency.as_ref().unwrap().key.key(), "k-1");
    assert_eq!(seen[1].patch.status, Some(DocumentStatus::Signed));
    assert_eq!((seen[1].expected_version, &seen[1].idempotency), (None, &None));
}

#[tokio::test]
async fn a_moved_version_is_told() {
    let documents = ScriptedDocuments::on_update(|_| async { Err(Error::version_mismatch(1, 7)) });
    let server = Running::start(documents.server()).await;
    let request = update(&DocumentId::generate(), "signed");
    let status = server.calls().update_document_status(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert_eq!(status.metadata().get("dms-current-version").unwrap(), "7");
}

#[tokio::test]
async fn a_signature_has_the_same_key_in_process_and_over_grpc() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let documents = {
        let seen = Arc::clone(&seen);
        ScriptedDocuments::on_update(move |update| {
            let id = update.id;
            seen.lock().unwrap().push(update);
            async move { Ok(document(id)) }
        })
        .documents()
    };
    let server = serving(documents.clone()).await;
    let remote = GrpcDocumentClient::new(&server.config()).unwrap();
    let (id, signature) = (DocumentId::generate(), SignatureId::generate());
    let caller = Caller::system("test");
    documents.mark_signed(&caller, id, signature).await.unwrap();
    remote.mark_signed(&caller, id, signature).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_sane_request_id_comes_back_and_any_other_is_replaced() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let mut calls = server.calls();
    for (sent, kept) in [("req-1", true), ("not sane!", false)] {
        let mut request = Request::new(get(&DocumentId::generate()));
        request.metadata_mut().insert("x-request-id", sent.parse().unwrap());
        let answer = calls.get_document(request).await.unwrap();
        let id = answer.metadata().get("x-request-id").unwrap().to_str().unwrap();
        assert_eq!(id == sent, kept);
        assert!(!id.is_empty());
    }
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_refused() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    let status = server.calls().get_document(get(&"x".repeat(100_000))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_signature_marks_its_document_once() {
    let database = InMemoryDatabase::default();
    let documents = Documents::new(
        DocumentsPorts {
            documents: Arc::new(database.documents()),
            blobs: Arc::new(InMemoryBlobStore::default()),
            cache: Arc::new(InMemoryDocumentCache::new()),
            views: Arc::new(InMemoryViewCounter::new()),
            idempotency: Arc::new(database.idempotency()),
        },
        DocumentLimits::default(),
    );
    let caller = Caller::system("test");
    let request =
        CreateDocument { title: "Contract".into(), created_by: "ann".into(), content_type: None };
    let created = documents.create(&caller, request, bytes_stream("hello"), None).await.unwrap();
    let id = created.resource.id;
    let server = serving(documents.clone()).await;
    let client = GrpcDocumentClient::new(&server.config()).unwrap();
    assert_eq!(client.get(&caller, id).await.unwrap(), created.resource);

    let signature = SignatureId::generate();
    let signed = client.mark_signed(&caller, id, signature).await.unwrap();
    assert_eq!((signed.status, signed.version), (DocumentStatus::Signed, 2));
    let viewed = DocumentPatch::status(DocumentStatus::Viewed);
    documents.update(&caller, id, viewed, None).await.unwrap();
    // Whichever way it is told again, what happened since stays.
    let again = client.mark_signed(&caller, id, signature).await.unwrap();
    assert_eq!((again.status, again.version), (DocumentStatus::Viewed, 3));
    let again = documents.mark_signed(&caller, id, signature).await.unwrap();
    assert_eq!((again.status, again.version), (DocumentStatus::Viewed, 3));

    documents.delete(&caller, id, None).await.unwrap();
    let gone = client.mark_signed(&caller, id, SignatureId::generate()).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}
