//! Verification with a fixed key.

use std::error::Error as _;
use std::time::Duration;

use dms_core::ports::TokenVerifier as _;
use dms_core::{Claims, ErrorKind};
use dms_realtime::token::{JwtVerifier, TOKEN_BYTES_MAX, TokenRules};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::keys::{
    ED25519, NOW, OTHER_ED25519, OTHER_P256, P256, P384, Pair, RSA, SECRET, claims, clock, forged,
    hs256,
};

fn with_secret() -> JwtVerifier {
    JwtVerifier::with_secret(SECRET, TokenRules::default(), clock()).expect("a good secret")
}

fn with_key(pair: &Pair) -> JwtVerifier {
    JwtVerifier::with_public_key(pair.public_pem.as_bytes(), TokenRules::default(), clock())
        .expect("a good key")
}

async fn code(verifier: &JwtVerifier, token: &str) -> Result<Claims, &'static str> {
    verifier.verify(token).await.map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        error.code()
    })
}

#[tokio::test]
async fn a_token_signed_with_the_configured_key_is_accepted() {
    let expected: Claims = serde_json::from_value(claims()).expect("claims");
    assert_eq!(code(&with_secret(), &hs256(SECRET, &claims())).await, Ok(expected.clone()));
    for pair in [&RSA, &P256, &ED25519] {
        let token = pair.sign(&claims());
        assert_eq!(
            code(&with_key(pair), &token).await,
            Ok(expected.clone()),
            "{:?}",
            pair.algorithm
        );
    }
}

#[tokio::test]
async fn a_token_signed_with_another_key_is_refused() {
    let pairs = [&*RSA, &*P256, &*P384, &*ED25519, &*OTHER_P256, &*OTHER_ED25519];
    for own in [&*RSA, &*P256, &*ED25519] {
        let verifier = with_key(own);
        for other in pairs.iter().filter(|pair| pair.public_pem != own.public_pem) {
            let token = other.sign(&claims());
            let (own, other) = (own.algorithm, other.algorithm);
            assert_eq!(code(&verifier, &token).await, Err("token_invalid"), "{own:?} {other:?}");
        }
        assert_eq!(code(&verifier, &hs256(SECRET, &claims())).await, Err("token_invalid"));
    }
    for pair in pairs {
        assert_eq!(code(&with_secret(), &pair.sign(&claims())).await, Err("token_invalid"));
    }
    let other_secret = hs256(b"another secret of more than 32 bytes", &claims());
    assert_eq!(code(&with_secret(), &other_secret).await, Err("token_invalid"));
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_an_hmac_secret() {
    for pair in [&RSA, &P256, &ED25519] {
        let verifier = with_key(pair);
        for secret in [pair.public_pem.as_bytes(), pair.public_pem.trim().as_bytes()] {
            let token = hs256(secret, &claims());
            assert_eq!(code(&verifier, &token).await, Err("token_invalid"));
        }
    }
}

#[tokio::test]
async fn unsigned_tokens_are_refused_however_none_is_written() {
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": alg, "typ": "JWT"});
        for signature in ["", "AAAA"] {
            let token = forged(&header, &claims(), signature);
            assert_eq!(code(&with_secret(), &token).await, Err("token_invalid"), "{alg}");
            assert_eq!(code(&with_key(&RSA), &token).await, Err("token_invalid"), "{alg}");
        }
    }
    let without_alg = forged(&json!({"typ": "JWT"}), &claims(), "");
    assert_eq!(code(&with_secret(), &without_alg).await, Err("token_invalid"));
}

#[tokio::test]
async fn other_algorithms_of_the_same_family_are_refused() {
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET);
        let token = encode(&Header::new(algorithm), &claims(), &key).expect("a token");
        assert_eq!(code(&with_secret(), &token).await, Err("token_invalid"), "{algorithm:?}");
    }
    for algorithm in [Algorithm::RS512, Algorithm::PS256] {
        let key = EncodingKey::from_rsa_pem(RSA.private_pem.as_bytes()).expect("a key");
        let token = encode(&Header::new(algorithm), &claims(), &key).expect("a token");
        assert_eq!(code(&with_key(&RSA), &token).await, Err("token_invalid"), "{algorithm:?}");
    }
}

#[tokio::test]
async fn a_changed_part_makes_a_token_invalid() {
    for (verifier, token) in
        [(with_secret(), hs256(SECRET, &claims())), (with_key(&P256), P256.sign(&claims()))]
    {
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { panic!("three parts") };
        let other = forged(&json!({"alg": "HS256"}), &json!({"sub": "eve", "exp": NOW + 60}), "");
        let other_payload = other.split('.').nth(1).expect("a payload");
        for changed in [
            format!("{header}.{other_payload}.{signature}"),
            format!("{header}.{payload}.{}", "A".repeat(signature.len())),
            format!("{header}.{payload}."),
            format!("{header}.{payload}"),
            format!("{token}.{payload}"),
            format!("{token}="),
            format!(" {token}"),
            String::new(),
            "..".into(),
        ] {
            assert_eq!(code(&verifier, &changed).await, Err("token_invalid"), "{changed}");
        }
    }
}

