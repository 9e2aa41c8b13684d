//! Errors as `application/problem+json` (RFC 9457).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dms_core::{Error, ErrorChain, ErrorKind};

use super::conditions::version_etag;
use crate::problem::{METHOD_NOT_ALLOWED, OVERLOADED, ROUTE_NOT_FOUND, http_status};
use crate::types::ProblemBody;

/// Media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error on its way to the client; what handlers and extractors fail with.
///
/// As a response it carries what the client may know. [`layers`](super::layers) adds the request id,
/// and logs what the client may not know.
#[derive(Debug, Clone)]
pub struct Problem(Arc<Error>);

impl Problem {
    /// The error.
    pub fn error(&self) -> &Error {
        &self.0
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(http_status(self.0.kind(), self.0.code()))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body, naming the request.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        // Strings and numbers always serialize.
        serde_json::to_vec(&ProblemBody::new(&self.0, request_id)).unwrap_or_default()
    }

    /// Logs the error with its causes if the client isn't to blame. Load that was shed isn't logged:
    /// that would be more load.
    pub(super) fn log(&self) {
        if self.status().is_server_error() && self.0.code() != OVERLOADED {
            tracing::error!(
                code = self.0.code(),
                dependency = self.0.dependency(),
                error = %ErrorChain(&*self.0),
                "request failed"
            );
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body("")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        let error = self.error();
        if error.kind() == ErrorKind::Unauthenticated {
            // RFC 6750, section 3.1: no error code for a request that showed nothing.
            let challenge = match error.code() {
                "unauthenticated" => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(version) = error.current_version() {
            headers.insert(header::ETAG, version_etag(version));
        }
        if let (ErrorKind::RangeNotSatisfiable, Some(size)) = (error.kind(), error.content_size())
            && let Ok(value) = HeaderValue::try_from(format!("bytes */{size}"))
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        if let Some(after) = retry_after(error) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Whole seconds, at least one.
fn retry_after(error: &Error) -> Option<u64> {
    let seconds = |after: Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
    match (error.retry_after(), error.kind()) {
        (Some(after), _) => Some(seconds(after).max(1)),
        (None, ErrorKind::Unavailable) => Some(1),
        _ => None,
    }
}

/// Answers requests to paths that nothing is served under.
pub async fn route_not_found() -> Problem {
    Error::new(ErrorKind::NotFound, "nothing is served under this path")
        .with_code(ROUTE_NOT_FOUND)
        .into()
}

/// Answers requests with a method that the path doesn't take; `Allow` is added by the router.
pub async fn method_not_allowed() -> Problem {
    Error::malformed("the path doesn't take this method").with_code(METHOD_NOT_ALLOWED).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_rounded_up_to_whole_seconds() {
        let error = |after| Error::unavailable("database", "").with_retry_after(after);
        assert_eq!(retry_after(&error(Duration::from_millis(1))), Some(1));
        assert_eq!(retry_after(&error(Duration::from_millis(2_500))), Some(3));
        assert_eq!(retry_after(&error(Duration::ZERO)), Some(1));
        assert_eq!(retry_after(&Error::internal("")), None);
    }
}
