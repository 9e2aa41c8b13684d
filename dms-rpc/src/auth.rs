//! Bearer tokens (RFC 6750), asked for by REST and gRPC alike.

use std::fmt;
use std::sync::Arc;

use dms_core::ports::TokenVerifier;
use dms_core::{Claims, Error, ErrorKind, Result};

/// Whether callers must show a token.
#[derive(Clone, Default)]
pub enum Authentication {
    /// Whoever can connect may call; tokens are not looked at.
    #[default]
    Off,
    /// Every call needs a token that this verifier accepts.
    Required(Arc<dyn TokenVerifier>),
}

impl Authentication {
    /// Whether callers must show a token.
    pub fn is_required(&self) -> bool {
        matches!(self, Self::Required(_))
    }

    /// What the token in an `Authorization` header says; none if tokens are not looked at.
    ///
    /// # Errors
    /// `Unauthenticated` with code `unauthenticated` if there is no bearer token, with
    /// `token_expired` or `token_invalid` if it is refused; `Unavailable` if it can't be checked.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Option<Arc<Claims>>> {
        let Self::Required(verifier) = self else { return Ok(None) };
        let token = authorization
            .and_then(bearer_token)
            .ok_or_else(|| Error::new(ErrorKind::Unauthenticated, "a bearer token is required"))?;
        verifier.verify(token).await.map(|claims| Some(Arc::new(claims)))
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_required() { "Required" } else { "Off" })
    }
}

/// The token of `Bearer TOKEN`, the scheme in any case.
pub fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_compared_in_any_case() {
        assert_eq!(bearer_token("Bearer abc"), Some("abc"));
        assert_eq!(bearer_token("bEARER   abc "), Some("abc"));
        for other in ["", "Bearer", "Bearer ", "Basic abc", "abc", "Bearerabc"] {
            assert_eq!(bearer_token(other), None, "{other:?}");
        }
    }
}
