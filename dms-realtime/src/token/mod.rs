//! Bearer tokens: finding them in a request, verifying them, issuing them (RFC 7519).

#[cfg(feature = "jwt")]
mod claims;
#[cfg(feature = "jwt")]
mod issuer;
#[cfg(feature = "jwks")]
mod jwks;
#[cfg(feature = "jwt")]
mod key;
#[cfg(feature = "jwks")]
mod key_set;
mod presented;
#[cfg(feature = "jwt")]
mod verifier;

#[cfg(feature = "jwt")]
pub use claims::{NOT_BEFORE_LEEWAY_S, SUBJECT_BYTES_MAX, TokenRules};
#[cfg(feature = "jwt")]
pub use issuer::{DevelopmentTokens, NewToken, TTL_MAX, issue};
#[cfg(feature = "jwks")]
pub use jwks::JwksOptions;
#[cfg(feature = "jwt")]
pub use key::SECRET_BYTES_MIN;
pub use presented::{PresentedToken, TokenSource, present, redact_token};
#[cfg(feature = "jwt")]
pub use verifier::{JwtVerifier, TOKEN_BYTES_MAX};
