//! Errors that every database gives for the same reasons.

use std::borrow::Cow;
use std::error::Error as StdError;

use dms_core::{Error, ErrorKind};

/// There is a row with this id; `what` names the kind of thing.
pub(crate) fn already_exists(what: &str) -> Error {
    Error::new(ErrorKind::Conflict, format!("there is a {what} with this id"))
        .with_code("already_exists")
}

/// The address signed the document before.
pub(crate) fn already_signed() -> Error {
    Error::new(ErrorKind::Conflict, "this address signed the document before")
        .with_code("already_signed")
}

/// The key was completed while the caller worked.
pub(crate) fn completed_meanwhile() -> Error {
    Error::new(ErrorKind::Conflict, "another request with this key was faster")
        .with_code("idempotency_key_completed")
}

/// The key completed another request.
pub(crate) fn key_reused() -> Error {
    Error::invalid("Idempotency-Key", "was used for another request")
        .with_code("idempotency_key_reused")
}

/// The error of a stored value that doesn't have the shape it was written with.
pub(crate) fn unreadable(
    what: impl Into<Cow<'static, str>>,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> Error {
    Error::internal(format!("stored {} can't be read", what.into())).with_source(source)
}
