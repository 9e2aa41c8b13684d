//! Ports to other services, tokens and time.

use async_trait::async_trait;
use time::OffsetDateTime;

use crate::{Caller, Claims, Document, DocumentId, Result, SignatureId};

/// What signing needs from the document service.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DocumentClient: Send + Sync {
    /// The document.
    ///
    /// # Errors
    /// `NotFound`; `Unavailable` or `Timeout` if the service can't be reached.
    async fn get(&self, caller: &Caller, id: DocumentId) -> Result<Document>;

    /// Sets the document to `signed` because of a signature. The same signature never does so
    /// twice: a document that was changed since stays as it is.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn mark_signed(
        &self,
        caller: &Caller,
        id: DocumentId,
        signature: SignatureId,
    ) -> Result<Document>;
}

/// Checks bearer tokens.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TokenVerifier: Send + Sync {
    /// What the token says, once its signature, time, issuer and audience are in order.
    ///
    /// # Errors
    /// `Unauthenticated` with code `token_expired` or `token_invalid`; `Unavailable` if the keys can't
    /// be fetched.
    async fn verify(&self, token: &str) -> Result<Claims>;
}

/// The time.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> OffsetDateTime;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}
