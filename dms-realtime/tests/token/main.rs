//! Tokens: every algorithm, every way to get past the verification, keys from an endpoint.

mod issuer;
mod jwks;
mod keys;
mod verifier;
