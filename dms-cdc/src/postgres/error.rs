//! What errors of the database mean.

use dms_core::{Error, ErrorKind};
use pg_walstream::ReplicationError;

/// `insufficient_privilege`, <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// `invalid_catalog_name`.
const NO_DATABASE: &str = "3D000";
/// `object_not_in_prerequisite_state`: here a server without `wal_level=logical`.
const NOT_LOGICAL: &str = "55000";

/// A query about the stream failed.
pub(super) fn query_failed(error: sqlx::Error) -> Error {
    let code = match &error {
        sqlx::Error::Database(database) => database.code().map(std::borrow::Cow::into_owned),
        _ => None,
    };
    let is_defect = matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_));
    match code.as_deref() {
        Some(INSUFFICIENT_PRIVILEGE) => {
            Error::internal("the database's role may not replicate, or may not make a table")
        }
        Some(NO_DATABASE) => Error::internal("there is no such database"),
        Some(NOT_LOGICAL) => Error::internal("the database isn't set up for logical replication"),
        _ if is_defect => Error::internal("the database answered something unknown"),
        _ => Error::unavailable("database", "the database can't be reached"),
    }
    .with_source(error)
}

/// The replication connection failed.
pub(super) fn stream_failed(error: ReplicationError) -> Error {
    let message = match &error {
        ReplicationError::Authentication(_) => {
            return Error::internal("the database refuses the role for replication")
                .with_source(error);
        }
        ReplicationError::Timeout(_) => "the database doesn't answer",
        _ => "the change stream of the database broke off",
    };
    Error::unavailable("database", message).with_source(error)
}

/// What a consumer needs is gone, or was never there.
pub(super) fn position_lost(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Conflict, message).with_code("position_lost")
}

pub(super) fn not_started() -> Error {
    Error::internal("the change source was not started")
}
