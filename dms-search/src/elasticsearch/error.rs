//! What went wrong in Elasticsearch or on the way to it, in terms of the ports.

use std::error::Error as StdError;
use std::fmt;

use dms_core::Error;
use dms_core::ports::{INDEX_MISSING, index_missing};
use reqwest::StatusCode;
use serde::Deserialize;

use super::DEPENDENCY;
use super::client::Answer;

/// Code of errors of an index that is laid out otherwise than it was.
const OTHER_LAYOUT: &str = "index_laid_out_otherwise";

/// Why Elasticsearch refused something, in its own words: the cause of errors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub(super) struct Refusal {
    /// Its name of the error, `snake_case`.
    #[serde(rename = "type", default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) caused_by: Option<Box<Refusal>>,
}

impl Refusal {
    /// Whether the index takes no writes for now: the disk is nearly full, or somebody set it so.
    pub(super) fn is_block(&self) -> bool {
        self.name == "cluster_block_exception"
    }

    /// Whether the index lacks a field. Every document has the same ones, so it is not about one of
    /// them: the index was replaced by one that another program made.
    pub(super) fn is_unknown_field(&self) -> bool {
        self.name == "strict_dynamic_mapping_exception"
            || self.caused_by.as_ref().is_some_and(|cause| cause.is_unknown_field())
    }

    /// Whether there is no index, or no alias of the name.
    pub(super) fn is_missing_index(&self) -> bool {
        self.name == "index_not_found_exception"
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

impl StdError for Refusal {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.caused_by.as_deref().map(|cause| cause as _)
    }
}

/// The body of an answer of failure.
#[derive(Deserialize)]
struct Failure {
    error: Refusal,
}

/// What an answer of failure says; nothing if it isn't Elasticsearch's.
pub(super) fn refusal(answer: &Answer) -> Refusal {
    let failure: Result<Failure, _> = serde_json::from_slice(&answer.body);
    failure.map(|failure| failure.error).unwrap_or_default()
}

/// The error of an answer that isn't one of success.
pub(super) fn of_answer(answer: &Answer) -> Error {
    of_refusal(answer.status, refusal(answer))
}

/// The error of a refusal that concerns the whole request.
pub(super) fn of_refusal(status: StatusCode, refusal: Refusal) -> Error {
    if refusal.is_missing_index() {
        return index_missing().with_source(refusal);
    }
    if refusal.is_block() {
        return Error::unavailable(DEPENDENCY, "the search index takes no writes for now")
            .with_code("index_blocked")
            .with_source(refusal);
    }
    if refusal.is_unknown_field() {
        return Error::unavailable(DEPENDENCY, "the search index is laid out otherwise")
            .with_code(OTHER_LAYOUT)
            .with_source(refusal);
    }
    let unavailable = |message| Error::unavailable(DEPENDENCY, message);
    let error = match status {
        StatusCode::TOO_MANY_REQUESTS => unavailable("the search index is overloaded"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            unavailable("the search index refuses the credentials")
        }
        status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
            unavailable("the search index can't answer")
        }
        _ => Error::internal("the search index refuses the request"),
    };
    if refusal.name.is_empty() {
        error.with_source(format!("status {}", status.as_u16()))
    } else {
        error.with_source(refusal)
    }
}

/// The error of a request that was not answered.
pub(super) fn of_transport(error: reqwest::Error) -> Error {
    let message = if error.is_connect() {
        "the search index can't be reached"
    } else if error.is_timeout() {
        "the search index didn't answer in time"
    } else {
        "connection to the search index lost"
    };
    Error::unavailable(DEPENDENCY, message).with_source(error.without_url())
}

/// A request that waited or ran for too long.
pub(super) fn overloaded() -> Error {
    Error::unavailable(DEPENDENCY, "the search index didn't answer in time")
}

/// An answer that makes no sense: something on the way, or a server that is just stopping.
pub(super) fn unreadable(why: &'static str) -> Error {
    Error::unavailable(DEPENDENCY, format!("answer of the search index {why}"))
}

/// Whether what is known of the index is no longer so.
pub(super) fn is_about_layout(error: &Error) -> bool {
    matches!(error.code(), INDEX_MISSING | OTHER_LAYOUT)
}
