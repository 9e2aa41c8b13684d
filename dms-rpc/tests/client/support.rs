//! A server that records what it is asked and answers as a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use dms_core::{Document, DocumentId, DocumentStatus, Sha256};
use dms_rpc::client::{DmsClient, DmsClientBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn patiently<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it should have happened by now")
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The server. Ends when it is dropped.
pub(crate) struct TestServer {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Serves a router, without recording.
    pub(crate) async fn of(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, asked: Arc::default(), task }
    }

    /// Answers the requests one after the other as `answer` says, which learns how many there were
    /// before; records them.
    pub(crate) async fn answering<R: IntoResponse>(
        answer: impl Fn(usize) -> R + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let record = Arc::clone(&asked);
        let handler = move |request: Request| {
            let (record, answer) = (Arc::clone(&record), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let line = format!("{} {}", parts.method, parts.uri);
                let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
                let before = {
                    let mut record = record.lock().unwrap();
                    record.push(Asked { line, headers: parts.headers, body });
                    record.len() - 1
                };
                answer(before).into_response()
            }
        };
        let mut server = Self::of(Router::new().fallback(handler)).await;
        server.asked = asked;
        server
    }

    /// Answers every request with this value.
    pub(crate) async fn giving(value: Value) -> Self {
        Self::answering(move |_| axum::Json(value.clone())).await
    }

    pub(crate) fn builder(&self) -> DmsClientBuilder {
        DmsClient::builder(&self.url).retry_pause(Duration::from_millis(1))
    }

    pub(crate) fn client(&self) -> DmsClient {
        self.builder().build().unwrap()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only request there was.
    pub(crate) fn asked_once(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn document(id: DocumentId) -> Document {
    let at = dms_core::model::timestamp::parse("2026-01-02T03:04:05.678901Z").unwrap();
    Document {
        id,
        title: "Contract".into(),
        content_type: "text/plain".into(),
        content_size: 5,
        content_sha256: Sha256::of(b"hello"),
        s3_key: Document::content_key(id),
        status: DocumentStatus::Created,
        created_by: "ann".into(),
        created_at: at,
        updated_at: at,
        version: 1,
    }
}

pub(crate) fn problem(status: u16, code: &str) -> Response {
    let body = json!({
        "type": "about:blank",
        "title": "t",
        "status": status,
        "detail": "what is wrong",
        "code": code,
        "request_id": "r-1",
    });
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("content-type", "application/problem+json")
        .header("x-request-id", "r-1")
        .body(Body::from(body.to_string()))
        .unwrap()
}
