//! `/documents/{id}/content`.

use axum::body::Body;
use axum::http::{Method, StatusCode};
use dms_core::Sha256;
use serde_json::json;

use super::bed::{Bed, request};

async fn with_content(bed: &Bed, content: &str) -> String {
    format!("/documents/{}/content", bed.document("Lease für 2026", content).await)
}

#[tokio::test]
async fn content_is_given_to_be_saved_and_never_run() {
    let bed = Bed::new();
    let body = json!({"title": "Lease für 2026", "content": "<script>", "created_by": "ann",
        "content_type": "text/html; charset=utf-8"});
    let id = bed.post("/documents", &body).await.json()["id"].as_str().unwrap().to_owned();
    let answer = bed.get(&format!("/documents/{id}/content")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "<script>");
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("content-length"), "8");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.header("content-security-policy").starts_with("sandbox;"));
    assert_eq!(answer.header("accept-ranges"), "bytes");
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"Lease f_r 2026\"; filename*=UTF-8''Lease%20f%C3%BCr%202026"
    );
    assert_eq!(answer.header("etag"), format!("\"{}\"", Sha256::of(b"<script>")));
}

#[tokio::test]
async fn a_part_is_given_with_where_it_lies() {
    let bed = Bed::new();
    let path = with_content(&bed, "0123456789").await;
    for (range, body, lies) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=4-", "456789", "bytes 4-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=8-99", "89", "bytes 8-9/10"),
    ] {
        let answer = bed.get_with(&path, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.body, body);
        assert_eq!(answer.header("content-range"), lies);
        assert_eq!(answer.header("content-length"), body.len().to_string());
    }
}

#[tokio::test]
async fn what_is_not_one_range_gives_all() {
    let bed = Bed::new();
    let path = with_content(&bed, "0123456789").await;
    for range in ["bytes=0-1,4-5", "lines=1-2", "bytes=5-2", "bytes=x", ""] {
        let answer = bed.get_with(&path, &[("range", range)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{range}");
        assert_eq!(answer.body, "0123456789");
        assert!(!answer.headers.contains_key("content-range"));
    }
    let stale = [("range", "bytes=0-1"), ("if-range", "\"other\"")];
    assert_eq!(bed.get_with(&path, &stale).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_range_behind_the_end_is_refused_with_the_size() {
    let bed = Bed::new();
    for (content, size) in [("0123456789", 10), ("", 0)] {
        let path = with_content(&bed, content).await;
        let answer = bed.get_with(&path, &[("range", "bytes=10-20")]).await;
        answer.problem(416, "range_not_satisfiable");
        assert_eq!(answer.header("content-range"), format!("bytes */{size}"));
    }
}

#[tokio::test]
async fn empty_content_is_content() {
    let bed = Bed::new();
    let path = with_content(&bed, "").await;
    let answer = bed.get(&path).await;
    assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, "0"));
    let suffix = bed.get_with(&path, &[("range", "bytes=-5")]).await;
    assert_eq!(suffix.status, StatusCode::OK);
}

#[tokio::test]
async fn content_the_client_has_is_not_sent_again() {
    let bed = Bed::new();
    let path = with_content(&bed, "0123456789").await;
    let etag = bed.get(&path).await.header("etag").to_owned();
    let answer = bed.get_with(&path, &[("if-none-match", &etag)]).await;
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    let resumed = bed.get_with(&path, &[("range", "bytes=5-"), ("if-range", &etag)]).await;
    assert_eq!(resumed.body, "56789");
}

#[tokio::test]
async fn head_tells_the_size_without_the_content() {
    let bed = Bed::new();
    let path = with_content(&bed, "0123456789").await;
    for headers in [&[][..], &[("range", "bytes=0-1")], &[("range", "bytes=99-")]] {
        let answer = bed.send(request(Method::HEAD, &path, headers, Body::empty())).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("content-length"), "10");
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn content_of_no_document_is_not_found() {
    let bed = Bed::new();
    let path = "/documents/0198c0de-0000-7000-8000-000000000000/content";
    bed.get(path).await.problem(404, "not_found");
}
