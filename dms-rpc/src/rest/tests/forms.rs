//! `POST /documents`, multipart.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use proptest::prelude::*;

use super::bed::{Answer, Bed, Plan, request};

const BOUNDARY: &str = "XyZ";

fn part(name: &str, content: &str) -> String {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
}

fn file(content_type: &str, content: &str) -> String {
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f.bin\"\r\n\
         Content-Type: {content_type}\r\n\r\n{content}\r\n"
    )
}

fn end() -> String {
    format!("--{BOUNDARY}--\r\n")
}

async fn post(bed: &Bed, headers: &[(&str, &str)], body: Body) -> Answer {
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    let mut all = vec![("content-type", content_type.as_str())];
    all.extend_from_slice(headers);
    bed.send(request(Method::POST, "/documents", &all, body)).await
}

async fn post_parts(bed: &Bed, parts: &[String]) -> Answer {
    post(bed, &[], Body::from(parts.concat() + &end())).await
}

/// The body in pieces of `size` bytes, without a length.
fn chunked(body: &str, size: usize) -> Body {
    let chunks: Vec<_> = body
        .as_bytes()
        .chunks(size)
        .map(|c| Ok::<_, io::Error>(Bytes::copy_from_slice(c)))
        .collect();
    Body::from_stream(futures_util::stream::iter(chunks))
}

#[tokio::test]
async fn parts_may_come_in_any_order() {
    let bed = Bed::new();
    let [title, creator] = [part("title", " Lease "), part("created_by", "ann")];
    let file = file("application/pdf", "%PDF");
    for parts in [
        [title.clone(), creator.clone(), file.clone()],
        [file.clone(), title.clone(), creator.clone()],
        [creator, file, title],
    ] {
        let answer = post_parts(&bed, &parts).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
        let document = answer.json();
        assert_eq!(document["title"], "Lease");
        assert_eq!(document["content_type"], "application/pdf");
        assert_eq!(document["content_size"], 4);
        assert_eq!(answer.header("etag"), "\"1\"");
        let content = bed.get(&format!("{}/content", answer.header("location"))).await;
        assert_eq!(content.body, "%PDF");
    }
}

#[tokio::test]
async fn a_field_decides_the_media_type_before_the_part_does() {
    let bed = Bed::new();
    let fields = [part("title", "t"), part("created_by", "a")];
    let with = |more: &[String]| [&fields[..], more].concat();
    let decided = [part("content_type", "text/csv"), file("text/plain", "a,b")];
    assert_eq!(post_parts(&bed, &with(&decided)).await.json()["content_type"], "text/csv");
    let silent = [part("file", "abc")];
    assert_eq!(post_parts(&bed, &with(&silent)).await.json()["content_type"], "text/plain");
    let nonsense = [file("nonsense", "abc")];
    assert_eq!(post_parts(&bed, &with(&nonsense)).await.refused(), ["content_type"]);
    assert_eq!(bed.blob_keys().await.len(), 2);
}

#[tokio::test]
async fn the_body_may_come_in_pieces_of_any_size() {
    let bed = Bed::new();
    let content = "0123456789".repeat(50);
    let body = [part("title", "t"), file("text/plain", &content), part("created_by", "a"), end()];
    for size in [1, 2, 7, 64, 10_000] {
        let answer = post(&bed, &[], chunked(&body.concat(), size)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "pieces of {size}: {answer:?}");
        let stored = bed.get(&format!("{}/content", answer.header("location"))).await;
        assert_eq!(stored.body, content);
    }
}

#[tokio::test]
async fn unknown_doubled_and_missing_parts_are_refused_and_leave_nothing() {
    let bed = Bed::new();
    let [title, creator] = [part("title", "t"), part("created_by", "a")];
    let file = file("text/plain", "abc");
    let all = [file, title, creator];
    for (index, name) in ["file", "title", "created_by"].into_iter().enumerate() {
        let mut doubled = all.to_vec();
        doubled.push(all[index].clone());
        assert_eq!(post_parts(&bed, &doubled).await.refused(), [name]);
        let mut missing = all.to_vec();
        missing.remove(index);
        assert_eq!(post_parts(&bed, &missing).await.refused(), [name]);
    }
    let mut unknown = all.to_vec();
    unknown.push(part("colour", "red"));
    assert_eq!(post_parts(&bed, &unknown).await.refused(), ["colour"]);
    let nameless = format!("--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\nx\r\n");
    assert_eq!(post_parts(&bed, &[nameless]).await.refused(), ["name of a part"]);
    assert_eq!(post_parts(&bed, &[]).await.refused(), ["title", "created_by", "file"]);
    assert!(bed.blob_keys().await.is_empty());
}

#[tokio::test]
async fn unacceptable_fields_are_refused() {
    let bed = Bed::new();
    let file = file("text/plain", "abc");
    let refused = [part("title", " "), part("created_by", &"x".repeat(321)), file.clone()];
    assert_eq!(post_parts(&bed, &refused).await.refused(), ["title", "created_by"]);
    let late = [file, part("title", " "), part("created_by", "a")];
    assert_eq!(post_parts(&bed, &late).await.refused(), ["title"]);
    assert_eq!(post_parts(&bed, &[part("title", &"x".repeat(5_000))]).await.refused(), ["title"]);
    assert!(bed.blob_keys().await.is_empty());
}

