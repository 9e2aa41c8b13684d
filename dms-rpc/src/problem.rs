//! The one table from [`ErrorKind`] to HTTP statuses and gRPC codes, and back.
//!
//! | kind | HTTP | gRPC |
//! |---|---|---|
//! | `Malformed` | 400; 405, 408, 415 for codes that say so | `INVALID_ARGUMENT` |
//! | `Invalid` | 422 | `INVALID_ARGUMENT` |
//! | `Unauthenticated` | 401 | `UNAUTHENTICATED` |
//! | `NotFound` | 404 | `NOT_FOUND` |
//! | `Conflict` | 409 | `FAILED_PRECONDITION` |
//! | `VersionMismatch` | 412 | `ABORTED` |
//! | `TooLarge` | 413 | `OUT_OF_RANGE` |
//! | `RangeNotSatisfiable` | 416 | `OUT_OF_RANGE` |
//! | `StorageFull` | 507 | `RESOURCE_EXHAUSTED` |
//! | `Unavailable` | 503 | `UNAVAILABLE` |
//! | `Timeout` | 504 | `DEADLINE_EXCEEDED` |
//! | `Internal`, and kinds this version doesn't know | 500 | `INTERNAL` |

use dms_core::ErrorKind;

/// Code of a request whose method isn't one of the route's: 405.
pub const METHOD_NOT_ALLOWED: &str = "method_not_allowed";
/// Code of a request whose body stopped coming: 408.
pub const REQUEST_TIMEOUT: &str = "request_timeout";
/// Code of a request whose body has a media type that isn't understood: 415.
pub const UNSUPPORTED_MEDIA_TYPE: &str = "unsupported_media_type";
/// Code of a request to a path that nothing is served under: 404.
pub const ROUTE_NOT_FOUND: &str = "route_not_found";
/// Code of a request that came while too many others ran: 503.
pub const OVERLOADED: &str = "overloaded";

/// Every code that an answer may carry.
pub const CODES: [&str; 25] = [
    "already_exists",
    "already_signed",
    "conflict",
    "content_too_large",
    "idempotency_key_completed",
    "idempotency_key_reused",
    "internal",
    "malformed_request",
    METHOD_NOT_ALLOWED,
    "not_found",
    OVERLOADED,
    "position_lost",
    "range_not_satisfiable",
    "request_in_progress",
    REQUEST_TIMEOUT,
    ROUTE_NOT_FOUND,
    "storage_full",
    "timeout",
    "token_expired",
    "token_invalid",
    "unauthenticated",
    "unavailable",
    UNSUPPORTED_MEDIA_TYPE,
    "validation_failed",
    "version_mismatch",
];

/// The HTTP status of an error with this kind and code.
pub fn http_status(kind: ErrorKind, code: &str) -> u16 {
    match kind {
        ErrorKind::Malformed => match code {
            METHOD_NOT_ALLOWED => 405,
            REQUEST_TIMEOUT => 408,
            UNSUPPORTED_MEDIA_TYPE => 415,
            _ => 400,
        },
        ErrorKind::Invalid => 422,
        ErrorKind::Unauthenticated => 401,
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict => 409,
        ErrorKind::VersionMismatch => 412,
        ErrorKind::TooLarge => 413,
        ErrorKind::RangeNotSatisfiable => 416,
        ErrorKind::StorageFull => 507,
        ErrorKind::Unavailable => 503,
        ErrorKind::Timeout => 504,
        _ => 500,
    }
}

