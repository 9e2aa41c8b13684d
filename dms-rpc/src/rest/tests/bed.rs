//! An app on fakes, and a client for it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use dms_core::fake::{
    InMemoryBlobStore, InMemoryDatabase, InMemoryDocumentCache, InMemorySearchIndex,
    InMemoryViewCounter,
};
use dms_core::ports::{BlobStore, DocumentRepository};
use dms_core::use_cases::{DocumentLimits, Documents, DocumentsPorts, Signatures, SignaturesPorts};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::auth::Authentication;
use crate::rest::{
    self, Access, DocumentsState, LayerOptions, PROBLEM_JSON, RestState, SearchState,
    SignaturesState, Writes,
};

pub(super) struct Bed {
    pub(super) app: Router,
    pub(super) database: InMemoryDatabase,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) index: Arc<InMemorySearchIndex>,
    pub(super) writes: Writes,
}

/// What a bed is made of, to be replaced in part.
pub(super) struct Plan {
    pub(super) access: Access,
    pub(super) layers: LayerOptions,
    pub(super) content_bytes_max: u64,
    pub(super) documents: Option<Arc<dyn DocumentRepository>>,
    pub(super) blobs: Arc<dyn BlobStore>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            access: Access::default(),
            layers: LayerOptions::default(),
            content_bytes_max: 1 << 20,
            documents: None,
            blobs: Arc::new(InMemoryBlobStore::default()),
        }
    }
}

impl Plan {
    pub(super) fn build(self) -> Bed {
        let Self { access, layers, content_bytes_max, documents, blobs } = self;
        let database = InMemoryDatabase::default();
        let index = Arc::new(InMemorySearchIndex::new());
        let limits = DocumentLimits { content_bytes_max, ..DocumentLimits::default() };
        let ports = DocumentsPorts {
            documents: documents.unwrap_or_else(|| Arc::new(database.documents())),
            blobs: Arc::clone(&blobs),
            cache: Arc::new(InMemoryDocumentCache::default()),
            views: Arc::new(InMemoryViewCounter::default()),
            idempotency: Arc::new(database.idempotency()),
        };
        let documents = Documents::new(ports, limits);
        let signatures = Signatures::new(SignaturesPorts {
            signatures: Arc::new(database.signatures()),
            blobs: Arc::clone(&blobs),
            documents: Arc::new(documents.clone()),
            idempotency: Arc::new(database.idempotency()),
        });
        let writes = Writes::new();
        let state = RestState {
            documents: DocumentsState { documents, access: access.clone(), writes: writes.clone() },
            signatures: SignaturesState {
                signatures,
                access: access.clone(),
                writes: writes.clone(),
                image_bytes_max: content_bytes_max,
            },
            search: SearchState { index: index.clone(), access: access.clone() },
        };
        let app = rest::app(rest::routes(state), access, &layers).unwrap();
        Bed { app, database, blobs, index, writes }
    }

    pub(super) fn requiring(authentication: Authentication) -> Self {
        let access = Access { authentication, ..Access::default() };
        Self { access, ..Self::default() }
    }
}

impl Bed {
    pub(super) fn new() -> Self {
        Plan::default().build()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send(request(Method::GET, path, &[], Body::empty())).await
    }

    pub(super) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::GET, path, headers, Body::empty())).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(with_json(Method::POST, path, &[], body)).await
    }

    pub(super) async fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        self.send(with_json(Method::POST, path, headers, body)).await
    }

    pub(super) async fn patch(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(with_json(Method::PATCH, path, headers, body)).await
    }

    pub(super) async fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(Method::DELETE, path, headers, Body::empty())).await
    }

    /// A new document with this content; its id.
    pub(super) async fn document(&self, title: &str, content: &str) -> String {
        let answer = self
            .post("/documents", &json!({"title": title, "content": content, "created_by": "ann"}))
            .await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Everything in the blob store.
    pub(super) async fn blob_keys(&self) -> Vec<String> {
        self.blobs.list("").map_ok(|info| info.key).try_collect().await.unwrap()
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// The answer as the problem that the contract describes.
    #[track_caller]
    pub(super) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), PROBLEM_JSON);
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], "about:blank");
        assert!(!body["title"].as_str().unwrap().is_empty());
        assert!(!body["detail"].as_str().unwrap().is_empty());
        assert_eq!(body["request_id"], self.header("x-request-id"));
        body
    }

    /// The fields that a 422 refuses.
    #[track_caller]
    pub(super) fn refused(&self) -> Vec<String> {
        let body = self.problem(422, "validation_failed");
        let errors = body["errors"].as_array().unwrap();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

pub(super) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(body).unwrap();
    let peer = SocketAddr::from(([192, 0, 2, 1], 5_000));
    request.extensions_mut().insert(ConnectInfo(peer));
    request
}

pub(super) fn with_json(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Request<Body> {
    let mut request = request(method, path, headers, Body::from(body.to_string()));
    request
        .headers_mut()
        .entry(header::CONTENT_TYPE)
        .or_insert(header::HeaderValue::from_static("application/json"));
    request
}
