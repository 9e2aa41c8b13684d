//! What can go wrong with a call.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use dms_core::{Error, ErrorKind, FieldError};
use reqwest::StatusCode;

use super::content::ContentFailed;
use crate::problem::{kind_of_http_status, known_code};
use crate::types::FieldProblem;

/// Result of a call.
pub type ClientResult<T> = Result<T, ClientError>;

type Cause = Box<dyn StdError + Send + Sync>;

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The server refused the request or failed.
    Problem(Box<Problem>),
    /// No answer, or only a part of it: no connection, or it was lost. Unless `unsent`, whether the
    /// request took effect is unknown.
    Unreachable {
        /// Whether the request certainly wasn't sent.
        unsent: bool,
        /// What happened.
        source: Cause,
    },
    /// No answer in time; whether the request took effect is unknown.
    Timeout(Cause),
    /// The answer isn't what a server of this interface gives.
    Unreadable(Cause),
    /// The content to be sent could not be read.
    Content(Cause),
    /// The request can't be sent: a malformed address, token, key or range.
    Request(Cause),
    /// The server closed a live connection; see [`CloseCode`].
    Closed {
        /// Why.
        code: CloseCode,
        /// What the server says to it.
        reason: String,
    },
}

/// What the server answered instead of a result (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Machine-readable, `snake_case`; empty if the answer came from something in between.
    pub code: String,
    /// What is wrong with the request.
    pub detail: String,
    /// The fields that were refused, for status 422.
    pub fields: Vec<FieldProblem>,
    /// Under which the server's logs name the request.
    pub request_id: Option<String>,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
    /// The version the document is at, for status 412.
    pub current_version: Option<i32>,
}

/// Why the server closed a live connection: a close code of RFC 6455, section 7.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The server restarts: connect again after a random pause.
    pub const RESTARTING: Self = Self(1012);
    /// This side reads too slowly.
    pub const TOO_SLOW: Self = Self(1013);
    /// The token has expired: connect again with another one.
    pub const TOKEN_EXPIRED: Self = Self(4401);
    /// The document is deleted.
    pub const DOCUMENT_DELETED: Self = Self(4404);
}

impl ClientError {
    pub(super) fn of_transport(error: reqwest::Error) -> Self {
        // Addresses can hold what users typed; causes end up in logs.
        let error = error.without_url();
        if caused_by_content(&error) {
            Self::Content(error.into())
        } else if error.is_builder() {
            Self::request(error)
        } else if error.is_connect() {
            Self::Unreachable { unsent: true, source: error.into() }
        } else if error.is_timeout() {
            Self::Timeout(error.into())
        } else if error.is_decode() {
            Self::unreadable(error)
        } else {
            Self::lost(error)
        }
    }

    pub(super) fn request(cause: impl Into<Cause>) -> Self {
        Self::Request(cause.into())
    }

    pub(super) fn unreadable(cause: impl Into<Cause>) -> Self {
        Self::Unreadable(cause.into())
    }

    pub(super) fn timeout(what: &'static str) -> Self {
        Self::Timeout(what.into())
    }

    pub(super) fn lost(cause: impl Into<Cause>) -> Self {
        Self::Unreachable { unsent: false, source: cause.into() }
    }

    /// What the server answered, if it did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// The HTTP status, if the server answered with one that stands for an error.
    pub fn status(&self) -> Option<u16> {
        self.problem().map(|problem| problem.status)
    }

    /// The machine-readable code, if the server gave one.
    pub fn code(&self) -> Option<&str> {
        self.problem().map(|problem| problem.code.as_str()).filter(|code| !code.is_empty())
    }

    /// When it makes sense to try again, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.problem().and_then(|problem| problem.retry_after)
    }

    /// Whether another request with the same `Idempotency-Key` is under way.
    pub(super) fn is_in_progress(&self) -> bool {
        self.problem().is_some_and(Problem::is_in_progress)
    }

    /// Whether the same call can succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.is_transient() || problem.status == 507,
            Self::Unreachable { .. } | Self::Timeout(_) => true,
            Self::Closed { code, .. } => {
                matches!(*code, CloseCode::RESTARTING | CloseCode::TOO_SLOW)
            }
            Self::Unreadable(_) | Self::Content(_) | Self::Request(_) => false,
        }
    }
}

impl Problem {
    /// Whether a repetition within moments may succeed.
    pub(super) fn is_transient(&self) -> bool {
        matches!(self.status, 429 | 502 | 503 | 504) || self.is_in_progress()
    }

    fn is_in_progress(&self) -> bool {
        self.status == 409 && self.code == "request_in_progress"
    }
}

fn caused_by_content(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<ContentFailed>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => problem.fmt(f),
            Self::Unreachable { unsent: true, .. } => f.write_str("server can't be reached"),
            Self::Unreachable { .. } => f.write_str("connection to the server lost"),
            Self::Timeout(_) => f.write_str("server didn't answer in time"),
            Self::Unreadable(_) => f.write_str("server's answer can't be read"),
            Self::Content(_) => f.write_str("content can't be read"),
            Self::Request(_) => f.write_str("request can't be sent"),
            Self::Closed { code: CloseCode(code), reason } => {
                write!(f, "connection closed with code {code}")?;
                if reason.is_empty() { Ok(()) } else { write!(f, ", {reason}") }
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StatusCode::from_u16(self.status) {
            Ok(status) => write!(f, "{status}")?,
            Err(_) => write!(f, "{}", self.status)?,
        }
        if !self.code.is_empty() {
            write!(f, ", {}", self.code)?;
        }
        for FieldProblem { field, message } in &self.fields {
            write!(f, ", {field} {message}")?;
        }
        if self.fields.is_empty() && !self.detail.is_empty() {
            write!(f, ", {}", self.detail)?;
        }
        match &self.request_id {
            Some(id) => write!(f, ", request id {id}"),
            None => Ok(()),
        }
    }
}

impl StdError for ClientError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Problem(_) | Self::Closed { .. } => None,
            Self::Unreachable { source, .. }
            | Self::Timeout(source)
            | Self::Unreadable(source)
            | Self::Content(source)
            | Self::Request(source) => Some(&**source),
        }
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Problem(problem) => {
                kind_of_http_status(problem.status).unwrap_or(ErrorKind::Internal)
            }
            ClientError::Unreachable { .. } | ClientError::Closed { .. } => ErrorKind::Unavailable,
            ClientError::Timeout(_) => ErrorKind::Timeout,
            ClientError::Unreadable(_) | ClientError::Content(_) => ErrorKind::Internal,
            ClientError::Request(_) => ErrorKind::Malformed,
        };
        let mut core = match error.problem() {
            Some(problem) if !problem.fields.is_empty() => {
                let field = |f: &FieldProblem| FieldError::new(&f.field, &f.message);
                Error::invalid_fields(problem.fields.iter().map(field).collect())
            }
            _ => Error::new(kind, error.to_string()),
        };
        if let Some(code) = error.code().and_then(known_code) {
            core = core.with_code(code);
        }
        if let Some(after) = error.retry_after() {
            core = core.with_retry_after(after);
        }
        core.with_source(error)
    }
}
