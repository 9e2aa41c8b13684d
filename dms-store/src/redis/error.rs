//! Errors of Redis as error kinds.

use dms_core::Error;
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Name of the dependency in errors and readiness.
const CACHE: &str = "cache";

/// Redis can't do what was asked, for now.
pub(super) fn unavailable(message: &'static str) -> Error {
    Error::unavailable(CACHE, message)
}

/// The error of a request that was answered with one, or not at all.
pub(super) fn from_redis(error: RedisError) -> Error {
    unavailable("cache refused a request").with_source(error)
}

/// Whether an error says that nothing more is to be had from the connection: it's broken, or who is
/// at its other end can't serve for now.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    let cannot_serve = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading | ServerErrorKind::MasterDown | ServerErrorKind::ReadOnly
        ) | ErrorKind::AuthenticationFailed
    );
    cannot_serve || error.is_io_error() || error.is_unrecoverable_error()
}
