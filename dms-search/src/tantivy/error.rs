//! What went wrong in tantivy, in terms of the ports.

use std::io;

use dms_core::{Error, ErrorKind};
use tantivy::TantivyError;
use tantivy::directory::error::{OpenDirectoryError, OpenReadError, OpenWriteError};

use super::DEPENDENCY;

/// Makes an error of one of tantivy's; `doing` says what failed, in words for a log.
pub(super) fn failed(doing: &'static str) -> impl Fn(TantivyError) -> Error {
    move |error| classified(doing, &error).with_source(error)
}

/// Makes an error of one of the file system's.
pub(super) fn io_failed(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| of_io(doing, &error).with_source(error)
}

/// A search that took too long.
pub(super) fn overdue() -> Error {
    Error::unavailable(DEPENDENCY, "the search index is overloaded")
}

fn classified(doing: &'static str, error: &TantivyError) -> Error {
    match error {
        TantivyError::IoError(error)
        | TantivyError::OpenDirectoryError(OpenDirectoryError::IoError {
            io_error: error, ..
        })
        | TantivyError::OpenReadError(OpenReadError::IoError { io_error: error, .. })
        | TantivyError::OpenWriteError(OpenWriteError::IoError { io_error: error, .. }) => {
            of_io(doing, error)
        }
        // Whatever stopped a thread of the writer, the next write begins with a new one.
        TantivyError::LockFailure(..)
        | TantivyError::ErrorInThread(_)
        | TantivyError::SystemError(_) => Error::unavailable(DEPENDENCY, doing),
        _ => Error::internal(doing),
    }
}

fn of_io(doing: &'static str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::StorageFull, doing)
        }
        // Bytes that don't mean anything won't mean more later.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Error::internal(doing),
        _ => Error::unavailable(DEPENDENCY, doing),
    }
}
