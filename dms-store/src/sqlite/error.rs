//! `SQLite`'s result codes as error kinds.

use std::error::Error as StdError;
use std::sync::Arc;

use dms_core::{Error, ErrorKind};

use crate::sql::DATABASE;

/// Primary result codes (<https://www.sqlite.org/rescode.html>).
mod code {
    pub(super) const PERM: i32 = 3;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const TOOBIG: i32 = 18;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const NOTADB: i32 = 26;
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    let extended = error.as_database_error()?.code()?;
    extended.parse::<i32>().ok().map(|extended| extended & 0xff)
}

/// Whether the statement that failed was undone alone, so that the transaction around it goes on.
///
/// Other errors may have rolled the transaction back
/// (<https://www.sqlite.org/lang_transaction.html>, "response to errors within a transaction").
pub(super) fn concerns_one_statement(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(code::CONSTRAINT | code::TOOBIG | code::MISMATCH))
        || matches!(error, sqlx::Error::Encode(_))
}

/// Whether somebody else holds a lock that the statement needs.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(code::BUSY | code::LOCKED))
}

/// What a constraint or trigger said, if one refused the statement.
pub(super) fn refusal(error: &sqlx::Error) -> Option<&str> {
    (primary_code(error) == Some(code::CONSTRAINT))
        .then(|| error.as_database_error())
        .flatten()
        .map(sqlx::error::DatabaseError::message)
}

/// Kind and message that an error from `SQLite` or the pool has for callers.
fn describe(error: &sqlx::Error) -> (ErrorKind, &'static str) {
    use ErrorKind::{Internal, StorageFull, Unavailable};
    match error {
        sqlx::Error::Database(_) => match primary_code(error) {
            Some(code::FULL) => (StorageFull, "no space left for the database"),
            Some(code::BUSY | code::LOCKED) => (Unavailable, "database locked by another process"),
            Some(code::IOERR) => (Unavailable, "database file can't be read or written"),
            Some(code::CANTOPEN) => (Unavailable, "database file can't be opened"),
            Some(code::PERM | code::READONLY) => (Unavailable, "database file can't be written to"),
            Some(code::NOTADB) => (Internal, "database file is no sqlite database"),
            Some(code::CORRUPT) => (Internal, "database file is corrupt"),
            Some(code::CONSTRAINT) => (Internal, "row refused by the database"),
            _ => (Internal, "statement failed"),
        },
        sqlx::Error::PoolTimedOut => (Unavailable, "no database connection free in time"),
        sqlx::Error::PoolClosed => (Unavailable, "database closed"),
        sqlx::Error::Io(_) => (Unavailable, "database can't be reached"),
        sqlx::Error::WorkerCrashed => (Unavailable, "database connection lost"),
        _ => (Internal, "row can't be read"),
    }
}

fn build(
    (kind, message): (ErrorKind, &'static str),
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    let error = match kind {
        ErrorKind::Unavailable => Error::unavailable(DATABASE, message),
        kind => Error::new(kind, message),
    };
    error.with_source(source)
}

/// The error of a failed read or statement.
pub(super) fn from_sqlx(error: sqlx::Error) -> Error {
    build(describe(&error), error)
}

/// The error of a write whose group failed before its commit: it had no effect.
pub(super) fn not_committed(error: &Arc<sqlx::Error>) -> Error {
    build(describe(error), Arc::clone(error))
}

/// The error of a write whose commit failed.
///
/// A full disk and a lock are found before the commit can take effect. After a failed sync the
/// transaction may be there or not once the file is opened again: nobody can say.
pub(super) fn commit_failed(error: &Arc<sqlx::Error>) -> Error {
    match primary_code(error) {
        Some(code::FULL | code::BUSY | code::LOCKED) => not_committed(error),
        _ => build((ErrorKind::Timeout, "outcome of the commit unknown"), Arc::clone(error)),
    }
}
