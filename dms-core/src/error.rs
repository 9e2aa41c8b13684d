//! The one error type of the family: a small set of kinds, a code, and the cause kept as a source.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Result of every port and use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in terms a caller can act on.
///
/// The table from kinds to HTTP statuses and gRPC codes is in `dms-rpc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request can't be read at all: broken JSON, a truncated body, a bad cursor.
    Malformed,
    /// The request is readable, and a value in it is not acceptable; see [`Error::fields`].
    Invalid,
    /// No valid proof of who asks.
    Unauthenticated,
    /// The thing asked for doesn't exist, or no longer does.
    NotFound,
    /// The request contradicts the present state: already there, still running.
    Conflict,
    /// The version given is not the present one; see [`Error::current_version`].
    VersionMismatch,
    /// The content is larger than is accepted.
    TooLarge,
    /// The byte range asked for lies outside the content.
    RangeNotSatisfiable,
    /// The store has no space left.
    StorageFull,
    /// A dependency can't be reached or is overloaded; trying again later can succeed.
    Unavailable,
    /// The deadline passed; whether the request took effect is unknown.
    Timeout,
    /// A defect or corrupt data: trying again won't help.
    Internal,
}

impl ErrorKind {
    /// The machine-readable code of an error of this kind that has no code of its own.
    pub const fn default_code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_request",
            Self::Invalid => "validation_failed",
            Self::Unauthenticated => "unauthenticated",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::VersionMismatch => "version_mismatch",
            Self::TooLarge => "content_too_large",
            Self::RangeNotSatisfiable => "range_not_satisfiable",
            Self::StorageFull => "storage_full",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call can succeed later without being changed.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::StorageFull)
    }
}

/// A value that was refused, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Name of the field as it is on the wire.
    pub field: String,
    /// What is accepted.
    pub message: String,
}

impl FieldError {
    /// A refusal of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// An error of any port or use case.
///
/// `Display` is the message alone; causes are reached through [`std::error::Error::source`].
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    code: &'static str,
    message: String,
    fields: Vec<FieldError>,
    current_version: Option<i32>,
    content_size: Option<u64>,
    retry_after: Option<Duration>,
    dependency: Option<&'static str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind, with the kind's own code.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            code: kind.default_code(),
            message: message.into(),
            fields: Vec::new(),
            current_version: None,
            content_size: None,
            retry_after: None,
            dependency: None,
            source: None,
        }))
    }

    /// [`ErrorKind::NotFound`]: `what` names the kind of thing, for instance `document`.
    pub fn not_found(what: &str, id: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("no {what} with id {id}"))
    }

    /// [`ErrorKind::Invalid`] for one field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError::new(field, message)])
    }

    /// [`ErrorKind::Invalid`] for several fields at once.
    pub fn invalid_fields(fields: Vec<FieldError>) -> Self {
        let names: Vec<_> = fields.iter().map(|f| f.field.as_str()).collect();
        let mut error =
            Self::new(ErrorKind::Invalid, format!("not acceptable: {}", names.join(", ")));
        error.0.fields = fields;
        error
    }

    /// [`ErrorKind::Malformed`].
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, message)
    }

    /// [`ErrorKind::VersionMismatch`]: the document is at `current`.
    pub fn version_mismatch(expected: i32, current: i32) -> Self {
        let mut error = Self::new(
            ErrorKind::VersionMismatch,
            format!("expected version {expected}, the document is at version {current}"),
        );
        error.0.current_version = Some(current);
        error
    }

    /// [`ErrorKind::TooLarge`]: content of more than `limit` bytes.
    pub fn too_large(limit_bytes: u64) -> Self {
        Self::new(ErrorKind::TooLarge, format!("content is larger than {limit_bytes} bytes"))
    }

    /// [`ErrorKind::RangeNotSatisfiable`]: the content has `size` bytes.
    pub fn range_not_satisfiable(size: u64) -> Self {
        let mut error = Self::new(
            ErrorKind::RangeNotSatisfiable,
            format!("the range lies outside the {size} bytes of the content"),
        );
        error.0.content_size = Some(size);
        error
    }

    /// [`ErrorKind::Unavailable`]: `dependency` is the name that readiness reports too.
    pub fn unavailable(dependency: &'static str, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Unavailable, message);
        error.0.dependency = Some(dependency);
        error.0.retry_after = Some(Duration::from_secs(1));
        error
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same error for one more of several callers that waited for one result.
    pub fn shared(error: &Arc<Self>) -> Self {
        let inner = &error.0;
        Self(Box::new(Inner {
            kind: inner.kind,
            code: inner.code,
            message: inner.message.clone(),
            fields: inner.fields.clone(),
            current_version: inner.current_version,
            content_size: inner.content_size,
            retry_after: inner.retry_after,
            dependency: inner.dependency,
            source: inner.source.as_ref().map(|_| Box::new(SharedCause(Arc::clone(error))) as _),
        }))
    }

    /// Replaces the code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = code;
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// When it makes sense to try again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Machine-readable code, `snake_case`.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The fields that were refused; empty unless the kind is [`ErrorKind::Invalid`].
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// The version the document is at, for [`ErrorKind::VersionMismatch`].
    pub fn current_version(&self) -> Option<i32> {
        self.0.current_version
    }

    /// The size of the content in bytes, for [`ErrorKind::RangeNotSatisfiable`].
    pub fn content_size(&self) -> Option<u64> {
        self.0.content_size
    }

    /// When it makes sense to try again, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The dependency that failed, if one did.
    pub fn dependency(&self) -> Option<&'static str> {
        self.0.dependency
    }

    /// Whether the same call can succeed later without being changed.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &self.0.kind).field("code", &self.0.code);
        debug.field("message", &self.0.message);
        if !self.0.fields.is_empty() {
            debug.field("fields", &self.0.fields);
        }
        if let Some(dependency) = self.0.dependency {
            debug.field("dependency", &dependency);
        }
        if let Some(source) = &self.0.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// The cause of an error that several callers got.
struct SharedCause(Arc<Error>);

impl SharedCause {
    fn cause(&self) -> &(dyn StdError + 'static) {
        self.0.source().unwrap_or(&*self.0)
    }
}

impl fmt::Display for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.cause(), f)
    }
}

impl fmt::Debug for SharedCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.cause(), f)
    }
}

impl StdError for SharedCause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause().source()
    }
}

/// An error with its causes, one after the other, for a log line.
pub struct ErrorChain<'a>(pub &'a (dyn StdError + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_error_says_what_the_original_says() {
        let disk = std::io::Error::other("disk gone");
        let cause = Error::internal("read failed").with_source(disk);
        let original = Error::unavailable("database", "no answer")
            .with_code("database_down")
            .with_source(cause);
        let original = Arc::new(original);
        let shared = Error::shared(&original);
        assert_eq!(ErrorChain(&shared).to_string(), "no answer: read failed: disk gone");
        assert_eq!(ErrorChain(&shared).to_string(), ErrorChain(&*original).to_string());
        assert_eq!(shared.kind(), ErrorKind::Unavailable);
        assert_eq!(shared.code(), "database_down");
        assert_eq!(shared.dependency(), Some("database"));
        assert_eq!(shared.retry_after(), original.retry_after());

        let bare = Error::shared(&Arc::new(Error::not_found("document", "x")));
        assert_eq!(ErrorChain(&bare).to_string(), "no document with id x");
    }
}
