//! Verifies JSON Web Tokens.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
#[cfg(feature = "jwks")]
use dms_core::Error;
use dms_core::ports::{Clock, TokenVerifier};
use dms_core::{Claims, Result};
use jsonwebtoken::decode_header;

use super::claims::{TokenRules, check, invalid, refused};
use super::key::Key;

#[cfg(feature = "jwks")]
use super::jwks::{JwksCache, JwksOptions};
#[cfg(feature = "jwks")]
use super::key_set::KeySet;

/// Longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Verifies tokens with a secret, a public key or fetched keys.
///
/// Each key is accepted for exactly one algorithm, which follows from the key and never from the
/// token: a secret for HS256, RSA for RS256, P-256 for ES256, Ed25519 for `EdDSA`. Whatever is wrong
/// with a token, its holder learns no more than `token_expired` or `token_invalid`; the reason is
/// the error's source.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use dms_core::ports::{Clock, SystemClock, TokenVerifier};
/// use dms_realtime::token::{JwtVerifier, NewToken, TokenRules, issue};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> dms_core::Result<()> {
/// let secret = b"a secret of at least 32 bytes, from a file";
/// let rules = TokenRules { issuer: Some("dms".into()), audience: None };
/// let ann = NewToken { subject: "ann", email: None, ttl: Duration::from_mins(5) };
/// let token = issue(secret, &ann, &rules, SystemClock.now())?;
///
/// let verifier = JwtVerifier::with_secret(secret, rules, Arc::new(SystemClock))?;
/// assert_eq!(verifier.verify(&token).await?.sub, "ann");
/// assert_eq!(verifier.verify("a.b.c").await.unwrap_err().code(), "token_invalid");
/// # Ok(())
/// # }
/// ```
pub struct JwtVerifier {
    keys: Keys,
    rules: TokenRules,
    clock: Arc<dyn Clock>,
}

enum Keys {
    Fixed(Box<Key>),
    #[cfg(feature = "jwks")]
    Given(KeySet),
    #[cfg(feature = "jwks")]
    Fetched(Box<JwksCache>),
}

impl JwtVerifier {
    /// Verifies HS256 with a shared secret.
    ///
    /// # Errors
    /// `Invalid` for a secret of less than [`SECRET_BYTES_MIN`](super::SECRET_BYTES_MIN) bytes.
    pub fn with_secret(secret: &[u8], rules: TokenRules, clock: Arc<dyn Clock>) -> Result<Self> {
        let keys = Keys::Fixed(Box::new(Key::hs256(secret)?));
        Ok(Self { keys, rules, clock })
    }

    /// Verifies RS256, ES256 or `EdDSA`, as the public key is. It is given in PEM (RFC 7468).
    ///
    /// # Errors
    /// `Invalid` for anything but a public RSA key of 2,048 to 8,192 bits, a P-256 or an Ed25519 one.
    pub fn with_public_key(pem: &[u8], rules: TokenRules, clock: Arc<dyn Clock>) -> Result<Self> {
        let keys = Keys::Fixed(Box::new(Key::from_public_pem(pem)?));
        Ok(Self { keys, rules, clock })
    }

    /// Verifies with the keys of a JWK set (RFC 7517, section 5), given as JSON. Those for other
    /// algorithms than RS256, ES256 and `EdDSA` are passed over.
    ///
    /// # Errors
    /// `Invalid` for anything but a set of at most 100 keys.
    #[cfg(feature = "jwks")]
    pub fn with_key_set(set: &[u8], rules: TokenRules, clock: Arc<dyn Clock>) -> Result<Self> {
        let keys = KeySet::parse(set, JwksOptions::default().keys_max).map_err(|e| {
            Error::invalid("key_set", "must be a JWK set (RFC 7517)").with_source(e)
        })?;
        Ok(Self { keys: Keys::Given(keys), rules, clock })
    }

    /// Verifies with the keys found at `url` (RFC 7517), fetched when they are needed. Those for
    /// other algorithms than RS256, ES256 and `EdDSA` are passed over.
    ///
    /// # Errors
    /// `Invalid` unless `url` is an `http` or `https` URL; `Internal` if no client can be built.
    #[cfg(feature = "jwks")]
    pub fn with_jwks(
        url: &str,
        options: JwksOptions,
        rules: TokenRules,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let keys = Keys::Fetched(Box::new(JwksCache::new(url, options)?));
        Ok(Self { keys, rules, clock })
    }

    /// Whether keys are at hand; fetches them if they aren't.
    ///
    /// # Errors
    /// `Unavailable` if they can't be fetched.
    #[cfg_attr(
        not(feature = "jwks"),
        expect(clippy::unused_async, reason = "only fetching keys takes time")
    )]
    pub async fn check(&self) -> Result<()> {
        #[cfg(feature = "jwks")]
        if let Keys::Fetched(cache) = &self.keys {
            return cache.check().await;
        }
        Ok(())
    }
}

#[async_trait]
impl TokenVerifier for JwtVerifier {
    async fn verify(&self, token: &str) -> Result<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("longer than accepted"));
        }
        let header = decode_header(token).map_err(invalid)?;
        // RFC 7515, section 4.1.11: what isn't understood must not be accepted.
        if header.crit.is_some() {
            return Err(refused("has critical header parameters"));
        }
        let payload = match &self.keys {
            Keys::Fixed(key) => key.open(token)?,
            #[cfg(feature = "jwks")]
            Keys::Given(keys) => keys
                .find(header.kid.as_deref(), header.alg)
                .ok_or_else(|| refused("key id is unknown"))?
                .open(token)?,
            #[cfg(feature = "jwks")]
            Keys::Fetched(cache) => {
                cache.key(header.kid.as_deref(), header.alg).await?.open(token)?
            }
        };
        check(payload, &self.rules, self.clock.now())
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("JwtVerifier");
        match &self.keys {
            Keys::Fixed(key) => debug.field("algorithm", &key.algorithm),
            #[cfg(feature = "jwks")]
            Keys::Given(keys) => debug.field("keys", keys),
            #[cfg(feature = "jwks")]
            Keys::Fetched(cache) => debug.field("keys", cache),
        };
        debug.field("rules", &self.rules).finish_non_exhaustive()
    }
}
