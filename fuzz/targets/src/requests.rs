//! What requests hold: cursors, ranges, conditions, JSON, forms.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD_NO_PAD};
use dms_core::{DocumentId, Error, validate};
use dms_rpc::rest::conditions::{IfMatch, version_etag};
use dms_rpc::rest::cursor as cursors;
use futures_util::stream;
use serde_json::Value;
use uuid::Uuid;

use crate::bed::{Answer, Bed, CONTENT, CONTENT_BYTES_MAX, with_bed};

/// A cursor: only what was encoded is decoded, and it is the same again.
pub fn cursor(input: &[u8]) {
    if let Some(id) = input.first_chunk::<16>() {
        let id = DocumentId::from_uuid(Uuid::from_bytes(*id));
        assert_eq!(cursors::decode(&cursors::encode(id)), Ok(id));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(id) = cursors::decode(text) {
        assert_eq!(cursors::encode(id), text);
    }
}

/// Adds each line as a header of its own; false if one can't be a header.
fn add_lines<'a>(
    headers: &mut HeaderMap,
    name: &HeaderName,
    lines: impl Iterator<Item = &'a [u8]>,
) -> bool {
    lines
        .map(HeaderValue::from_bytes)
        .all(|value| value.map(|value| headers.append(name, value)).is_ok())
}

/// Lines `If-Range`, `If-None-Match` and any number of `Range`; empty ones are left out. What is
/// answered is the part of the content that the answer says it is.
pub fn range(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in [header::IF_RANGE, header::IF_NONE_MATCH] {
        let line = lines.next().filter(|line| !line.is_empty());
        if !add_lines(&mut headers, &name, line.into_iter()) {
            return;
        }
    }
    if !add_lines(&mut headers, &header::RANGE, lines) {
        return;
    }
    with_bed(|bed| {
        let path = format!("/documents/{}/content", bed.document);
        let mut request = Request::get(&path).body(Body::empty()).expect("a request");
        request.headers_mut().clone_from(&headers);
        let answer = bed.send(request);
        let conditional = headers.contains_key(header::IF_NONE_MATCH);
        match answer.status {
            StatusCode::OK => assert_eq!(answer.body, CONTENT),
            StatusCode::PARTIAL_CONTENT => assert_is_part(&answer),
            StatusCode::NOT_MODIFIED => assert!(conditional && answer.body.is_empty()),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let whole = format!("bytes */{}", CONTENT.len());
                assert_eq!(answer.header("content-range"), whole);
            }
            _ => panic!("{answer:?}"),
        }
        let mut request = Request::head(&path).body(Body::empty()).expect("a request");
        *request.headers_mut() = headers;
        let head = bed.send(request);
        let expected = if answer.status == StatusCode::NOT_MODIFIED { 304 } else { 200 };
        assert_eq!(head.status.as_u16(), expected);
        assert!(head.body.is_empty());
    });
}

fn assert_is_part(answer: &Answer) {
    let (part, size) = answer
        .header("content-range")
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('/'))
        .expect("a range and a size");
    let (first, last) = part.split_once('-').expect("a first and a last byte");
    let first: usize = first.parse().expect("a number");
    let last: usize = last.parse().expect("a number");
    assert_eq!(size, CONTENT.len().to_string());
    assert!(first <= last && last < CONTENT.len(), "{first} to {last}");
    assert_eq!(answer.body, CONTENT[first..=last]);
}

/// Lines of `If-Match`: each version that is expected is among them as its tag, and a write that finds
/// another version again and again is given up.
pub fn conditions(input: &[u8]) {
    let mut headers = HeaderMap::new();
    if !add_lines(&mut headers, &header::IF_MATCH, input.split(|byte| *byte == b'\n')) {
        return;
    }
    let Ok(condition) = IfMatch::from_headers(&headers) else { return };
    let IfMatch::OneOf(versions) = &condition else { return };
    for version in versions {
        let tag = version_etag(*version);
        let tag = tag.as_bytes();
        assert!(*version > 0 && input.windows(tag.len()).any(|window| window == tag));
    }
    let listed = versions.clone();
    let mut attempts = condition.attempts();
    let tries = listed.iter().cycle().take(100).take_while(|present| {
        let expected = attempts.expected().expect("a version");
        attempts.continue_after(&Error::version_mismatch(expected, **present))
    });
    assert!(tries.count() < listed.len().max(1));
}

