//! JSON in and out.

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use dms_core::{Error, Result};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::body::{BodyLimit, read_body};
use super::problem::Problem;
use crate::problem::UNSUPPORTED_MEDIA_TYPE;

/// Bodies beyond this are parsed where they don't keep other requests waiting.
const PARSED_IN_PLACE_BYTES_MAX: usize = 128 << 10;
/// Longest message about a field, in characters: a message may quote what the client sent.
const MESSAGE_CHARS_MAX: usize = 200;

/// Extracts a JSON object, within the state's [`BodyLimit`].
///
/// It refuses another media type (415), more bytes than the limit (413), what isn't JSON (400), and
/// what isn't a `T` (422, naming the field).
#[derive(Debug, Clone)]
pub struct StrictJson<T>(pub T);

impl<S, T> FromRequest<S> for StrictJson<T>
where
    BodyLimit: FromRef<S>,
    S: Send + Sync,
    T: DeserializeOwned + Send + 'static,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(unsupported_media_type("application/json").into());
        }
        let bytes = read_body(&parts.headers, body, BodyLimit::from_ref(state)).await?;
        Ok(Self(parse(bytes).await?))
    }
}

/// Whether a body says it is JSON (RFC 8259) or a format based on it (RFC 6839).
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(essence) = media_type(headers) else { return false };
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.ends_with("+json")
}

/// The media type of a body without its parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The body has another media type than is understood.
pub(super) fn unsupported_media_type(accepted: &str) -> Error {
    Error::malformed(format!("the body's media type must be {accepted}"))
        .with_code(UNSUPPORTED_MEDIA_TYPE)
}

/// Reads JSON.
///
/// # Errors
/// `Malformed` for what isn't JSON, `Invalid` for what isn't a `T`.
pub(super) async fn parse<T: DeserializeOwned + Send + 'static>(bytes: Bytes) -> Result<T> {
    aside(bytes.len(), move || parse_in_place(&bytes)).await?
}

/// Works through `bytes` bytes, many of them where that doesn't keep other requests waiting.
pub(super) async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    if bytes <= PARSED_IN_PLACE_BYTES_MAX {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::internal("reading a body failed").with_source(e))
}

fn parse_in_place<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // A derived reader takes an array for an object, field by field.
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        check(bytes)?;
        return Err(Error::invalid("body", "must be a JSON object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // Some wrong types are reported as wrong syntax.
        check(bytes).err().unwrap_or_else(|| {
            let path = error.path().to_string();
            refusal(&path, error.into_inner())
        })
    })?;
    deserializer.end().map_err(not_json)?;
    Ok(value)
}

/// Whether it is JSON at all.
fn check(bytes: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Error::malformed("JSON must be UTF-8").with_source(e))?;
    serde_json::from_str::<IgnoredAny>(text).map(|_| ()).map_err(not_json)
}

fn not_json(error: serde_json::Error) -> Error {
    let (line, column) = (error.line(), error.column());
    Error::malformed(format!("not JSON at line {line}, column {column}")).with_source(error)
}

fn refusal(path: &str, error: serde_json::Error) -> Error {
    let text = error.to_string();
    let message = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    let field = field_of(path, message);
    let message = message.chars().take(MESSAGE_CHARS_MAX).collect::<String>();
    Error::invalid(field, message).with_source(error)
}

/// Where the trouble is. A field that's missing or doubled isn't on the path, only in the message.
fn field_of(path: &str, message: &str) -> String {
    let at_root = path.is_empty() || path == ".";
    let rest = message.strip_prefix("missing field `");
    let rest = rest.or_else(|| message.strip_prefix("duplicate field `"));
    match rest.and_then(|rest| rest.split('`').next()) {
        Some(field) if at_root => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None if at_root => "body".to_owned(),
        None => path.chars().take(MESSAGE_CHARS_MAX).collect(),
    }
}

/// An answer in JSON, uncacheable unless the handler says otherwise.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let bytes = serde_json::to_vec(body)
        .map_err(|e| Error::internal("an answer can't be written").with_source(e))?;
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{CreateDocumentBody, CreateSignatureBody, PatchDocumentBody};
    use dms_core::ErrorKind;
    use proptest::prelude::*;

    fn field<T: DeserializeOwned>(json: &str) -> String {
        match parse_in_place::<T>(json.as_bytes()) {
            Ok(_) => "accepted".into(),
            Err(error) if error.kind() == ErrorKind::Malformed => "malformed".into(),
            Err(error) => error.fields()[0].field.clone(),
        }
    }

    #[test]
    fn a_refused_field_is_named() {
        type Create = CreateDocumentBody;
        assert_eq!(field::<Create>(r#"{"title":"t","content":"c","created_by":"a"}"#), "accepted");
        assert_eq!(field::<Create>(r#"{"content":"c","created_by":"a"}"#), "title");
        assert_eq!(field::<Create>(r#"{"title":5,"content":"c","created_by":"a"}"#), "title");
        assert_eq!(
            field::<Create>(
                r#"{"title":"t","content":"c","created_by":"a","content_encoding":"x"}"#
            ),
            "content_encoding"
        );
        assert_eq!(field::<PatchDocumentBody>(r#"{"version":5}"#), "version");
        assert_eq!(field::<PatchDocumentBody>(r#"{"status":"archived"}"#), "status");
        assert_eq!(field::<PatchDocumentBody>(r#"{"title":"a","title":"b"}"#), "title");
        assert_eq!(field::<PatchDocumentBody>(r#"{"status":5}"#), "status");
        assert_eq!(field::<PatchDocumentBody>(r#"{"title":"\ud800"}"#), "title");
        for other in ["[1]", r#"["viewed","a title"]"#, "null", "\"text\"", " 5"] {
            assert_eq!(field::<PatchDocumentBody>(other), "body", "{other}");
        }
        assert_eq!(field::<CreateSignatureBody>(r#"{"document_id":"x"}"#), "document_id");
    }

    #[test]
    fn what_is_not_json_is_malformed() {
        for bad in ["", "{", "nope", "{}{}", "[1", "{\"title\":\"\u{0}\"}"] {
            assert_eq!(field::<PatchDocumentBody>(bad), "malformed", "{bad:?}");
        }
        let invalid_utf8 = parse_in_place::<PatchDocumentBody>(b"{\"title\":\"\xff\"}");
        assert_eq!(invalid_utf8.unwrap_err().kind(), ErrorKind::Malformed);
        let deep = "[".repeat(100_000);
        assert!(parse_in_place::<PatchDocumentBody>(deep.as_bytes()).is_err());
    }

    #[test]
    fn what_the_client_sent_is_not_quoted_at_length() {
        let json = format!(r#"{{"status":"{}"}}"#, "x".repeat(10_000));
        let error = parse_in_place::<PatchDocumentBody>(json.as_bytes()).unwrap_err();
        assert!(error.fields()[0].message.len() <= MESSAGE_CHARS_MAX);
    }

    #[test]
    fn media_types_are_compared_without_parameters_and_case() {
        let json = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        assert!(json("application/json"));
        assert!(json("Application/JSON; charset=utf-8"));
        assert!(json("application/merge-patch+json"));
        assert!(!json("text/json") && !json("application/x-www-form-urlencoded") && !json(""));
        assert!(!is_json(&HeaderMap::new()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_in_place::<CreateDocumentBody>(&bytes);
        }
    }
}