#[tokio::test]
async fn a_key_or_url_named_in_the_token_is_not_used() {
    let own_key = json!({"kty": "oct", "k": "AAAA"});
    for extra in [
        json!({"jwk": own_key}),
        json!({"jku": "http://127.0.0.1:1/keys"}),
        json!({"x5u": "http://127.0.0.1:1/cert"}),
    ] {
        let mut header = json!({"alg": "HS256", "typ": "JWT"});
        header.as_object_mut().expect("object").extend(extra.as_object().cloned().expect("object"));
        let token = forged(&header, &claims(), "AAAA");
        assert_eq!(code(&with_secret(), &token).await, Err("token_invalid"), "{extra}");
    }
}

#[tokio::test]
async fn critical_header_parameters_are_refused() {
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".into()]);
    let key = EncodingKey::from_secret(SECRET);
    let token = encode(&header, &claims(), &key).expect("a token");
    assert_eq!(code(&with_secret(), &token).await, Err("token_invalid"));
}

#[tokio::test]
async fn a_token_ends_by_the_clock_that_was_given() {
    let clock = clock();
    let rules = TokenRules::default();
    let verifier = JwtVerifier::with_secret(SECRET, rules, clock.clone()).expect("a good secret");
    let token = hs256(SECRET, &claims());
    clock.advance(Duration::from_secs(59));
    assert!(code(&verifier, &token).await.is_ok());
    clock.advance(Duration::from_secs(1));
    assert_eq!(code(&verifier, &token).await, Err("token_expired"));
    // A token that is forged as well isn't said to have expired.
    let forged = hs256(b"another secret of more than 32 bytes", &claims());
    assert_eq!(code(&verifier, &forged).await, Err("token_invalid"));
}

#[tokio::test]
async fn a_token_beyond_the_bound_is_refused_although_it_is_signed() {
    let padded = |bytes: usize| {
        let mut claims = claims();
        claims["pad"] = json!("x".repeat(bytes));
        hs256(SECRET, &claims)
    };
    let good = padded(5_000);
    assert!(good.len() <= TOKEN_BYTES_MAX && code(&with_secret(), &good).await.is_ok());
    let long = padded(7_000);
    assert!(long.len() > TOKEN_BYTES_MAX);
    assert_eq!(code(&with_secret(), &long).await, Err("token_invalid"));
}

#[tokio::test]
async fn payloads_that_are_no_claims_are_refused() {
    for payload in [json!([]), json!("sub"), json!(null), json!({}), json!(7)] {
        let token = hs256(SECRET, &payload);
        assert_eq!(code(&with_secret(), &token).await, Err("token_invalid"), "{payload}");
    }
}

#[tokio::test]
async fn the_reason_is_in_the_source_and_not_in_the_message() {
    let error = with_secret().verify("x.y.z").await.expect_err("no token");
    assert_eq!(error.to_string(), "token is not valid");
    assert!(error.source().is_some());
}

#[test]
fn a_short_secret_is_refused_with_advice() {
    for secret in [&b""[..], b"secret", &SECRET[..31]] {
        let refused = JwtVerifier::with_secret(secret, TokenRules::default(), clock());
        let error = refused.expect_err("too short");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.fields()[0].message.contains("at least 32 bytes"));
    }
}

#[test]
fn keys_that_are_not_public_or_not_supported_are_refused_with_advice() {
    let secp384 = &P384.public_pem;
    for (pem, advice) in [
        (RSA.private_pem.as_str(), "is a private key"),
        (ED25519.private_pem.as_str(), "is a private key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "is a certificate"),
        (secp384.as_str(), "P-256"),
        ("", "PEM public key"),
        ("ssh-ed25519 AAAA", "PEM public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM public key"),
    ] {
        let refused = JwtVerifier::with_public_key(pem.as_bytes(), TokenRules::default(), clock());
        let error = refused.expect_err("not acceptable");
        assert!(error.fields()[0].message.contains(advice), "{:?}", error.fields());
    }
}

#[test]
fn no_secret_is_in_debug_output() {
    let text = format!("{:?}", with_secret());
    assert!(text.contains("HS256"), "{text}");
    let secret = std::str::from_utf8(SECRET).expect("ascii");
    assert!(!text.contains(secret) && !text.contains(&format!("{SECRET:?}")), "{text}");
}

fn verify_blocking(token: &str) -> Result<Claims, &'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(code(&with_secret(), token))
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_token_and_never_a_panic(token in "\\PC{0,300}") {
        prop_assert_eq!(verify_blocking(&token), Err("token_invalid"));
    }

    #[test]
    fn arbitrary_parts_are_no_token_and_never_a_panic(
        header in json_value(), claims in json_value(), signature in "[A-Za-z0-9_-]{0,60}",
    ) {
        prop_assert_eq!(verify_blocking(&forged(&header, &claims, &signature)), Err("token_invalid"));
    }

    #[test]
    fn arbitrary_claims_signed_with_the_secret_are_never_a_panic(
        sub in json_value(), exp in json_value(), nbf in json_value(), aud in json_value(),
    ) {
        let claims = json!({"sub": sub, "exp": exp, "nbf": nbf, "aud": aud});
        if let Ok(verified) = verify_blocking(&hs256(SECRET, &claims)) {
            prop_assert_eq!(Some(verified.sub.as_str()), sub.as_str());
            prop_assert!(verified.exp > NOW);
        }
    }
}
