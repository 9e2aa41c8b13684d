//! What the product says it serves.

use std::collections::BTreeSet;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use dms::Dms;
use serde_json::Value;
use tower::ServiceExt as _;

/// A method and a path that are served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) method: String,
    /// With `{name}` for what differs.
    pub(crate) path: String,
    /// Request headers that it takes.
    pub(crate) headers: BTreeSet<String>,
}

impl Operation {
    /// The path with an id in place of each parameter.
    pub(crate) fn example(&self) -> String {
        example(&self.path)
    }
}

/// A path with an id in place of each parameter.
pub(crate) fn example(path: &str) -> String {
    let filled = path.split('/').map(|part| {
        if part.starts_with('{') { "01900000-0000-7000-8000-000000000002" } else { part }
    });
    filled.collect::<Vec<_>>().join("/")
}

/// What the whole product answers to a GET with this id: status and body.
pub(crate) async fn answer(path: &str, request_id: &str) -> (StatusCode, Value) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dms = Dms::builder(folder.path().join("data")).start().await.expect("a start");
    let request = Request::get(path).header("X-Request-Id", request_id);
    let request = request.body(Body::empty()).expect("a request");
    let response = dms.router().oneshot(request).await.expect("an answer");
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.expect("a whole body");
    dms.shutdown().await.expect("a clean end");
    (status, serde_json::from_slice(&bytes).expect("JSON"))
}

/// Every operation of the OpenAPI document that the whole product serves.
pub(crate) async fn operations() -> Vec<Operation> {
    let (_, document) = answer("/openapi.json", "operations").await;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations of a path") {
            if !["get", "put", "post", "patch", "delete", "head"].contains(&method.as_str()) {
                continue;
            }
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let headers = parameters
                .iter()
                .filter(|one| one["in"] == "header")
                .map(|one| one["name"].as_str().expect("a name").to_owned())
                .collect();
            operations.push(Operation {
                method: method.to_uppercase(),
                path: path.clone(),
                headers,
            });
        }
    }
    assert!(operations.len() > 10, "only {operations:?}");
    operations
}