/// The kind of error that an HTTP status stands for; none for a status below 400.
///
/// Statuses that only a proxy in between gives are taken for the nearest kind.
pub fn kind_of_http_status(status: u16) -> Option<ErrorKind> {
    Some(match status {
        401 | 403 | 407 => ErrorKind::Unauthenticated,
        404 | 410 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        412 => ErrorKind::VersionMismatch,
        413 => ErrorKind::TooLarge,
        416 => ErrorKind::RangeNotSatisfiable,
        422 => ErrorKind::Invalid,
        400..=428 | 430..=499 => ErrorKind::Malformed,
        429 | 502 | 503 => ErrorKind::Unavailable,
        504 => ErrorKind::Timeout,
        507 => ErrorKind::StorageFull,
        500.. => ErrorKind::Internal,
        _ => return None,
    })
}

/// The code with this text, if an answer may carry it.
pub fn known_code(text: &str) -> Option<&'static str> {
    CODES.into_iter().find(|code| *code == text)
}

/// What a client reads first of a status that stands for an error (RFC 9110, section 15).
pub fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        422 => "Unprocessable Content",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

/// The gRPC code of an error of this kind.
#[cfg(feature = "grpc")]
pub fn grpc_code(kind: ErrorKind) -> tonic::Code {
    use tonic::Code;
    match kind {
        ErrorKind::Malformed | ErrorKind::Invalid => Code::InvalidArgument,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::Conflict => Code::FailedPrecondition,
        ErrorKind::VersionMismatch => Code::Aborted,
        ErrorKind::TooLarge | ErrorKind::RangeNotSatisfiable => Code::OutOfRange,
        ErrorKind::StorageFull => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

/// The kind of error that a gRPC code stands for; none for `OK`.
#[cfg(feature = "grpc")]
pub fn kind_of_grpc_code(code: tonic::Code) -> Option<ErrorKind> {
    use tonic::Code;
    Some(match code {
        Code::Ok => return None,
        Code::InvalidArgument => ErrorKind::Invalid,
        Code::Unauthenticated | Code::PermissionDenied => ErrorKind::Unauthenticated,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition => ErrorKind::Conflict,
        Code::Aborted => ErrorKind::VersionMismatch,
        Code::OutOfRange => ErrorKind::TooLarge,
        Code::ResourceExhausted => ErrorKind::StorageFull,
        Code::Unavailable => ErrorKind::Unavailable,
        // tonic ends a call whose deadline passed with `CANCELLED` on some paths.
        Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Timeout,
        Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            ErrorKind::Internal
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [ErrorKind; 12] = [
        ErrorKind::Malformed,
        ErrorKind::Invalid,
        ErrorKind::Unauthenticated,
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

    #[test]
    fn each_kind_survives_the_way_over_http() {
        for kind in KINDS {
            let status = http_status(kind, kind.default_code());
            assert_eq!(kind_of_http_status(status), Some(kind), "{status}");
            assert_eq!(known_code(kind.default_code()), Some(kind.default_code()));
            assert!(status == 500 || title(status) != title(500), "{status} has no title");
        }
    }

    #[test]
    fn every_error_status_has_a_kind_and_no_other_has() {
        for status in 0..=999 {
            assert_eq!(kind_of_http_status(status).is_some(), status >= 400, "{status}");
        }
    }

    #[test]
    fn codes_refine_the_status_of_a_malformed_request() {
        let status = |code| http_status(ErrorKind::Malformed, code);
        assert_eq!(status(METHOD_NOT_ALLOWED), 405);
        assert_eq!(status(REQUEST_TIMEOUT), 408);
        assert_eq!(status(UNSUPPORTED_MEDIA_TYPE), 415);
        assert_eq!(status("malformed_request"), 400);
        assert_eq!(http_status(ErrorKind::Internal, METHOD_NOT_ALLOWED), 500);
    }

    #[cfg(feature = "grpc")]
    #[test]
    fn retryability_survives_the_way_over_grpc() {
        for kind in KINDS {
            let back = kind_of_grpc_code(grpc_code(kind));
            assert_eq!(back.map(ErrorKind::is_retryable), Some(kind.is_retryable()), "{kind:?}");
        }
        assert_eq!(kind_of_grpc_code(tonic::Code::Ok), None);
    }
}
