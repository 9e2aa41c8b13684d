//! Issued tokens.

use std::time::Duration;

use dms_core::ports::{Clock as _, TokenVerifier as _};
use dms_realtime::token::{DevelopmentTokens, JwtVerifier, NewToken, TTL_MAX, TokenRules, issue};
use serde_json::json;

use crate::keys::{NOW, SECRET, claims, clock, hs256};

const ANN: NewToken<'static> =
    NewToken { subject: "ann", email: Some("ann@example.org"), ttl: Duration::from_mins(1) };

#[tokio::test]
async fn an_issued_token_is_accepted_under_the_same_secret_and_rules() {
    let rules = TokenRules { issuer: Some("dms".into()), audience: Some("live".into()) };
    let clock = clock();
    let token = issue(SECRET, &ANN, &rules, clock.now()).expect("a token");
    let verifier = JwtVerifier::with_secret(SECRET, rules, clock).expect("a good secret");
    let claims = verifier.verify(&token).await.expect("valid");
    assert_eq!((claims.sub.as_str(), claims.exp), ("ann", NOW + 60));
    assert_eq!(claims.email.as_deref(), Some("ann@example.org"));
    assert_eq!(claims.other["iat"], json!(NOW));
}

#[test]
fn what_cannot_be_verified_later_is_not_issued() {
    let now = clock().now();
    let fields = |secret: &[u8], token: NewToken<'_>| {
        let error = issue(secret, &token, &TokenRules::default(), now).expect_err("refused");
        error.fields().iter().map(|refusal| refusal.field.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields(b"short", ANN), ["secret"]);
    assert_eq!(fields(SECRET, NewToken { subject: " ", ..ANN }), ["user_id"]);
    assert_eq!(fields(SECRET, NewToken { email: Some("a\nb"), ..ANN }), ["email"]);
    for ttl in [Duration::ZERO, Duration::from_millis(999), TTL_MAX + Duration::from_secs(1)] {
        assert_eq!(fields(SECRET, NewToken { ttl, ..ANN }), ["ttl"]);
    }
}

#[tokio::test]
async fn development_tokens_hold_for_an_hour_in_one_process_only() {
    let clock = clock();
    let tokens = DevelopmentTokens::generate(clock.clone()).expect("a key");
    let others = DevelopmentTokens::generate(clock.clone()).expect("a key");
    let token = tokens.issue("ann", None).expect("a token");
    let code = async |tokens: &DevelopmentTokens| {
        tokens.verify(&token).await.map(|claims| claims.sub).map_err(|error| error.code())
    };
    assert_eq!(code(&tokens).await, Ok("ann".to_owned()));
    assert_eq!(code(&others).await, Err("token_invalid"));
    clock.advance(Duration::from_secs(3_599));
    assert!(code(&tokens).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(code(&tokens).await, Err("token_expired"));
}

#[tokio::test]
async fn development_tokens_accept_no_guessable_secret() {
    let tokens = DevelopmentTokens::generate(clock()).expect("a key");
    for secret in [&[0_u8; 32][..], SECRET] {
        assert!(tokens.verify(&hs256(secret, &claims())).await.is_err());
    }
    assert_eq!(format!("{tokens:?}"), "DevelopmentTokens { .. }");
}
