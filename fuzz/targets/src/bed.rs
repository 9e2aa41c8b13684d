//! The REST server on fakes.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode};
use dms_core::fake::{
    InMemoryBlobStore, InMemoryDatabase, InMemoryDocumentCache, InMemorySearchIndex,
    InMemoryViewCounter,
};
use dms_core::ports::BlobStore;
use dms_core::use_cases::{DocumentLimits, Documents, DocumentsPorts, Signatures, SignaturesPorts};
use dms_rpc::rest::{
    self, Access, DocumentsState, LayerOptions, PROBLEM_JSON, RestState, SearchState,
    SignaturesState, Writes,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// Content of the document that is there from the beginning.
pub(crate) const CONTENT: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
/// Largest content that is taken.
pub(crate) const CONTENT_BYTES_MAX: u64 = 4 << 10;

/// How many requests a server gets before another takes its place, so that memory stays small.
const REQUESTS_MAX: u32 = 2_000;

pub(crate) struct Bed {
    runtime: Runtime,
    app: Router,
    /// The document that is there from the beginning.
    pub(crate) document: String,
    requests: u32,
}

/// Works with a server that holds little but one document.
pub(crate) fn with_bed<T>(work: impl FnOnce(&mut Bed) -> T) -> T {
    thread_local!(static BED: RefCell<Option<Bed>> = const { RefCell::new(None) });
    BED.with_borrow_mut(|bed| {
        if bed.as_ref().is_some_and(|bed| bed.requests > REQUESTS_MAX) {
            *bed = None;
        }
        work(bed.get_or_insert_with(Bed::new))
    })
}

impl Bed {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        let mut bed = Self { runtime, app: app(), document: String::new(), requests: 0 };
        let body = format!(r#"{{"title":"Contract","content":"{CONTENT}","created_by":"ann"}}"#);
        let request = Request::post("/documents").header("content-type", "application/json");
        let answer = bed.send(request.body(body.into()).expect("a request"));
        assert_eq!(answer.status, StatusCode::CREATED);
        answer.json()["id"].as_str().expect("an id").clone_into(&mut bed.document);
        bed
    }

    /// The answer, which is never that the server failed, and always well-formed.
    pub(crate) fn send(&mut self, mut request: Request<Body>) -> Answer {
        self.requests += 1;
        let peer = SocketAddr::from(([192, 0, 2, 1], 5_000));
        request.extensions_mut().insert(ConnectInfo(peer));
        let app = self.app.clone();
        let answer = self.runtime.block_on(async move {
            let response = app.oneshot(request).await.expect("an answer");
            let (parts, body) = response.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
            Answer { status: parts.status, headers: parts.headers, body }
        });
        assert!(!answer.status.is_server_error(), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(!answer.header("x-request-id").is_empty());
        if answer.status.is_client_error() && !answer.body.is_empty() {
            assert_eq!(answer.header("content-type"), PROBLEM_JSON);
            let problem = answer.json();
            assert_eq!(problem["status"], answer.status.as_u16());
            assert!(problem["code"].as_str().is_some_and(|code| !code.is_empty()));
            assert!(answer.body.len() < 16 << 10, "a large problem");
        }
        answer
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).expect("a request"))
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().expect("text")
    }
}

fn app() -> Router {
    let database = InMemoryDatabase::default();
    let blobs: Arc<dyn BlobStore> = Arc::new(InMemoryBlobStore::default());
    let limits =
        DocumentLimits { content_bytes_max: CONTENT_BYTES_MAX, ..DocumentLimits::default() };
    let ports = DocumentsPorts {
        documents: Arc::new(database.documents()),
        blobs: Arc::clone(&blobs),
        cache: Arc::new(InMemoryDocumentCache::default()),
        views: Arc::new(InMemoryViewCounter::default()),
        idempotency: Arc::new(database.idempotency()),
    };
    let documents = Documents::new(ports, limits);
    let signatures = Signatures::new(SignaturesPorts {
        signatures: Arc::new(database.signatures()),
        blobs,
        documents: Arc::new(documents.clone()),
        idempotency: Arc::new(database.idempotency()),
    });
    let (access, writes) = (Access::default(), Writes::new());
    let state = RestState {
        documents: DocumentsState { documents, access: access.clone(), writes: writes.clone() },
        signatures: SignaturesState {
            signatures,
            access: access.clone(),
            writes,
            image_bytes_max: CONTENT_BYTES_MAX,
        },
        search: SearchState { index: Arc::new(InMemorySearchIndex::new()), access: access.clone() },
    };
    rest::app(rest::routes(state), access, &LayerOptions::default()).expect("an app")
}
