//! Who may call.

use std::sync::Arc;
use std::sync::Mutex;

use dms_core::ports::DocumentClient as _;
use dms_core::ports::{MockTokenVerifier, TokenVerifier};
use dms_core::{Caller, Claims, DocumentId, Error, ErrorKind};
use dms_rpc::grpc::proto::{GetDocumentRequest, UpdateDocumentStatusRequest};
use dms_rpc::grpc::{GrpcAuthentication, GrpcDocumentClient, GrpcLimits, ServiceToken};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::support::{Running, ScriptedDocuments, document};

const SERVICE_TOKEN: &str = "between-services-only";

fn verifier() -> Arc<dyn TokenVerifier> {
    let mut verifier = MockTokenVerifier::new();
    verifier.expect_verify().returning(|token| match token {
        "good" => Ok(Claims {
            sub: "ann".into(),
            exp: i64::MAX,
            email: None,
            other: serde_json::Map::new(),
        }),
        "old" => {
            Err(Error::new(ErrorKind::Unauthenticated, "token has expired")
                .with_code("token_expired"))
        }
        "unknown-key" => Err(Error::unavailable("keys", "keys can't be fetched")),
        _ => {
            Err(Error::new(ErrorKind::Unauthenticated, "token is no good")
                .with_code("token_invalid"))
        }
    });
    Arc::new(verifier)
}

fn required() -> GrpcAuthentication {
    GrpcAuthentication::Required {
        verifier: verifier(),
        service_token: Some(ServiceToken::new(SERVICE_TOKEN).unwrap()),
    }
}

async fn guarded(documents: ScriptedDocuments) -> Running {
    Running::start(documents.server_with(required(), GrpcLimits::default())).await
}

fn get(authorization: Option<&str>) -> Request<GetDocumentRequest> {
    let mut request =
        Request::new(GetDocumentRequest { document_id: DocumentId::generate().to_string() });
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn only_valid_tokens_are_let_in() {
    let server = guarded(ScriptedDocuments::new()).await;
    let mut calls = server.calls();
    let service = format!("Bearer {SERVICE_TOKEN}");
    for good in ["Bearer good", "bearer good", &service] {
        calls.get_document(get(Some(good))).await.unwrap();
    }
    for (bad, code) in [
        (None, "unauthenticated"),
        (Some("Basic good"), "unauthenticated"),
        (Some("Bearer old"), "token_expired"),
        (Some("Bearer bad"), "token_invalid"),
        (Some("Bearer between-services-onlY"), "token_invalid"),
    ] {
        let status = calls.get_document(get(bad)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{bad:?}");
        assert_eq!(status.metadata().get("dms-error-code").unwrap(), code);
    }
    let status = calls.get_document(get(Some("Bearer unknown-key"))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn without_a_service_token_none_is_accepted() {
    let authentication = GrpcAuthentication::Required { verifier: verifier(), service_token: None };
    let server = ScriptedDocuments::new().server_with(authentication, GrpcLimits::default());
    let server = Running::start(server).await;
    let service = format!("Bearer {SERVICE_TOKEN}");
    let status = server.calls().get_document(get(Some(&service))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn health_is_open_and_nothing_else_is() {
    let server = guarded(ScriptedDocuments::new()).await;
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(server.channel()).check(request).await.unwrap();
    let listed = super::discovery::services_v1(server.channel()).await;
    assert_eq!(listed.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn off_looks_at_no_token() {
    let server = Running::start(ScriptedDocuments::new().server()).await;
    server.calls().get_document(get(Some("Bearer bad"))).await.unwrap();
}

#[tokio::test]
async fn a_key_means_the_same_whoever_shows_it() {
    let scopes = Arc::new(Mutex::new(Vec::new()));
    let documents = ScriptedDocuments::on_update({
        let scopes = Arc::clone(&scopes);
        move |update| {
            scopes.lock().unwrap().push(update.idempotency.unwrap().key);
            async move { Ok(document(update.id)) }
        }
    });
    let server = guarded(documents).await;
    for token in ["good", SERVICE_TOKEN] {
        let mut request = Request::new(UpdateDocumentStatusRequest {
            document_id: DocumentId::generate().to_string(),
            status: "signed".into(),
            idempotency_key: Some("k".into()),
            expected_version: None,
        });
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        server.calls().update_document_status(request).await.unwrap();
    }
    let scopes = scopes.lock().unwrap();
    assert_eq!(scopes[0], scopes[1]);
}

#[tokio::test]
async fn the_client_shows_its_service_token() {
    let server = guarded(ScriptedDocuments::new()).await;
    let caller = Caller::system("test");
    let id = DocumentId::generate();
    let mut config = server.config();
    let nobody = GrpcDocumentClient::new(&config).unwrap();
    let error = nobody.get(&caller, id).await.unwrap_err();
    // Not `Unauthenticated`: it isn't the user behind the call who lacks a token.
    assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("documents")));

    config.service_token = Some(ServiceToken::new(SERVICE_TOKEN).unwrap());
    let service = GrpcDocumentClient::new(&config).unwrap();
    assert_eq!(service.get(&caller, id).await.unwrap().id, id);
}
