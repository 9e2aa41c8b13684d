//! Errors on the wire, in both directions.

use std::error::Error as _;

use dms_core::{Error, ErrorChain, ErrorKind, RequestId};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, TimeoutExpired};

use crate::problem::{grpc_code, kind_of_grpc_code, known_code};
use crate::types::ProblemBody;

/// Trailer with the machine-readable code of an error.
pub(super) const ERROR_CODE: &str = "dms-error-code";
/// Trailer with the version a document is at when it isn't at the expected one.
pub(super) const CURRENT_VERSION: &str = "dms-current-version";
/// Header with the id of a request.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Name of the document service in errors and readiness.
const DEPENDENCY: &str = "documents";

/// The status a client gets for an error. What is the server's fault is logged here, and the
/// client learns the request id alone.
pub(super) fn status_of(error: &Error, request_id: &RequestId) -> Status {
    let problem = ProblemBody::new(error, request_id.as_str());
    let message = if problem.status >= 500 {
        log(error, request_id);
        format!("{}, request id {request_id}", problem.detail)
    } else if problem.errors.is_empty() {
        problem.detail
    } else {
        let refusals = problem.errors.iter().map(|e| format!("{} {}", e.field, e.message));
        refusals.collect::<Vec<_>>().join("; ")
    };
    let mut status = Status::new(grpc_code(error.kind()), message);
    let trailers = status.metadata_mut();
    trailers.insert(ERROR_CODE, MetadataValue::from_static(error.code()));
    if let Some(version) = error.current_version() {
        trailers.insert(CURRENT_VERSION, version.into());
    }
    status
}

fn log(error: &Error, request_id: &RequestId) {
    let (code, chain) = (error.code(), ErrorChain(error));
    if error.kind() == ErrorKind::Internal {
        tracing::error!(%request_id, code, error = %chain, "call failed");
    } else {
        tracing::warn!(%request_id, code, error = %chain, "call failed");
    }
}

/// Whether the call failed on this side of the network: no answer came.
fn is_local(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether the same call, which must be idempotent, may be sent again at once.
pub(super) fn may_repeat(status: &Status) -> bool {
    status.code() == Code::Unavailable || is_local(status) && !is_deadline(status)
}

fn is_deadline(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    status.code() == Code::DeadlineExceeded
}

/// The error behind a status of the document service.
pub(super) fn error_of(status: Status) -> Error {
    if is_deadline(&status) {
        return deadline_passed().with_source(status);
    }
    if is_local(&status) {
        return Error::unavailable(DEPENDENCY, "document service can't be reached")
            .with_source(status);
    }
    let code = status.metadata().get(ERROR_CODE).and_then(|code| code.to_str().ok());
    let code = code.and_then(known_code);
    let message = status.message().to_owned();
    let error = match kind_of_grpc_code(status.code()) {
        // It is this process that lacks a valid token, not whoever called it; once that is put
        // right the same call succeeds.
        Some(ErrorKind::Unauthenticated) => {
            return Error::unavailable(DEPENDENCY, "document service refuses the service token")
                .with_source(status);
        }
        Some(ErrorKind::Unavailable) => Error::unavailable(DEPENDENCY, message),
        Some(kind) => Error::new(precise(kind, code), message),
        None => Error::internal("document service failed without an error"),
    };
    match code {
        Some(code) => error.with_code(code).with_source(status),
        None => error.with_source(status),
    }
}

/// Two kinds share a code of gRPC in places; the machine-readable code tells them apart.
fn precise(kind: ErrorKind, code: Option<&str>) -> ErrorKind {
    [ErrorKind::Malformed, ErrorKind::RangeNotSatisfiable]
        .into_iter()
        .find(|other| grpc_code(*other) == grpc_code(kind) && code == Some(other.default_code()))
        .unwrap_or(kind)
}

/// The deadline of a call passed.
pub(super) fn deadline_passed() -> Error {
    Error::new(ErrorKind::Timeout, "deadline passed")
}

/// As many calls wait for an answer as may.
pub(super) fn too_many_calls() -> Error {
    Error::unavailable(DEPENDENCY, "too many calls to the document service under way")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_the_wire(error: &Error) -> Error {
        // As a server writes it and a client reads it.
        let sent = status_of(error, &RequestId::default()).into_http::<()>();
        error_of(Status::from_header_map(sent.headers()).unwrap())
    }

    #[test]
    fn kind_and_code_survive_the_wire() {
        let kinds = [
            ErrorKind::Malformed,
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Conflict,
            ErrorKind::VersionMismatch,
            ErrorKind::TooLarge,
            ErrorKind::RangeNotSatisfiable,
            ErrorKind::StorageFull,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Internal,
        ];
        for kind in kinds {
            let back = over_the_wire(&Error::new(kind, "m"));
            assert_eq!((back.kind(), back.code()), (kind, kind.default_code()));
        }
        let reused = Error::invalid("Idempotency-Key", "was used for another request")
            .with_code("idempotency_key_reused");
        assert_eq!(over_the_wire(&reused).code(), "idempotency_key_reused");
    }

    #[test]
    fn a_refused_service_token_is_not_the_callers_fault() {
        let back = over_the_wire(&Error::new(ErrorKind::Unauthenticated, "m"));
        assert_eq!(back.kind(), ErrorKind::Unavailable);
        assert_eq!(back.dependency(), Some("documents"));
    }

    #[test]
    fn a_failure_of_the_server_tells_nothing_but_the_request_id() {
        let id = RequestId::from_caller("r-1").unwrap();
        for kind in [ErrorKind::Internal, ErrorKind::Unavailable, ErrorKind::StorageFull] {
            let error = Error::new(kind, "secret").with_source(Error::internal("secret too"));
            let status = status_of(&error, &id);
            assert!(status.message().ends_with(", request id r-1"), "{status:?}");
            assert!(!format!("{status:?}").contains("secret"), "{status:?}");
        }
    }

    #[test]
    fn refusals_name_their_fields() {
        let status =
            status_of(&Error::invalid("status", "must be one of a, b"), &RequestId::default());
        assert_eq!(status.message(), "status must be one of a, b");
    }

    #[test]
    fn the_current_version_is_told() {
        let status = status_of(&Error::version_mismatch(1, 7), &RequestId::default());
        assert_eq!(status.metadata().get(CURRENT_VERSION).unwrap(), "7");
    }

    #[test]
    fn unknown_codes_fall_back_to_that_of_the_kind() {
        let mut status = Status::not_found("m");
        status.metadata_mut().insert(ERROR_CODE, MetadataValue::from_static("from_the_future"));
        let status = Status::from_header_map(status.into_http::<()>().headers()).unwrap();
        assert_eq!(error_of(status).code(), "not_found");
    }
}
