//! Issues tokens: for development, and for whoever holds the secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dms_core::ports::{Clock, TokenVerifier};
use dms_core::{Claims, Error, FieldError, Result};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::claims::{SUBJECT_BYTES_MAX, TokenRules, is_subject};
use super::key::check_secret;
use super::verifier::JwtVerifier;

/// Longest time a token may be issued for.
pub const TTL_MAX: Duration = Duration::from_hours(24 * 366);

const DEVELOPMENT_TTL: Duration = Duration::from_hours(1);

/// What a new token is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewToken<'a> {
    /// Whom it is for: 1 to 320 bytes, no control characters.
    pub subject: &'a str,
    /// Their address; at most 320 bytes, no control characters.
    pub email: Option<&'a str>,
    /// How long it holds: from a second to [`TTL_MAX`], in whole seconds.
    pub ttl: Duration,
}

/// Issues an HS256 token that a [`JwtVerifier`] with the same secret and rules accepts.
///
/// # Errors
/// `Invalid`, naming `secret`, `user_id`, `email` or `ttl`.
pub fn issue(
    secret: &[u8],
    token: &NewToken<'_>,
    rules: &TokenRules,
    now: OffsetDateTime,
) -> Result<String> {
    check_secret(secret)?;
    let mut refusals = Vec::new();
    if !is_subject(token.subject) {
        let message = format!("must have 1 to {SUBJECT_BYTES_MAX} bytes, no control characters");
        refusals.push(FieldError::new("user_id", message));
    }
    if token.email.is_some_and(|email| !is_subject(email)) {
        let message = format!("must have 1 to {SUBJECT_BYTES_MAX} bytes, no control characters");
        refusals.push(FieldError::new("email", message));
    }
    if token.ttl < Duration::from_secs(1) || token.ttl > TTL_MAX {
        refusals.push(FieldError::new("ttl", "must be 1 second to 366 days"));
    }
    if !refusals.is_empty() {
        return Err(Error::invalid_fields(refusals));
    }
    let issued_at = now.unix_timestamp();
    let ttl_s = i64::try_from(token.ttl.as_secs()).unwrap_or(i64::MAX);
    let claims: Map<String, Value> = [
        ("sub", Some(Value::from(token.subject))),
        ("email", token.email.map(Value::from)),
        ("iss", rules.issuer.as_deref().map(Value::from)),
        ("aud", rules.audience.as_deref().map(Value::from)),
        ("iat", Some(Value::from(issued_at))),
        ("exp", Some(Value::from(issued_at.saturating_add(ttl_s)))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret))
        .map_err(|e| Error::internal("token not signed").with_source(e))
}

/// Issues and verifies tokens with a key that is made at start and never leaves the process.
///
/// For development on loopback only: it issues a token for any name, to whoever asks.
pub struct DevelopmentTokens {
    secret: [u8; 32],
    verifier: JwtVerifier,
    clock: Arc<dyn Clock>,
}

impl DevelopmentTokens {
    /// Tokens under a new random key.
    ///
    /// # Errors
    /// None that can be caused from outside.
    pub fn generate(clock: Arc<dyn Clock>) -> Result<Self> {
        let secret: [u8; 32] = rand::random();
        let verifier =
            JwtVerifier::with_secret(&secret, TokenRules::default(), Arc::clone(&clock))?;
        Ok(Self { secret, verifier, clock })
    }

    /// Issues a token that holds for an hour.
    ///
    /// # Errors
    /// `Invalid`, naming `user_id` or `email`.
    pub fn issue(&self, subject: &str, email: Option<&str>) -> Result<String> {
        let token = NewToken { subject, email, ttl: DEVELOPMENT_TTL };
        issue(&self.secret, &token, &TokenRules::default(), self.clock.now())
    }
}

#[async_trait]
impl TokenVerifier for DevelopmentTokens {
    async fn verify(&self, token: &str) -> Result<Claims> {
        self.verifier.verify(token).await
    }
}

impl fmt::Debug for DevelopmentTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevelopmentTokens").finish_non_exhaustive()
    }
}
