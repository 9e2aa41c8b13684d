//! `PostgreSQL`'s error codes as error kinds.

use std::error::Error as StdError;
use std::time::Duration;

use dms_core::{Error, ErrorKind};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::sql::DATABASE;

/// Why a statement gave no rows.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused it: it had no effect.
    Refused(sqlx::Error),
    /// It wasn't sent, or nobody knows what became of it.
    Other(Error),
}

impl Failure {
    /// The constraint that refused the row, if one did.
    pub(super) fn constraint(&self) -> Option<&str> {
        match self {
            Self::Refused(error) => error.as_database_error()?.constraint(),
            Self::Other(_) => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => from_sqlx(error),
            Failure::Other(error) => error,
        }
    }
}

fn postgres(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// The code of an error that the server sent
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    postgres(error).map(PgDatabaseError::code)
}

/// Whether the server ended the connection along with the statement.
fn is_fatal(error: &sqlx::Error) -> bool {
    postgres(error).is_some_and(|e| matches!(e.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

/// Whether a pooler says that it has no server for the statement, so that none ever saw it. When it
/// lost the server meanwhile, it says something else with the same code.
///
/// The messages are those with which `PgBouncer` (1.21 to 1.25) lets go of clients that wait.
fn says_no_server(code: &str, message: &str) -> bool {
    const MESSAGES: [&str; 6] = [
        "query_wait_timeout",
        "server login has been failing",
        "connect failed",
        "connect timeout",
        "server DNS lookup failed",
        "pgbouncer cannot connect to server",
    ];
    code == code::PROTOCOL_VIOLATION && MESSAGES.iter().any(|one| message.starts_with(one))
}

/// Whether a pooler answered for a server that it doesn't have.
pub(super) fn found_no_server(error: &sqlx::Error) -> bool {
    postgres(error).is_some_and(|e| says_no_server(e.code(), e.message()))
}

/// Whether the server answered that the statement had no effect.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        // A server or pooler that shuts down says so in answer to a statement it may have run.
        sqlx::Error::Database(_) => !is_fatal(error) || found_no_server(error),
        sqlx::Error::Encode(_) => true,
        _ => false,
    }
}

/// Whether the connection is as good as before.
///
/// After what isn't expected it is given up: a plan that no longer fits the table, for one, stays
/// in it.
pub(super) fn leaves_connection_sound(error: &sqlx::Error) -> bool {
    let expected = |code: &str| {
        matches!(code.get(..2), Some("22" | "23" | "40"))
            || matches!(code, code::QUERY_CANCELED | code::LOCK_NOT_AVAILABLE)
    };
    !is_fatal(error) && sqlstate(error).is_some_and(expected)
}

pub(super) mod code {
    pub(super) const INVALID_TEXT: [&str; 2] = ["22021", "22P05"];
    pub(in crate::postgres) const PROTOCOL_VIOLATION: &str = "08P01";
    pub(super) const QUERY_CANCELED: &str = "57014";
    pub(super) const LOCK_NOT_AVAILABLE: &str = "55P03";
    pub(super) const DISK_FULL: &str = "53100";
    pub(super) const PROGRAM_LIMIT: &str = "54000";
    pub(super) const READ_ONLY: &str = "25006";
    pub(super) const NO_DATABASE: &str = "3D000";
    pub(super) const NO_PRIVILEGE: &str = "42501";
    /// Table, column, function, schema.
    pub(super) const NOT_DEFINED: [&str; 4] = ["42P01", "42703", "42883", "3F000"];
    /// A statement that isn't there, or is there twice.
    pub(super) const STATEMENT_NAME: [&str; 2] = ["26000", "42P05"];
}

/// Kind and message that an error from the server or a connection has for callers.
fn describe(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    use ErrorKind::{Internal, Invalid, StorageFull, Unavailable};
    let Some(code) = sqlstate(error) else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => {
                (Unavailable, "database can't be reached")
            }
            sqlx::Error::Tls(_) => (Unavailable, "no secure connection to the database"),
            sqlx::Error::Encode(_) => (Internal, "statement can't be written"),
            _ => (Internal, "row can't be read"),
        };
    };
    match (code, code.get(..2).unwrap_or_default()) {
        (code::QUERY_CANCELED, _) => (Unavailable, "database took too long"),
        (code::LOCK_NOT_AVAILABLE, _) | (_, "40") => (Unavailable, "row locked by others"),
        (code::DISK_FULL, _) => (StorageFull, "no space left for the database"),
        (code::PROGRAM_LIMIT, _) => (Invalid, "too long for the database"),
        (code::READ_ONLY, _) => (Unavailable, "database is read-only"),
        (code::NO_DATABASE, _) => (Unavailable, "no such database"),
        (code::NO_PRIVILEGE, _) => (Internal, "database role may not do that"),
        (c, _) if code::INVALID_TEXT.contains(&c) => (Invalid, "text must not hold U+0000"),
        (c, _) if code::NOT_DEFINED.contains(&c) => {
            (Unavailable, "database schema isn't there, or another one")
        }
        (c, _) if code::STATEMENT_NAME.contains(&c) => {
            (Internal, "prepared statements get lost between here and the database")
        }
        (_, "28") => (Unavailable, "database refuses the role or its password"),
        (_, "08" | "53" | "57" | "58") => (Unavailable, "database can't be reached"),
        (_, "23") => (Internal, "row refused by the database"),
        (_, "XX") => (Internal, "database is damaged"),
        _ => (Internal, "statement failed"),
    }
}

/// The error of something that the server refused, or of a connection that wasn't made.
pub(super) fn from_sqlx(error: sqlx::Error) -> Error {
    let (kind, message) = describe(&error);
    match kind {
        ErrorKind::Unavailable => Error::unavailable(DATABASE, message),
        kind => Error::new(kind, message),
    }
    .with_source(error)
}

/// Nobody answered in time, and nothing was asked for that could take effect.
pub(super) fn no_answer(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::unavailable(DATABASE, "database doesn't answer").with_source(source)
}

/// A write was sent, and no answer came: it may have taken effect.
pub(super) fn outcome_unknown(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Timeout, "database didn't say whether it wrote")
        .with_retry_after(Duration::from_secs(1))
        .with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_is_no_refusal() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(!is_refusal(&broken()));
        assert!(!leaves_connection_sound(&broken()));
        let error = from_sqlx(broken());
        assert_eq!((error.kind(), error.dependency()), (ErrorKind::Unavailable, Some("database")));
        assert!(error.retry_after().is_some());
    }

    #[test]
    fn a_pooler_without_a_server_ran_nothing_and_one_that_lost_it_may_have() {
        let cached = "server login has been failing, cached error: connect failed \
                      (server_login_retry)";
        assert!(says_no_server("08P01", cached));
        assert!(says_no_server("08P01", "query_wait_timeout"));
        for lost in ["server conn crashed?", "query_timeout", "client_idle_timeout", ""] {
            assert!(!says_no_server("08P01", lost), "{lost}");
        }
        assert!(!says_no_server("57P01", cached));
    }

    #[test]
    fn an_unknown_outcome_is_never_unavailable() {
        let error = outcome_unknown(sqlx::Error::PoolClosed);
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.is_retryable());
    }
}
