//! Keys, each with the one algorithm it is accepted for.

use dms_core::{Error, Result};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode};
use serde_json::{Map, Value};

use super::claims::invalid;

/// Shortest secret for HS256, in bytes: that of its hash (RFC 7518, section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// An RSA modulus of 2,048 bits has at least so many characters in base64.
const RSA_MODULUS_CHARS_MIN: usize = 341;
/// An uncompressed point on P-256.
const P256_POINT_BYTES: usize = 65;
const ED25519_KEY_BYTES: usize = 32;

/// A verification key; its `Debug` output shows no key material.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    decoding: DecodingKey,
}

impl Key {
    pub(super) fn hs256(secret: &[u8]) -> Result<Self> {
        check_secret(secret)?;
        Ok(Self { algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret) })
    }

    pub(super) fn from_public_pem(pem: &[u8]) -> Result<Self> {
        let refuse = |message| Error::invalid("public_key", message);
        let text = String::from_utf8_lossy(pem);
        if text.contains("PRIVATE KEY-----") {
            return Err(refuse("is a private key: give its public key, from openssl pkey -pubout"));
        }
        if text.contains("-----BEGIN CERTIFICATE") {
            return Err(refuse("is a certificate: give its key, from openssl x509 -pubkey -noout"));
        }
        let decoding = DecodingKey::from_rsa_pem(pem)
            .or_else(|_| DecodingKey::from_ec_pem(pem))
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .map_err(|e| {
                refuse("must be a PEM public key (RSA, P-256 or Ed25519)").with_source(e)
            })?;
        // Reads the key's parts, which the constructors above leave as they are.
        let jwk = Jwk::from_decoding_key(&decoding, None)
            .map_err(|e| refuse("must be an RSA, P-256 or Ed25519 key").with_source(e))?;
        let algorithm = algorithm_of(&jwk.algorithm)
            .ok_or_else(|| refuse("must be RSA of at least 2048 bits, P-256 or Ed25519"))?;
        Ok(Self { algorithm, decoding })
    }

    /// None for a key that isn't for verifying with RS256, ES256 or `EdDSA`.
    #[cfg_attr(not(feature = "jwks"), expect(dead_code, reason = "only fetched keys are JWKs"))]
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = algorithm_of(&jwk.algorithm)?;
        let named = match algorithm {
            Algorithm::RS256 => KeyAlgorithm::RS256,
            Algorithm::ES256 => KeyAlgorithm::ES256,
            _ => KeyAlgorithm::EdDSA,
        };
        let other_algorithm = jwk.common.key_algorithm.is_some_and(|given| given != named);
        let other_use =
            jwk.common.public_key_use.as_ref().is_some_and(|u| *u != PublicKeyUse::Signature);
        if other_algorithm || other_use {
            return None;
        }
        let decoding = DecodingKey::from_jwk(jwk).ok()?;
        let length = decoding.try_get_as_bytes().map(<[u8]>::len);
        let fits = match decoding.family() {
            AlgorithmFamily::Rsa => true,
            AlgorithmFamily::Ec => length == Ok(P256_POINT_BYTES),
            AlgorithmFamily::Ed => length == Ok(ED25519_KEY_BYTES),
            AlgorithmFamily::Hmac => false,
        };
        fits.then_some(Self { algorithm, decoding })
    }

    /// The payload of a token that this key has signed, whatever it says.
    pub(super) fn open(&self, token: &str) -> Result<Map<String, Value>> {
        let mut validation = Validation::new(self.algorithm);
        // Claims are checked against the clock port; this library reads the system's clock.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let data =
            decode::<Map<String, Value>>(token, &self.decoding, &validation).map_err(invalid)?;
        Ok(data.claims)
    }
}

pub(super) fn check_secret(secret: &[u8]) -> Result<()> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(Error::invalid(
            "secret",
            format!("must have at least {SECRET_BYTES_MIN} bytes, as from openssl rand -base64 48"),
        ));
    }
    Ok(())
}

fn algorithm_of(parameters: &AlgorithmParameters) -> Option<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(rsa) if rsa.n.len() >= RSA_MODULUS_CHARS_MIN => {
            Some(Algorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            Some(Algorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
            Some(Algorithm::EdDSA)
        }
        _ => None,
    }
}
