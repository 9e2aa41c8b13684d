//! `/documents`, JSON.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::bed::{Bed, Plan, request, with_json};

const UNKNOWN: &str = "/documents/0198c0de-0000-7000-8000-000000000000";

fn minimal() -> Value {
    json!({"title": " Lease ", "content": "hello", "created_by": "ann"})
}

#[tokio::test]
async fn a_document_is_created_from_json() {
    let bed = Bed::new();
    let answer = bed.post("/documents", &minimal()).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    let document = answer.json();
    let id = document["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/documents/{id}"));
    assert_eq!(answer.header("etag"), "\"1\"");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(document["title"], "Lease");
    assert_eq!(document["content_type"], "text/plain");
    assert_eq!(document["content_size"], 5);
    assert_eq!(document["status"], "created");
    assert_eq!(document["version"], 1);
    assert_eq!(document["s3_key"], format!("{id}/content"));
    assert_eq!(bed.get(&format!("/documents/{id}")).await.json(), document);
}

#[tokio::test]
async fn the_same_is_served_under_v1() {
    let bed = Bed::new();
    let answer = bed.post("/v1/documents", &minimal()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let location = answer.header("location").to_owned();
    assert!(location.starts_with("/v1/documents/"), "{location}");
    assert_eq!(bed.get(&location).await.json(), answer.json());
    assert_eq!(bed.get(location.trim_start_matches("/v1")).await.json(), answer.json());
}

#[tokio::test]
async fn base64_content_is_decoded() {
    let bed = Bed::new();
    for (encoded, size) in [("AP8=", 2), ("AP8", 2), ("", 0)] {
        let mut body = minimal();
        body["content"] = encoded.into();
        body["content_encoding"] = "base64".into();
        assert_eq!(bed.post("/documents", &body).await.json()["content_size"], size, "{encoded}");
    }
    let mut body = minimal();
    body["content"] = "not*base64".into();
    body["content_encoding"] = "base64".into();
    assert_eq!(bed.post("/documents", &body).await.refused(), ["content"]);
}

#[tokio::test]
async fn all_refused_fields_are_named_at_once() {
    let bed = Bed::new();
    let body = json!({"title": " ", "content": "", "created_by": "a\u{7}", "content_type": "text"});
    let refused = bed.post("/documents", &body).await.refused();
    assert_eq!(refused, ["title", "created_by", "content_type"]);
    assert!(bed.blob_keys().await.is_empty());
}

#[tokio::test]
async fn bodies_of_another_shape_are_refused() {
    let bed = Bed::new();
    for (field, value) in [
        ("title", Value::Null),
        ("title", json!(5)),
        ("colour", json!("red")),
        ("content_encoding", json!("utf-16")),
        ("created_by", json!(["ann"])),
    ] {
        let mut body = minimal();
        body[field] = value;
        assert_eq!(bed.post("/documents", &body).await.refused(), [field]);
    }
    let mut body = minimal();
    body.as_object_mut().unwrap().remove("content");
    assert_eq!(bed.post("/documents", &body).await.refused(), ["content"]);
    for (text, status, code) in [
        ("{\"title\"", 400, "malformed_request"),
        ("", 400, "malformed_request"),
        ("[]", 422, "validation_failed"),
    ] {
        let headers = [("content-type", "application/json")];
        let answer = bed.send(request(Method::POST, "/documents", &headers, text.into())).await;
        answer.problem(status, code);
    }
}

#[tokio::test]
async fn other_media_types_are_not_understood() {
    let bed = Bed::new();
    for headers in
        [&[][..], &[("content-type", "text/plain")], &[("content-type", "multipart/mixed")]]
    {
        let body = Body::from(minimal().to_string());
        let answer = bed.send(request(Method::POST, "/documents", headers, body)).await;
        answer.problem(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn content_beyond_the_limit_is_refused_and_leaves_nothing() {
    let bed = Plan { content_bytes_max: 1_000, ..Plan::default() }.build();
    let mut body = minimal();
    body["content"] = "x".repeat(1_000).into();
    assert_eq!(bed.post("/documents", &body).await.status, StatusCode::CREATED);
    body["content"] = "x".repeat(1_001).into();
    bed.post("/documents", &body).await.problem(413, "content_too_large");
    body["content"] = "x".repeat(1_000_000).into();
    bed.post("/documents", &body).await.problem(413, "content_too_large");
    assert_eq!(bed.blob_keys().await.len(), 1);
}

#[tokio::test]
async fn the_largest_content_fits_in_base64_too() {
    let bed = Plan { content_bytes_max: 300_000, ..Plan::default() }.build();
    let mut body = minimal();
    body["content"] = "A".repeat(400_000).into();
    body["content_encoding"] = "base64".into();
    assert_eq!(bed.post("/documents", &body).await.json()["content_size"], 300_000);
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_again() {
    let bed = Bed::new();
    let key = [("idempotency-key", "k-1")];
    let first = bed.post_with("/documents", &key, &minimal()).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = bed.post_with("/documents", &key, &minimal()).await;
    assert_eq!(again.status, StatusCode::CREATED);
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let mut other = minimal();
    other["title"] = "Other".into();
    bed.post_with("/documents", &key, &other).await.problem(422, "idempotency_key_reused");
    assert_eq!(bed.blob_keys().await.len(), 1);
}

#[tokio::test]
async fn keys_out_of_bounds_are_refused() {
    let bed = Bed::new();
    let long = "k".repeat(256);
    for bad in ["", long.as_str()] {
        let key = [("idempotency-key", bad)];
        let refused = bed.post_with("/documents", &key, &minimal()).await.refused();
        assert_eq!(refused, ["Idempotency-Key"]);
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let answer = bed.post_with("/documents", &twice, &minimal()).await;
    assert_eq!(answer.refused(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn pages_follow_each_other_newest_first() {
    let bed = Bed::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(bed.document(&format!("d{n}"), "").await);
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/documents?limit=2".to_owned();
    loop {
        let page = bed.get(&path).await.json();
        let documents = page["documents"].as_array().unwrap();
        seen.extend(documents.iter().map(|d| d["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/documents?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn lists_are_filtered() {
    let bed = Bed::new();
    let id = bed.document("a", "").await;
    bed.document("b", "").await;
    bed.patch(&format!("/documents/{id}"), &[], &json!({"status": "viewed"})).await;
    let count = async |query: &str| {
        let page = bed.get(&format!("/documents{query}")).await.json();
        page["documents"].as_array().unwrap().len()
    };
    assert_eq!(count("?status=viewed").await, 1);
    assert_eq!(count("?created_by=ann").await, 2);
    assert_eq!(count("?created_by=bob").await, 0);
    assert_eq!(count("?unknown=1").await, 2);
}

#[tokio::test]
async fn unacceptable_filters_are_refused() {
    let bed = Bed::new();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("limit=", "limit"),
        ("cursor=abc", "cursor"),
        ("cursor=", "cursor"),
        ("status=archived", "status"),
        ("status=", "status"),
        ("created_by=", "created_by"),
        ("status=viewed&status=signed", "query"),
    ] {
        let answer = bed.get(&format!("/documents?{query}")).await;
        assert_eq!(answer.refused(), [field], "{query}");
    }
    let both = bed.get("/documents?limit=0&status=x").await;
    assert_eq!(both.refused(), ["limit", "status"]);
}

#[tokio::test]
async fn a_document_the_client_has_is_not_sent_again() {
    let bed = Bed::new();
    let path = format!("/documents/{}", bed.document("a", "").await);
    for tags in ["\"1\"", "W/\"1\"", "\"7\", \"1\"", "*"] {
        let answer = bed.get_with(&path, &[("if-none-match", tags)]).await;
        assert_eq!(answer.status, StatusCode::NOT_MODIFIED, "{tags}");
        assert_eq!(answer.header("etag"), "\"1\"");
        assert!(answer.body.is_empty());
    }
    for tags in ["\"2\"", "1", "garbage"] {
        let answer = bed.get_with(&path, &[("if-none-match", tags)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{tags}");
    }
}

#[tokio::test]
async fn every_read_is_a_view_of_the_caller() {
    let bed = Bed::new();
    let id = bed.document("a", "").await;
    let (path, stats) = (format!("/documents/{id}"), format!("/documents/{id}/stats"));
    bed.get(&path).await;
    bed.get_with(&path, &[("if-none-match", "\"1\"")]).await;
    bed.send(request(Method::HEAD, &path, &[], Body::empty())).await;
    assert_eq!(
        bed.get(&stats).await.json(),
        json!({"document_id": id, "total_views": 2, "unique_views": 1})
    );
    bed.get(&format!("{UNKNOWN}/stats")).await.problem(404, "not_found");
}

#[tokio::test]
async fn unknown_documents_are_not_found_and_malformed_ids_refused() {
    let bed = Bed::new();
    bed.get(UNKNOWN).await.problem(404, "not_found");
    bed.patch(UNKNOWN, &[], &json!({"title": "t"})).await.problem(404, "not_found");
    bed.delete(UNKNOWN, &[]).await.problem(404, "not_found");
    for id in [
        "1",
        "0198c0de000070008000000000000000",
        "%00",
        "%FF",
        "0198c0de-zzzz-7000-8000-000000000000",
    ] {
        let answer = bed.get(&format!("/documents/{id}")).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{id}");
        answer.problem(422, "validation_failed");
    }
}

#[tokio::test]
async fn a_change_raises_the_version_and_a_repetition_does_not() {
    let bed = Bed::new();
    let path = format!("/documents/{}", bed.document("a", "").await);
    let change = json!({"title": " New ", "status": "signed"});
    for _ in 0..2 {
        let answer = bed.patch(&path, &[], &change).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("etag"), "\"2\"");
        let document = answer.json();
        assert_eq!((&document["title"], &document["status"]), (&json!("New"), &json!("signed")));
    }
    let nothing = bed.patch(&path, &[], &json!({})).await;
    assert_eq!((nothing.status, nothing.header("etag")), (StatusCode::OK, "\"2\""));
    let merge_patch = [("content-type", "application/merge-patch+json")];
    let answer = bed.patch(&path, &merge_patch, &json!({"title": "Newer"})).await;
    assert_eq!(answer.header("etag"), "\"3\"");
}

#[tokio::test]
async fn unacceptable_changes_are_refused() {
    let bed = Bed::new();
    let path = format!("/documents/{}", bed.document("a", "").await);
    for (field, value) in [
        ("status", json!("archived")),
        ("title", json!("")),
        ("title", json!(1)),
        ("version", json!(9)),
        ("content", json!("x")),
    ] {
        let mut body = json!({});
        body[field] = value;
        assert_eq!(bed.patch(&path, &[], &body).await.refused(), [field]);
    }
    let large = with_json(Method::PATCH, &path, &[], &json!({"title": "x".repeat(70_000)}));
    bed.send(large).await.problem(413, "content_too_large");
    assert_eq!(bed.get(&path).await.header("etag"), "\"1\"");
}

#[tokio::test]
async fn a_write_happens_only_at_the_version_it_names() {
    let bed = Bed::new();
    let path = format!("/documents/{}", bed.document("a", "").await);
    let title = |n: u32| json!({"title": format!("t{n}")});
    for (condition, n) in [("\"1\"", 2), ("*", 3), ("\"9\", \"3\"", 4)] {
        let answer = bed.patch(&path, &[("if-match", condition)], &title(n)).await;
        assert_eq!(answer.header("etag"), format!("\"{n}\""), "{condition}");
    }
    for condition in ["\"1\"", "W/\"4\"", "\"abc\"", "\"1\", \"2\""] {
        let answer = bed.patch(&path, &[("if-match", condition)], &title(9)).await;
        answer.problem(412, "version_mismatch");
        assert_eq!(answer.header("etag"), "\"4\"", "{condition}");
        let answer = bed.delete(&path, &[("if-match", condition)]).await;
        answer.problem(412, "version_mismatch");
        assert_eq!(answer.header("etag"), "\"4\"", "{condition}");
    }
    for malformed in ["4", "\"4", "\"4\" \"5\""] {
        let answer = bed.patch(&path, &[("if-match", malformed)], &title(9)).await;
        answer.problem(400, "malformed_request");
    }
    assert_eq!(bed.get(&path).await.json()["title"], "t4");
    let gone = bed.delete(&path, &[("if-match", "\"4\"")]).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_deleted_document_is_gone_for_every_reader() {
    let bed = Bed::new();
    let path = format!("/documents/{}", bed.document("a", "text").await);
    let answer = bed.delete(&path, &[]).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert!(answer.body.is_empty());
    for suffix in ["", "/content", "/stats", "/signatures"] {
        bed.get(&format!("{path}{suffix}")).await.problem(404, "not_found");
    }
    bed.delete(&path, &[]).await.problem(404, "not_found");
    assert_eq!(bed.get("/documents").await.json()["documents"], json!([]));
}
