//! Who may call.

use std::fmt;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use dms_core::ports::TokenVerifier;
use dms_core::{Claims, Error, ErrorKind, Result, Sha256};
use subtle::ConstantTimeEq as _;

use crate::auth::bearer_token;

/// What callers must show. Health stays open in either case.
#[derive(Clone, Default)]
pub enum GrpcAuthentication {
    /// Nothing.
    #[default]
    Off,
    /// `authorization: Bearer TOKEN` with a token that `verifier` accepts, or the service token.
    Required {
        /// Checks the tokens of users.
        verifier: Arc<dyn TokenVerifier>,
        /// What services of the system show each other.
        service_token: Option<ServiceToken>,
    },
}

impl fmt::Debug for GrpcAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Required { service_token, .. } => f
                .debug_struct("Required")
                .field("service_token", service_token)
                .finish_non_exhaustive(),
        }
    }
}

impl GrpcAuthentication {
    /// What the caller's token says: nothing if authentication is off or the service token was
    /// shown.
    ///
    /// # Errors
    /// `Unauthenticated`; `Unavailable` while tokens can't be checked.
    pub(super) async fn authenticate(&self, headers: &HeaderMap) -> Result<Option<Arc<Claims>>> {
        let Self::Required { verifier, service_token } = self else { return Ok(None) };
        let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = authorization
            .and_then(bearer_token)
            .ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "a bearer token is required"))?;
        if service_token.as_ref().is_some_and(|expected| expected.is(token)) {
            return Ok(None);
        }
        Ok(Some(Arc::new(verifier.verify(token).await?)))
    }
}

/// A secret that services of the system show each other. Never printed.
#[derive(Clone)]
pub struct ServiceToken(Arc<str>);

impl ServiceToken {
    /// Fewest characters of a token.
    pub const LENGTH_MIN: usize = 16;
    /// Most characters of a token.
    pub const LENGTH_MAX: usize = 4_096;

    /// The token `text`.
    ///
    /// # Errors
    /// `Invalid` unless it is 16 to 4,096 visible ASCII characters without spaces.
    pub fn new(text: &str) -> Result<Self> {
        let length = Self::LENGTH_MIN..=Self::LENGTH_MAX;
        if !length.contains(&text.len()) || !text.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(Error::invalid(
                "service_token",
                "must be 16 to 4096 visible ASCII characters without spaces",
            ));
        }
        Ok(Self(Arc::from(text)))
    }

    /// Compares in a time that depends neither on where nor on whether the two differ. Digests are
    /// compared, so the token's length doesn't show either.
    fn is(&self, shown: &str) -> bool {
        let (expected, shown) = (Sha256::of(self.0.as_bytes()), Sha256::of(shown.as_bytes()));
        expected.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// The value of `authorization` that shows it.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_only_itself() {
        let token = ServiceToken::new("0123456789abcdef").unwrap();
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.is(other), "{other:?}");
        }
    }

    #[test]
    fn weak_and_unprintable_tokens_are_refused() {
        for bad in ["", "short", "0123456789abcde f", "0123456789abcdef\n", "0123456789abcdefé"] {
            assert!(ServiceToken::new(bad).is_err(), "{bad:?}");
        }
        assert!(ServiceToken::new(&"x".repeat(ServiceToken::LENGTH_MAX + 1)).is_err());
    }

    #[test]
    fn a_token_never_shows_in_debug_output() {
        let token = ServiceToken::new("0123456789abcdef").unwrap();
        assert!(!format!("{token:?}").contains("0123"));
    }
}
