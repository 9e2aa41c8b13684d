//! The bytes of documents and images, as strangers made them.

use std::ops::Range;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use dms_core::ports::BlobContent;
use dms_core::{Document, DocumentId};

use super::access::Authenticated;
use super::body::outgoing;
use super::conditions::none_match_names;
use super::disposition::attachment;
use super::documents::{DocumentsState, REVALIDATE, not_modified};
use super::open_api::{NoSuchDocument, NoSuchRange, Refused};
use super::params::PathParam;
use super::problem::Problem;
use super::range::{content_range, requested_range};

/// How long the store may be silent while content is sent.
const STORE_SILENT_MAX: Duration = Duration::from_secs(30);
/// Keeps a browser from running what it's given.
const SANDBOX: HeaderValue =
    HeaderValue::from_static("sandbox; default-src 'none'; frame-ancestors 'none'");

/// Downloads the content of a document
#[utoipa::path(
    get, path = "/documents/{id}/content", tag = "documents",
    params(
        ("id" = uuid::Uuid, Path, description = "the document"),
        ("Range" = Option<String>, Header, description = "one range of bytes"),
        ("If-Range" = Option<String>, Header, description = "the `ETag` that the range is of"),
        ("If-None-Match" = Option<String>, Header, description = "what the caller has"),
    ),
    responses(
        (status = 200, description = "the content", body = Vec<u8>, content_type = "*/*",
            headers(
                ("ETag" = String, description = "SHA-256 of the content"),
                ("Content-Disposition" = String, description = "a file name made from the title"),
            )),
        (status = 206, description = "a part of it", body = Vec<u8>, content_type = "*/*",
            headers(("Content-Range" = String, description = "which part"))),
        (status = 304, description = "the caller has it"),
        NoSuchDocument, NoSuchRange, Refused,
    ),
)]
pub(super) async fn get_document_content(
    Authenticated(caller): Authenticated,
    State(state): State<DocumentsState>,
    PathParam(id): PathParam<DocumentId>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let document = state.documents.peek(id).await?;
    let etag = content_etag(&document);
    if none_match_names(&headers, &etag) {
        return Ok(not_modified(etag));
    }
    let range = match method {
        // Ranges are of GET alone (RFC 9110, section 14.2).
        Method::GET => requested_range(&headers, document.content_size, &etag)?,
        _ => None,
    };
    let (document, content) = state.documents.content(&caller, id, range.clone()).await?;
    let mut response = blob_answer(content, &document.content_type, range.as_ref());
    let headers = response.headers_mut();
    headers.insert(header::ETAG, etag);
    headers.insert(header::CONTENT_DISPOSITION, attachment(&document.title));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// A strong tag: content never changes without its digest.
fn content_etag(document: &Document) -> HeaderValue {
    // Hexadecimal digits and quotes are always a header's value.
    HeaderValue::try_from(format!("\"{}\"", document.content_sha256))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// Bytes that must not be run, in whole or in part.
pub(super) fn blob_answer(
    content: BlobContent,
    content_type: &str,
    range: Option<&Range<u64>>,
) -> Response {
    let length = range.map_or(content.size, |range| range.end - range.start);
    let body = if length == 0 { Body::empty() } else { outgoing(content.stream, STORE_SILENT_MAX) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let content_type = HeaderValue::try_from(content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(range) = range {
        headers.insert(header::CONTENT_RANGE, content_range(range, content.size));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}
