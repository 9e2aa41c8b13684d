//! What every call passes on its way in: request id, bound, authentication, deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use dms_core::{Caller, Error, RequestId, Result};
use std::net::SocketAddr;
use tokio::sync::Semaphore;
use tonic::Status;
use tracing::Instrument as _;

use super::GrpcAuthentication;
use super::document_server::InFlight;
use super::status::{REQUEST_ID, deadline_passed, status_of};
use crate::problem::OVERLOADED;

const HEALTH: &str = "/grpc.health.v1.Health/";

/// What is needed to let a call pass.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) authentication: GrpcAuthentication,
    /// One permit for each call that may be under way.
    pub(super) calls: Arc<Semaphore>,
    /// Deadline of calls that bring none or a later one.
    pub(super) deadline_max: Duration,
}

/// The middleware. Health passes unasked and uncounted.
pub(super) async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = method_label(request.uri().path());
    let request_id = request_id_of(request.headers());
    let span = tracing::info_span!("grpc", method, %request_id);
    let answer = async {
        match gate.admit(request, next, &request_id).await {
            Ok(response) => response,
            Err(error) => status_of(&error, &request_id).into_http(),
        }
    };
    let mut response = answer.instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    // An error is a header; the status of a success comes in a trailer.
    let code = Status::from_header_map(response.headers()).map_or(tonic::Code::Ok, |s| s.code());
    let labels = [("method", method.to_owned()), ("code", i32::from(code).to_string())];
    metrics::histogram!("dms_grpc_request_seconds", &labels).record(begun.elapsed().as_secs_f64());
    response
}

impl Gate {
    async fn admit(&self, mut request: Request, next: Next, id: &RequestId) -> Result<Response> {
        if request.uri().path().starts_with(HEALTH) {
            return Ok(next.run(request).await);
        }
        let permit = Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            Error::unavailable("grpc", "too many calls under way").with_code(OVERLOADED)
        })?;
        let deadline = match requested_timeout(request.headers())? {
            Some(requested) => requested.min(self.deadline_max),
            None => self.deadline_max,
        };
        if deadline.is_zero() {
            return Err(deadline_passed());
        }
        let work = async {
            let claims = self.authentication.authenticate(request.headers()).await?;
            let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
            let caller = Caller {
                claims,
                address: peer.map(|ConnectInfo(address)| address.ip()),
                request_id: id.clone(),
            };
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(InFlight::new(permit));
            Ok(next.run(request).await)
        };
        tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(deadline_passed()))
    }
}

fn request_id_of(headers: &HeaderMap) -> RequestId {
    headers
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .and_then(RequestId::from_caller)
        .unwrap_or_else(RequestId::generate)
}

/// A label for metrics and spans that no caller can invent.
fn method_label(path: &str) -> &'static str {
    match path {
        "/document.DocumentService/UpdateDocumentStatus" => "UpdateDocumentStatus",
        "/document.DocumentService/GetDocument" => "GetDocument",
        "/document.DocumentService/DocumentExists" => "DocumentExists",
        _ if path.starts_with(HEALTH) => "Health",
        _ if path.starts_with("/grpc.reflection.") => "Reflection",
        _ => "unknown",
    }
}

/// Header `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2, "Requests").
fn requested_timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get("grpc-timeout") else { return Ok(None) };
    let malformed = || Error::malformed("grpc-timeout must be up to 8 digits and one of HMSmun");
    let text = value.to_str().map_err(|e| malformed().with_source(e))?;
    let (digits, unit) = text.split_at_checked(text.len().wrapping_sub(1)).ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(malformed());
    }
    let amount: u64 = digits.parse().map_err(|e| malformed().with_source(e))?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(amount * 3_600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return Err(malformed()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout(value: &str) -> Result<Option<Duration>> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_str(value).unwrap());
        requested_timeout(&headers)
    }

    #[test]
    fn timeouts_are_read_in_every_unit() {
        for (text, expected) in [
            ("2H", Duration::from_hours(2)),
            ("3M", Duration::from_mins(3)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("7n", Duration::from_nanos(7)),
            ("99999999H", Duration::from_hours(99_999_999)),
        ] {
            assert_eq!(timeout(text).unwrap(), Some(expected), "{text}");
        }
        assert_eq!(requested_timeout(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn malformed_timeouts_are_refused() {
        for bad in ["", "S", "1", "1x", "-1S", "+1S", "1.5S", "123456789S", "1 S"] {
            assert!(timeout(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_cannot_be_invented() {
        assert_eq!(method_label("/document.DocumentService/GetDocument"), "GetDocument");
        assert_eq!(method_label("/document.DocumentService/Invented"), "unknown");
    }
}
