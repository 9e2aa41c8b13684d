//! Keys made for one run of the tests, and tokens signed with them.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use dms_core::fake::ManualClock;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub(crate) static RSA: LazyLock<Pair> = LazyLock::new(|| {
    let pair = RsaPair::generate(KeySize::Rsa2048).expect("a key pair");
    let private: Pkcs8V1Der<'_> = pair.as_der().expect("a private key");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
    Pair::new(Algorithm::RS256, private.as_ref(), public.as_ref())
});
pub(crate) static P256: LazyLock<Pair> =
    LazyLock::new(|| ec(Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING));
pub(crate) static P384: LazyLock<Pair> =
    LazyLock::new(|| ec(Algorithm::ES384, &ECDSA_P384_SHA384_FIXED_SIGNING));
pub(crate) static OTHER_P256: LazyLock<Pair> =
    LazyLock::new(|| ec(Algorithm::ES256, &ECDSA_P256_SHA256_FIXED_SIGNING));
pub(crate) static ED25519: LazyLock<Pair> = LazyLock::new(ed25519);
pub(crate) static OTHER_ED25519: LazyLock<Pair> = LazyLock::new(ed25519);

fn ed25519() -> Pair {
    let pair = Ed25519KeyPair::generate().expect("a key pair");
    let private = pair.to_pkcs8v1().expect("a private key");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
    Pair::new(Algorithm::EdDSA, private.as_ref(), public.as_ref())
}

fn ec(algorithm: Algorithm, signing: &'static EcdsaSigningAlgorithm) -> Pair {
    let pair = EcdsaKeyPair::generate(signing).expect("a key pair");
    let private = pair.to_pkcs8v1().expect("a private key");
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("a public key");
    Pair::new(algorithm, private.as_ref(), public.as_ref())
}

pub(crate) struct Pair {
    pub(crate) algorithm: Algorithm,
    pub(crate) private_pem: String,
    pub(crate) public_pem: String,
}

impl Pair {
    fn new(algorithm: Algorithm, private: &[u8], public: &[u8]) -> Self {
        let private_pem = pem("PRIVATE KEY", private);
        Self { algorithm, private_pem, public_pem: pem("PUBLIC KEY", public) }
    }

    fn encoding(&self) -> EncodingKey {
        let pem = self.private_pem.as_bytes();
        match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_ec_pem(pem),
        }
        .expect("a signing key")
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with_kid(None, claims)
    }

    pub(crate) fn sign_with_kid(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(str::to_owned);
        encode(&header, claims, &self.encoding()).expect("a token")
    }

    /// The public key as an endpoint publishes it.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let jwk = Jwk::from_encoding_key(&self.encoding(), self.algorithm).expect("a key");
        let mut jwk = serde_json::to_value(jwk).expect("a key is JSON");
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at_unix(NOW))
}

pub(crate) fn claims() -> Value {
    json!({"sub": "ann", "email": "ann@example.org", "exp": NOW + 60, "roles": ["x"]})
}

pub(crate) fn hs256(secret: &[u8], claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret))
        .expect("a token")
}

/// Joins parts as they are, whether they make sense or not.
pub(crate) fn forged(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}
