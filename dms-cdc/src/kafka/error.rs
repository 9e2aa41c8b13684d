//! What errors of the client mean.

use dms_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What a consumer needs is gone, or was never there.
pub(super) fn position_lost(message: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, message).with_code("position_lost")
}

/// The error for a failed request. Most of what can fail is worth a retry; missing rights aren't.
pub(super) fn request_failed(error: KafkaError) -> Error {
    if error.rdkafka_error_code().is_some_and(is_forbidden) {
        return Error::internal("reading changes from Kafka is not allowed").with_source(error);
    }
    Error::unavailable("events", "Kafka can't be reached").with_source(error)
}

pub(super) fn is_forbidden(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SSL
    )
}

/// Whether records are gone that were to come next.
pub(super) fn is_position_lost(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::AutoOffsetReset
            | RDKafkaErrorCode::OffsetOutOfRange
            | RDKafkaErrorCode::NoOffset
            | RDKafkaErrorCode::LogTruncation
    )
}