#[tokio::test]
async fn text_that_is_not_utf_8_is_refused() {
    let bed = Bed::new();
    let mut body = part("title", "?").into_bytes();
    let at = body.iter().position(|c| *c == b'?').unwrap();
    body[at] = 0xff;
    body.extend_from_slice(end().as_bytes());
    assert_eq!(post(&bed, &[], Body::from(body)).await.refused(), ["title"]);
}

#[tokio::test]
async fn a_truncated_form_is_malformed_and_leaves_nothing() {
    let bed = Bed::new();
    let whole = [part("title", "t"), part("created_by", "a"), file("text/plain", "abcdef"), end()];
    let whole = whole.concat();
    let complete = whole.len() - 2;
    for length in 0..complete {
        let key = [("idempotency-key", "k")];
        let answer = post(&bed, &key, Body::from(whole[..length].to_owned())).await;
        answer.problem(400, "malformed_request");
    }
    assert!(bed.blob_keys().await.is_empty());
    let answer = post(&bed, &[("idempotency-key", "k")], Body::from(whole)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "the key was given back: {answer:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_nothing() {
    let bed = Bed::new();
    let begun = [part("title", "t"), part("created_by", "a"), file("text/plain", "abc")].concat();
    let chunks = [Ok(Bytes::from(begun)), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    post(&bed, &[], body).await.problem(400, "malformed_request");
    assert!(bed.blob_keys().await.is_empty());
}

#[tokio::test]
async fn a_file_beyond_the_limit_is_refused_and_leaves_nothing() {
    let bed = Plan { content_bytes_max: 10_000, ..Plan::default() }.build();
    let form = |length: usize| {
        [
            part("title", "t"),
            part("created_by", "a"),
            file("text/plain", &"x".repeat(length)),
            end(),
        ]
        .concat()
    };
    let answer = post(&bed, &[], Body::from(form(10_000))).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{answer:?}");
    post(&bed, &[], Body::from(form(10_001))).await.problem(413, "content_too_large");
    post(&bed, &[], chunked(&form(10_001), 1_000)).await.problem(413, "content_too_large");
    let declared = [("content-length", "99999999999")];
    post(&bed, &declared, Body::from("--XyZ")).await.problem(413, "content_too_large");
    assert_eq!(bed.blob_keys().await.len(), 1);
}

#[tokio::test]
async fn an_endless_beginning_is_not_searched_for_ever() {
    let bed = Bed::new();
    let endless =
        futures_util::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![b'x'; 4_096])));
    post(&bed, &[], Body::from_stream(endless)).await.problem(400, "malformed_request");
    let header = Bytes::from(format!("--{BOUNDARY}\r\nX: "));
    let endless =
        futures_util::stream::iter([Ok(header)]).chain(futures_util::stream::repeat_with(|| {
            Ok::<_, io::Error>(Bytes::from(vec![b'x'; 4_096]))
        }));
    post(&bed, &[], Body::from_stream(endless)).await.problem(400, "malformed_request");
}

#[tokio::test]
async fn a_form_without_a_boundary_is_malformed() {
    let bed = Bed::new();
    let headers = [("content-type", "multipart/form-data")];
    let answer = bed.send(request(Method::POST, "/documents", &headers, Body::from("x"))).await;
    answer.problem(400, "malformed_request");
}

#[tokio::test]
async fn a_repeated_form_gets_the_first_answer_again() {
    let bed = Bed::new();
    let key = [("idempotency-key", "k-1")];
    let form = |content: &str| {
        Body::from(
            [part("title", "t"), part("created_by", "a"), file("text/plain", content), end()]
                .concat(),
        )
    };
    let first = post(&bed, &key, form("abc")).await;
    let again = post(&bed, &key, form("abc")).await;
    assert_eq!((again.status, &again.body), (StatusCode::CREATED, &first.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    post(&bed, &key, form("other")).await.problem(422, "idempotency_key_reused");
    assert_eq!(bed.blob_keys().await.len(), 1);
}

use futures_util::StreamExt as _;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_forms_never_panic_and_never_leave_content_without_a_document(
        pieces in prop::collection::vec(
            prop_oneof![
                Just(part("title", "t")), Just(part("created_by", "a")), Just(part("file", "abc")),
                Just(end()), Just("--XyZ".to_owned()), Just("\r\n".to_owned()), "[ -~\r\n]{0,20}",
            ],
            0..8,
        ),
        size in 1_usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bed = Bed::new();
            let answer = post(&bed, &[], chunked(&pieces.concat(), size)).await;
            let created = answer.status == StatusCode::CREATED;
            assert!(created || answer.status.is_client_error(), "{answer:?}");
            assert_eq!(bed.blob_keys().await.len(), usize::from(created));
        });
    }
}
