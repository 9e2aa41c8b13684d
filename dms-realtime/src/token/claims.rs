//! What is asked of a token's claims once its signature is in order.

use std::error::Error as StdError;
use std::fmt;

use dms_core::{Claims, Error, ErrorKind, Result};
use serde_json::{Map, Value};
use time::OffsetDateTime;

/// Longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 320;

/// How far `nbf` may lie in the future, in seconds: clocks of issuers differ a little. `exp` has no
/// leeway, so that a connection is opened only if it isn't to be closed at once.
pub const NOT_BEFORE_LEEWAY_S: i64 = 5;

/// What tokens must say besides `sub` and `exp`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenRules {
    /// What `iss` must be; anything or nothing if none.
    pub issuer: Option<String>,
    /// What `aud` must be or contain; anything or nothing if none.
    pub audience: Option<String>,
}

/// Why a token is refused: for logs, not for whoever showed it.
#[derive(Debug)]
struct Refusal(&'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl StdError for Refusal {}

/// The one answer to every token that isn't valid, so that it teaches nothing.
pub(super) fn invalid(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
    Error::new(ErrorKind::Unauthenticated, "token is not valid")
        .with_code("token_invalid")
        .with_source(cause)
}

pub(super) fn refused(reason: &'static str) -> Error {
    invalid(Refusal(reason))
}

/// The claims of a token whose signature is in order.
///
/// # Errors
/// `Unauthenticated` with code `token_expired` or `token_invalid`.
pub(super) fn check(
    mut payload: Map<String, Value>,
    rules: &TokenRules,
    now: OffsetDateTime,
) -> Result<Claims> {
    let Some(Value::String(sub)) = payload.remove("sub") else {
        return Err(refused("no sub, or not a string"));
    };
    if !is_subject(&sub) {
        return Err(refused("sub is empty, too long or holds control characters"));
    }
    if rules.issuer.as_ref().is_some_and(|issuer| payload.get("iss") != Some(&issuer[..].into())) {
        return Err(refused("iss is not the issuer expected"));
    }
    if rules.audience.as_ref().is_some_and(|audience| !is_for(payload.get("aud"), audience)) {
        return Err(refused("aud does not name the audience expected"));
    }
    let now = now.unix_timestamp();
    if let Some(nbf) = payload.get("nbf") {
        let nbf = numeric_date(nbf).ok_or_else(|| refused("nbf is not a date"))?;
        if nbf > now.saturating_add(NOT_BEFORE_LEEWAY_S) {
            return Err(refused("nbf is not reached yet"));
        }
    }
    let exp = payload.remove("exp");
    let exp = exp.as_ref().and_then(numeric_date).ok_or_else(|| refused("no exp, or no date"))?;
    if exp <= now {
        return Err(
            Error::new(ErrorKind::Unauthenticated, "token has expired").with_code("token_expired")
        );
    }
    let email = match payload.remove("email") {
        Some(Value::String(email)) => Some(email),
        _ => None,
    };
    Ok(Claims { sub, exp, email, other: payload })
}

pub(super) fn is_subject(sub: &str) -> bool {
    !sub.trim().is_empty() && sub.len() <= SUBJECT_BYTES_MAX && !sub.chars().any(char::is_control)
}

fn is_for(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(aud)) => aud == audience,
        Some(Value::Array(all)) => all.iter().any(|aud| aud == audience),
        _ => false,
    }
}

/// Seconds since 1970, possibly with decimals (RFC 7519, section 2); those are cut off.
fn numeric_date(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| {
        let seconds = value.as_f64().filter(|s| s.is_finite() && s.abs() < 1e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "far below 2^53")]
        Some(seconds.floor() as i64)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn checked(payload: &Value, rules: &TokenRules) -> Result<Claims, &'static str> {
        let now = OffsetDateTime::from_unix_timestamp(NOW).expect("a date");
        let payload = payload.as_object().expect("an object").clone();
        check(payload, rules, now).map_err(|error| error.code())
    }

    fn code(payload: &Value) -> Result<(), &'static str> {
        checked(payload, &TokenRules::default()).map(|_| ())
    }

    #[test]
    fn subject_and_end_are_required() {
        assert_eq!(code(&json!({"sub": "ann", "exp": NOW + 1})), Ok(()));
        for bad in [
            json!({"exp": NOW + 1}),
            json!({"sub": "", "exp": NOW + 1}),
            json!({"sub": "  ", "exp": NOW + 1}),
            json!({"sub": 7, "exp": NOW + 1}),
            json!({"sub": "a\nb", "exp": NOW + 1}),
            json!({"sub": "a".repeat(321), "exp": NOW + 1}),
            json!({"sub": "ann"}),
            json!({"sub": "ann", "exp": null}),
            json!({"sub": "ann", "exp": "2100-01-01"}),
            json!({"sub": "ann", "exp": 1e300}),
        ] {
            assert_eq!(code(&bad), Err("token_invalid"), "{bad}");
        }
    }

    #[test]
    fn a_token_ends_at_the_second_it_names() {
        for (exp, expected) in [
            (json!(NOW + 1), Ok(())),
            (json!(1_800_000_001.5), Ok(())),
            (json!(NOW), Err("token_expired")),
            (json!(NOW - 1), Err("token_expired")),
            (json!(-1), Err("token_expired")),
        ] {
            assert_eq!(code(&json!({"sub": "ann", "exp": exp})), expected, "{exp}");
        }
    }

    #[test]
    fn a_beginning_in_the_future_is_refused_beyond_the_leeway() {
        let with = |nbf: Value| code(&json!({"sub": "ann", "exp": NOW + 100, "nbf": nbf}));
        assert_eq!(with(json!(NOW + NOT_BEFORE_LEEWAY_S)), Ok(()));
        assert_eq!(with(json!(NOW + NOT_BEFORE_LEEWAY_S + 1)), Err("token_invalid"));
        assert_eq!(with(json!("soon")), Err("token_invalid"));
    }

    #[test]
    fn issuer_and_audience_are_checked_when_configured() {
        let rules = TokenRules { issuer: Some("https://id".into()), audience: Some("dms".into()) };
        let with = |iss: Value, aud: Value| {
            let payload = json!({"sub": "ann", "exp": NOW + 1, "iss": iss, "aud": aud});
            checked(&payload, &rules).map(|_| ())
        };
        assert_eq!(with(json!("https://id"), json!("dms")), Ok(()));
        assert_eq!(with(json!("https://id"), json!(["other", "dms"])), Ok(()));
        for (iss, aud) in [
            (json!("https://evil"), json!("dms")),
            (json!(["https://id"]), json!("dms")),
            (json!(null), json!("dms")),
            (json!("https://id"), json!("dmsx")),
            (json!("https://id"), json!([])),
            (json!("https://id"), json!(null)),
        ] {
            assert_eq!(with(iss.clone(), aud.clone()), Err("token_invalid"), "{iss} {aud}");
        }
        let neither = json!({"sub": "ann", "exp": NOW + 1});
        assert_eq!(checked(&neither, &rules), Err("token_invalid"));
    }

    #[test]
    fn everything_else_is_kept_as_it_is() {
        let payload = json!({"sub": "ann", "exp": NOW + 1, "email": "a@b.de", "roles": ["x"]});
        let claims = checked(&payload, &TokenRules::default()).expect("valid");
        assert_eq!(claims.email.as_deref(), Some("a@b.de"));
        assert_eq!(claims.other, json!({"roles": ["x"]}).as_object().cloned().expect("object"));
    }
}
