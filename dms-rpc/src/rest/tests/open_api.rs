//! The `OpenAPI` document says what is served, and nothing else.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, StatusCode};
use dms_core::fake::ManualClock;
use dms_core::model::search::{Highlights, SearchHit};
use dms_core::ports::Clock as _;
use dms_core::{
    AppliedStatus, Document, DocumentId, DocumentStatus, Sha256, Signature, SignatureId,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::bed::{Bed, request};

const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// All that the contract lists, as far as it's served here.
const CONTRACT: [(&str, &str); 13] = [
    ("GET", "/aggregations/{field}"),
    ("GET", "/documents"),
    ("POST", "/documents"),
    ("DELETE", "/documents/{id}"),
    ("GET", "/documents/{id}"),
    ("PATCH", "/documents/{id}"),
    ("GET", "/documents/{id}/content"),
    ("GET", "/documents/{id}/signatures"),
    ("GET", "/documents/{id}/stats"),
    ("GET", "/search"),
    ("POST", "/signatures"),
    ("GET", "/signatures/{id}"),
    ("GET", "/signatures/{id}/image"),
];

pub(super) async fn document(bed: &Bed) -> Value {
    let answer = bed.get("/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    answer.json()
}

/// Methods and paths, as the document writes them.
pub(super) fn operations(document: &Value) -> Vec<(Method, String)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            if item.get(method.as_str().to_ascii_lowercase()).is_some() {
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}

fn concrete(path: &str) -> String {
    path.replace("{id}", "0198c0de-0000-7000-8000-000000000000").replace("{field}", "status")
}

#[tokio::test]
async fn every_documented_operation_is_routed_and_no_other_method_is() {
    let bed = Bed::new();
    let document = document(&bed).await;
    let documented: BTreeSet<_> =
        operations(&document).into_iter().map(|(m, p)| (m.to_string(), p)).collect();
    for path in document["paths"].as_object().unwrap().keys() {
        for method in METHODS {
            let answer =
                bed.send(request(method.clone(), &concrete(path), &[], Body::empty())).await;
            if documented.contains(&(method.to_string(), path.clone())) {
                assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                if answer.status == StatusCode::NOT_FOUND {
                    answer.problem(404, "not_found");
                }
            } else {
                answer.problem(405, "method_not_allowed");
                assert!(!answer.header("allow").contains(method.as_str()), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn all_of_the_contract_is_documented_and_nothing_else() {
    let document = document(&Bed::new()).await;
    let documented: BTreeSet<_> =
        operations(&document).into_iter().map(|(m, p)| (m.to_string(), p)).collect();
    let expected: BTreeSet<_> = CONTRACT.map(|(m, p)| (m.to_owned(), p.to_owned())).into();
    assert_eq!(documented, expected);
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_complete() {
    let document = document(&Bed::new()).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(document["servers"], json!([{"url": "/"}, {"url": "/v1"}]));
    for (method, path) in operations(&document) {
        let operation = &document["paths"][&path][method.as_str().to_ascii_lowercase()];
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
        assert!(!operation["operationId"].as_str().unwrap().is_empty());
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path}");
        for (status, response) in responses {
            if status.starts_with(['4', '5']) {
                let schema = &response["content"]["application/problem+json"]["schema"];
                assert_eq!(
                    schema["$ref"], "#/components/schemas/Problem",
                    "{method} {path} {status}"
                );
            }
        }
        for status in ["401", "500", "503", "504"] {
            assert!(responses.contains_key(status), "{method} {path} {status}");
        }
        let named = path.matches('{').count();
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path, named, "{method} {path}");
        if method == Method::POST || method == Method::PATCH {
            let content = &operation["requestBody"]["content"];
            assert!(content["application/json"]["schema"].is_object(), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = document(&Bed::new()).await;
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn collect_references(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            references.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| collect_references(value, references));
        }
        Value::Array(values) => values.iter().for_each(|v| collect_references(v, references)),
        _ => {}
    }
}

/// All properties of a schema, and those that are required.
fn properties(document: &Value, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let schema = &document["components"]["schemas"][name];
    let own = |schema: &Value| {
        let all: BTreeSet<_> = schema["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, _)| k.clone())
            .collect();
        let required = schema["required"].as_array().into_iter().flatten();
        let required: BTreeSet<_> = required.map(|v| v.as_str().unwrap().to_owned()).collect();
        (all, required)
    };
    let (mut all, mut required) = own(schema);
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let (more, more_required) = match part["$ref"].as_str() {
            Some(reference) => properties(document, reference.rsplit('/').next().unwrap()),
            None => own(part),
        };
        all.extend(more);
        required.extend(more_required);
    }
    (all, required)
}

#[track_caller]
fn assert_schema_is_of(document: &Value, name: &str, value: &impl Serialize) {
    let value = serde_json::to_value(value).unwrap();
    let keys: BTreeSet<_> = value.as_object().unwrap().keys().cloned().collect();
    let (all, required) = properties(document, name);
    assert_eq!(all, keys, "{name}");
    assert_eq!(required, keys, "{name}");
}

#[tokio::test]
async fn the_schemas_are_those_of_what_is_sent() {
    let open_api = document(&Bed::new()).await;
    let now = ManualClock::at_unix(0).now();
    let id = DocumentId::generate();
    let document = Document {
        id,
        title: "t".into(),
        content_type: "text/plain".into(),
        content_size: 1,
        content_sha256: Sha256::of(b""),
        s3_key: Document::content_key(id),
        status: DocumentStatus::Created,
        created_by: "a".into(),
        created_at: now,
        updated_at: now,
        version: 1,
    };
    assert_schema_is_of(&open_api, "Document", &document);
    let signature = Signature {
        id: SignatureId::generate(),
        document_id: id,
        signer_email: "a@b.de".into(),
        signer_name: "a".into(),
        image_key: "k".into(),
        image_content_type: "image/png".into(),
        created_at: now,
        document_status: AppliedStatus::Pending,
    };
    assert_schema_is_of(&open_api, "Signature", &signature);
    let hit = SearchHit { document, score: 0.0, highlights: Highlights::default() };
    assert_schema_is_of(&open_api, "SearchHit", &hit);
    let statuses = &open_api["components"]["schemas"]["DocumentStatus"]["enum"];
    assert_eq!(*statuses, json!(DocumentStatus::ALL));
    let applied = &open_api["components"]["schemas"]["AppliedStatus"]["enum"];
    assert_eq!(*applied, json!([AppliedStatus::Pending, AppliedStatus::Signed]));
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let bed = Bed::new();
    let redirect = bed.get("/docs").await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (StatusCode::TEMPORARY_REDIRECT, "docs/")
    );
    for prefix in ["", "/v1"] {
        let page = bed.get(&format!("{prefix}/docs/")).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.header("content-type").starts_with("text/html"));
        let html = std::str::from_utf8(&page.body).unwrap();
        assert!(!html.contains("//"), "{html}");
        let files: Vec<_> = html
            .split(['"', '\''])
            .filter(|text| [".js", ".css", ".png"].iter().any(|end| text.ends_with(end)))
            .collect();
        assert!(files.len() >= 4, "{html}");
        for file in files {
            let answer = bed.get(&format!("{prefix}/docs/{}", file.trim_start_matches("./"))).await;
            assert_eq!(answer.status, StatusCode::OK, "{file}");
            assert!(!answer.header("content-type").starts_with("application/octet"), "{file}");
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{policy}");
        }
    }
    let script = bed.get("/docs/swagger-initializer.js").await;
    let script = std::str::from_utf8(&script.body).unwrap().to_owned();
    assert!(
        script.contains("../openapi.json") && script.contains("\"validatorUrl\": \"none\""),
        "{script}"
    );
    assert!(!script.contains("http"), "{script}");
    for absent in ["/docs/absent.js", "/docs/..%2Fsecret"] {
        bed.get(absent).await.problem(404, "route_not_found");
    }
}