/// `0` and a document, `1` and a signature, or `2` and a change, in JSON; `$ID` stands for the id of
/// a document. What is created is what the JSON says.
pub fn json_body(input: &[u8]) {
    let Some((first, body)) = super::choice(input) else { return };
    with_bed(|bed| {
        let body = match std::str::from_utf8(body) {
            Ok(text) => Bytes::from(text.replace("$ID", &bed.document)),
            Err(_) => Bytes::copy_from_slice(body),
        };
        let (method, path) = match first % 3 {
            0 => (Method::POST, "/documents".to_owned()),
            1 => (Method::POST, "/signatures".to_owned()),
            _ => (Method::PATCH, format!("/documents/{}", bed.document)),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let answer = bed.send(request.body(body.clone().into()).expect("a request"));
        if !answer.status.is_success() {
            assert!([400, 404, 409, 413, 422].contains(&answer.status.as_u16()), "{answer:?}");
            return;
        }
        let given: Value = serde_json::from_slice(&body).expect("JSON");
        match first % 3 {
            0 => assert_is_document(bed, &answer.json(), &given),
            1 => assert_is_signature(bed, &answer.json(), &given),
            _ => {
                if let Some(title) = given["title"].as_str() {
                    assert_eq!(answer.json()["title"], title.trim());
                }
            }
        }
    });
}

/// Reads base64 whatever stands in the bits after the last byte.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn assert_is_document(bed: &mut Bed, document: &Value, given: &Value) {
    for field in ["title", "created_by"] {
        assert_eq!(document[field], given[field].as_str().expect("a text").trim());
    }
    let text = given["content"].as_str().expect("a text");
    let content = if given["content_encoding"] == "base64" {
        LENIENT.decode(text.trim()).expect("base64")
    } else {
        text.as_bytes().to_vec()
    };
    assert!(content.len() as u64 <= CONTENT_BYTES_MAX);
    assert_eq!(document["content_size"], content.len());
    let id = document["id"].as_str().expect("an id");
    assert_eq!(bed.get(&format!("/documents/{id}/content")).body, content);
}

fn assert_is_signature(bed: &mut Bed, signature: &Value, given: &Value) {
    assert_eq!(signature["signer_email"], given["signer_email"].as_str().expect("a text").trim());
    let image = given["signature_data"].as_str().expect("a text");
    let image = validate::signature_data(image).expect("an image");
    // The same in the plainest form.
    assert!(validate::signature_data(&STANDARD_NO_PAD.encode(&image)).as_ref() == Ok(&image));
    let id = signature["id"].as_str().expect("an id");
    assert_eq!(bed.get(&format!("/signatures/{id}/image")).body, image);
}

/// The size of pieces, a `Content-Type` up to the end of the line, and a form. It doesn't matter where
/// the form is cut.
pub fn form(input: &[u8]) {
    let Some((size, rest)) = super::choice(input) else { return };
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return };
    let Ok(content_type) = HeaderValue::from_bytes(&rest[..end]) else { return };
    let body = Bytes::copy_from_slice(&rest[end + 1..]);
    with_bed(|bed| {
        let mut post = |body: Body| {
            let request = Request::post("/documents").header("content-type", &content_type);
            bed.send(request.body(body).expect("a request"))
        };
        let whole = post(body.clone().into());
        let pieces: Vec<_> = body
            .chunks(usize::from(size).max(1))
            .map(|piece| Ok::<_, Infallible>(body.slice_ref(piece)))
            .collect();
        let cut = post(Body::from_stream(stream::iter(pieces)));
        assert_eq!(whole.status, cut.status, "{whole:?} {cut:?}");
        let (one, other) = (whole.json(), cut.json());
        if whole.status != StatusCode::CREATED {
            assert!([400, 413, 415, 422].contains(&whole.status.as_u16()), "{whole:?}");
            assert_eq!(one["code"], other["code"]);
            return;
        }
        let fields = ["title", "created_by", "content_type", "content_size", "content_sha256"];
        for field in fields {
            assert_eq!(one[field], other[field]);
        }
        let id = one["id"].as_str().expect("an id");
        let content = bed.get(&format!("/documents/{id}/content")).body;
        assert!(content.is_empty() || body.windows(content.len()).any(|part| part == content));
    });
}
