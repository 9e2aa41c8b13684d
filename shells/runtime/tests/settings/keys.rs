//! What tokens are checked with.

use dms_runtime::settings::{AuthMode, TokenKey};

use crate::support::{KEY, PEM, good, refused};

#[test]
fn on_loopback_a_key_is_made_up_unless_one_is_configured() {
    let required = good(&[("DMS_AUTH", "required")]).auth;
    assert_eq!(required.mode, AuthMode::Required);
    assert!(required.serves_development_tokens());
    assert_ne!(required.key, good(&[("DMS_AUTH", "required")]).auth.key);
    let configured = good(&[("DMS_JWT_SECRET", KEY)]).auth;
    assert_eq!(configured.mode, AuthMode::Off);
    assert!(!configured.serves_development_tokens());
    refused(&[("DMS_AUTH", "on")], &["DMS_AUTH", "on", "off or required"]);
}

#[test]
fn keys() {
    let key = |pairs: &[(&'static str, &str)]| good(pairs).auth.key;
    assert!(
        matches!(key(&[("DMS_JWT_SECRET", KEY)]), TokenKey::Shared(secret) if secret.matches(KEY))
    );
    assert_eq!(key(&[("DMS_JWT_PUBLIC_KEY", PEM)]), TokenKey::PublicPem(PEM.to_owned()));
    assert_eq!(
        key(&[("DMS_JWT_PUBLIC_KEY", &PEM.replace('\n', "\\n"))]),
        TokenKey::PublicPem(PEM.to_owned())
    );
    for url in ["https://issuer.example/keys", "http://localhost:9/keys", "http://[::1]:9/keys"] {
        assert_eq!(key(&[("DMS_JWKS_URL", url)]), TokenKey::KeySet(url.to_owned()));
    }
    let auth = good(&[("DMS_JWT_ISSUER", "me"), ("DMS_JWT_AUDIENCE", "you")]).auth;
    assert_eq!((auth.issuer.as_deref(), auth.audience.as_deref()), (Some("me"), Some("you")));
}

#[test]
fn keys_that_cannot_be_meant_are_refused() {
    refused(
        &[("DMS_JWT_SECRET", "0123456789abcdef0123456789abcde")],
        &["DMS_JWT_SECRET", "32 bytes"],
    );
    refused(&[("DMS_JWT_PUBLIC_KEY", "abc")], &["DMS_JWT_PUBLIC_KEY", "PEM"]);
    let private = PEM.replace("PUBLIC", "PRIVATE");
    refused(&[("DMS_JWT_PUBLIC_KEY", &private)], &["DMS_JWT_PUBLIC_KEY", "private key"]);
    for url in
        ["http://issuer.example/keys", "issuer.example", "ftp://a/b", "https://u:hunter2@a/b"]
    {
        refused(&[("DMS_JWKS_URL", url)], &["DMS_JWKS_URL"]);
    }
    for (one, other) in [
        (("DMS_JWT_SECRET", KEY), ("DMS_JWT_PUBLIC_KEY", PEM)),
        (("DMS_JWT_SECRET", KEY), ("DMS_JWKS_URL", "https://a/b")),
        (("DMS_JWT_PUBLIC_KEY", PEM), ("DMS_JWKS_URL", "https://a/b")),
    ] {
        refused(&[one, other], &[one.0, other.0, "one of them"]);
    }
}

#[test]
fn a_service_token_fits_a_header() {
    let auth = good(&[("DMS_SERVICE_TOKEN", "0123456789abcdef")]).auth;
    assert!(auth.service_token.expect("a token").matches("0123456789abcdef"));
    for token in ["short", "0123456789 abcdef", "0123456789äbcdef"] {
        refused(&[("DMS_SERVICE_TOKEN", token)], &["DMS_SERVICE_TOKEN"]);
    }
}
