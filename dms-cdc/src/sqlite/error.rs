//! What errors of the database mean.

use dms_core::{Error, ErrorKind};

// Result codes of SQLite, https://sqlite.org/rescode.html.
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_NOTADB: u32 = 26;
const SQLITE_ERROR: u32 = 1;

/// The error for a failed query. Most of what can fail is worth a retry; a missing table or a
/// damaged file isn't.
pub(super) fn query_failed(error: sqlx::Error) -> Error {
    let code = match &error {
        sqlx::Error::Database(database) => {
            database.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
        }
        _ => None,
    };
    let is_defect = match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => true,
        _ => matches!(code, Some(SQLITE_CORRUPT | SQLITE_NOTADB | SQLITE_ERROR)),
    };
    if code == Some(SQLITE_FULL) {
        Error::new(ErrorKind::StorageFull, "the change log's database is full").with_source(error)
    } else if is_defect {
        Error::internal("the change log can't be read").with_source(error)
    } else {
        Error::unavailable("database", "the change log can't be reached").with_source(error)
    }
}

/// What a consumer needs is gone, or was never there.
pub(super) fn position_lost(message: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, message).with_code("position_lost")
}
