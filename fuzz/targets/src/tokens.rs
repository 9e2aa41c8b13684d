//! Tokens, the keys they are verified with, and where a request shows them.

use std::future::Future;
use std::sync::Arc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dms_core::fake::ManualClock;
use dms_core::ports::TokenVerifier as _;
use dms_core::{Claims, ErrorKind, Result};
use dms_realtime::token::{JwtVerifier, SUBJECT_BYTES_MAX, TokenRules, present, redact_token};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::Value;

const NOW: i64 = 1_800_000_000;
/// That of the tokens among the seeds.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

static BY_SECRET: LazyLock<JwtVerifier> =
    LazyLock::new(|| JwtVerifier::with_secret(SECRET, rules(), clock()).expect("a good secret"));

fn rules() -> TokenRules {
    TokenRules { issuer: None, audience: Some("dms".to_owned()) }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at_unix(NOW))
}

/// Verifying with keys that are at hand never waits.
fn verify(verifier: &JwtVerifier, token: &str) -> Result<Claims> {
    let mut verified = Box::pin(verifier.verify(token));
    match verified.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => {
            if let Err(error) = &result {
                assert_eq!(error.kind(), ErrorKind::Unauthenticated);
                assert!(["token_invalid", "token_expired"].contains(&error.code()), "{error:?}");
            }
            result
        }
        Poll::Pending => panic!("it waits for something"),
    }
}

fn hs256(message: &str, secret: &[u8]) -> String {
    crypto::sign(message.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256)
        .expect("a signature")
}

/// `0` and a token, `1` and a header and a payload on two lines, which are then signed, or `2` and a
/// public key. Nothing is accepted that isn't signed with the secret, and nothing that is over.
pub fn token(input: &[u8]) {
    let Some((first, rest)) = super::choice(input) else { return };
    match first % 3 {
        0 => {
            let Ok(token) = std::str::from_utf8(rest) else { return };
            if let Ok(claims) = verify(&BY_SECRET, token) {
                let (message, signature) = token.rsplit_once('.').expect("a signature");
                assert_eq!(signature, hs256(message, SECRET));
                let payload = message.split_once('.').expect("a payload").1;
                let payload = URL_SAFE_NO_PAD.decode(payload).expect("base64");
                check(&claims, &payload);
            }
        }
        1 => {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return };
            let (header, payload) = (&rest[..end], &rest[end + 1..]);
            let message =
                format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let token = format!("{message}.{}", hs256(&message, SECRET));
            if let Ok(claims) = verify(&BY_SECRET, &token) {
                check(&claims, payload);
                let header: Value = serde_json::from_slice(header).expect("a header");
                assert_eq!(header["alg"], "HS256");
                assert!(header["crit"].is_null());
            }
        }
        _ => {
            let Ok(verifier) = JwtVerifier::with_public_key(rest, rules(), clock()) else { return };
            for secret in [rest, rest.trim_ascii()] {
                assert!(verify(&verifier, &valid_but_for_the_key(secret)).is_err());
            }
        }
    }
}

fn check(claims: &Claims, payload: &[u8]) {
    let payload: Value = serde_json::from_slice(payload).expect("claims");
    assert_eq!(payload["sub"], *claims.sub);
    assert!(!claims.sub.trim().is_empty() && claims.sub.len() <= SUBJECT_BYTES_MAX);
    assert!(!claims.sub.chars().any(char::is_control));
    assert!(claims.exp > NOW, "a token that is over: {payload}");
    assert!(payload["exp"].as_f64().is_some_and(|exp| exp >= 1_800_000_001.0), "{payload}");
    assert!(payload["aud"].to_string().contains("\"dms\""), "{payload}");
}

fn valid_but_for_the_key(secret: &[u8]) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!(
        "{}.{}",
        part(r#"{"alg":"HS256","typ":"JWT"}"#),
        part(r#"{"sub":"eve","aud":"dms","exp":1900000000}"#)
    );
    format!("{message}.{}", hs256(&message, secret))
}

/// A set of keys: none of them accepts a signature that anybody can make.
pub fn key_set(input: &[u8]) {
    let Ok(verifier) = JwtVerifier::with_key_set(input, rules(), clock()) else { return };
    assert!(verify(&verifier, &valid_but_for_the_key(SECRET)).is_err());
    assert!(verify(&verifier, &valid_but_for_the_key(b"")).is_err());
    let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"eve","aud":"dms","exp":1900000000}"#);
    for algorithm in ["none", "HS256", "RS256", "ES256", "EdDSA"] {
        for kid in ["", r#","kid":"a""#] {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"{kid}}}"#));
            for signature in [String::new(), "A".repeat(86), "A".repeat(342)] {
                let token = format!("{header}.{payload}.{signature}");
                assert!(verify(&verifier, &token).is_err(), "{token}");
            }
        }
    }
}

/// Up to three lines: `Authorization`, `Sec-WebSocket-Protocol` and a query. A token is part of the
/// line it was found in, and none is left in a query that may be logged.
pub fn presented_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.splitn(3, '\n');
    let (authorization, protocols, query) = (lines.next(), lines.next(), lines.next());
    if let Some(found) = present(authorization, protocols, query) {
        assert!(!found.token.is_empty());
        let places = [authorization, protocols, query];
        assert!(places.into_iter().flatten().any(|line| line.contains(found.token)));
        assert!(!format!("{found:?}").contains("token: "));
    }
    let uri = format!("/ws/1?{}", query.unwrap_or(text));
    let redacted = redact_token(&uri);
    assert_eq!(redact_token(&redacted), redacted);
    let query = redacted.split_once('?').expect("a query").1;
    let left = present(None, None, Some(query)).map(|found| found.token);
    assert!(matches!(left, None | Some("REDACTED")), "{left:?}");
}
