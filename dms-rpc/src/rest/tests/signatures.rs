//! `/signatures`.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::bed::{Bed, Plan};

/// The first bytes of every PNG image.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB";
const UNKNOWN: &str = "0198c0de-0000-7000-8000-000000000000";

fn signature(document: &str) -> Value {
    json!({"document_id": document, "signer_email": "bob@example.org", "signer_name": "Bob",
        "signature_data": PNG})
}

#[tokio::test]
async fn signing_makes_the_document_signed() {
    let bed = Bed::new();
    let id = bed.document("Lease", "").await;
    let answer = bed.post("/signatures", &signature(&id)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let made = answer.json();
    let signature_id = made["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/signatures/{signature_id}"));
    assert_eq!(made["document_status"], "signed");
    assert_eq!(made["image_content_type"], "image/png");
    assert_eq!(made["image_key"], format!("signatures/{signature_id}/image"));
    assert_eq!(bed.get(&format!("/documents/{id}")).await.json()["status"], "signed");
    assert_eq!(bed.get(answer.header("location")).await.json(), made);
    let list = bed.get(&format!("/documents/{id}/signatures")).await.json();
    assert_eq!(list, json!({"signatures": [made]}));
}

#[tokio::test]
async fn the_image_is_given_but_never_run() {
    let bed = Bed::new();
    let id = bed.document("Lease", "").await;
    let mut body = signature(&id);
    body["signature_data"] = format!("data:image/png;base64,{PNG}").into();
    let made = bed.post("/v1/signatures", &body).await;
    assert!(made.header("location").starts_with("/v1/signatures/"));
    let image = bed.get(&format!("{}/image", made.header("location"))).await;
    assert_eq!(image.status, StatusCode::OK);
    assert_eq!(image.header("content-type"), "image/png");
    assert_eq!(image.header("content-length"), image.body.len().to_string());
    assert!(image.body.starts_with(b"\x89PNG"));
    assert!(image.header("content-security-policy").starts_with("sandbox;"));
    assert_eq!(image.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn an_address_signs_a_document_once() {
    let bed = Bed::new();
    let id = bed.document("Lease", "").await;
    bed.post("/signatures", &signature(&id)).await;
    bed.post("/signatures", &signature(&id)).await.problem(409, "already_signed");
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_again() {
    let bed = Bed::new();
    let body = signature(&bed.document("Lease", "").await);
    let key = [("idempotency-key", "k-1")];
    let first = bed.post_with("/signatures", &key, &body).await;
    let again = bed.post_with("/signatures", &key, &body).await;
    assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let mut other = body;
    other["signer_name"] = "Robert".into();
    bed.post_with("/signatures", &key, &other).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn unacceptable_signatures_are_refused() {
    let bed = Bed::new();
    let id = bed.document("Lease", "").await;
    for (field, value) in [
        ("document_id", json!("x")),
        ("signer_email", json!("nobody")),
        ("signer_name", json!("")),
        ("signature_data", json!("*")),
        ("signature_data", json!("")),
        ("extra", json!(1)),
    ] {
        let mut body = signature(&id);
        body[field] = value;
        assert_eq!(bed.post("/signatures", &body).await.refused(), [field]);
    }
    bed.post("/signatures", &signature(UNKNOWN)).await.problem(404, "not_found");
    assert_eq!(bed.get(&format!("/documents/{id}")).await.json()["version"], 1);
}

#[tokio::test]
async fn an_image_beyond_the_limit_is_refused() {
    let bed = Plan { content_bytes_max: 10, ..Plan::default() }.build();
    let mut body = signature(&bed.document("Lease", "").await);
    body["signature_data"] = "A".repeat(200_000).into();
    bed.post("/signatures", &body).await.problem(413, "content_too_large");
}

#[tokio::test]
async fn unknown_signatures_are_not_found() {
    let bed = Bed::new();
    bed.get(&format!("/signatures/{UNKNOWN}")).await.problem(404, "not_found");
    bed.get(&format!("/signatures/{UNKNOWN}/image")).await.problem(404, "not_found");
    bed.get(&format!("/documents/{UNKNOWN}/signatures")).await.problem(404, "not_found");
    bed.get("/signatures/x").await.problem(422, "validation_failed");
}
