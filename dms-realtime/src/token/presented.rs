//! Where a request shows its token, and how to keep it out of logs.

use std::borrow::Cow;
use std::fmt;

/// Where a token was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer TOKEN` (RFC 6750).
    Authorization,
    /// `Sec-WebSocket-Protocol: bearer, TOKEN`; the answer then selects the protocol `bearer`.
    Subprotocol,
    /// `?token=TOKEN`.
    Query,
}

/// A token as a request shows it, not verified.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PresentedToken<'a> {
    /// The token.
    pub token: &'a str,
    /// Where it was.
    pub source: TokenSource,
}

impl fmt::Debug for PresentedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedToken").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Finds the token of a request: in `Authorization`, else in `Sec-WebSocket-Protocol`, else in the
/// query. Each is given as it was received; several `Sec-WebSocket-Protocol` lines joined by commas.
///
/// A token has no character that needs an escape in a query, so an escaped one isn't unescaped.
///
/// ```
/// use dms_realtime::token::{TokenSource, present};
///
/// let found = present(None, Some("bearer, abc.def.ghi"), None).unwrap();
/// assert_eq!((found.token, found.source), ("abc.def.ghi", TokenSource::Subprotocol));
/// ```
pub fn present<'a>(
    authorization: Option<&'a str>,
    subprotocols: Option<&'a str>,
    query: Option<&'a str>,
) -> Option<PresentedToken<'a>> {
    let found = |source| move |token| PresentedToken { token, source };
    let authorization = || authorization.and_then(bearer).map(found(TokenSource::Authorization));
    let subprotocol = || subprotocols.and_then(of_subprotocol).map(found(TokenSource::Subprotocol));
    let query = || query.and_then(of_query).map(found(TokenSource::Query));
    authorization().or_else(subprotocol).or_else(query)
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn of_subprotocol(protocols: &str) -> Option<&str> {
    let mut protocols = protocols.split(',').map(str::trim);
    protocols.find(|protocol| protocol.eq_ignore_ascii_case("bearer"))?;
    protocols.next().filter(|token| !token.is_empty())
}

fn of_query(query: &str) -> Option<&str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(name, value)| (name == "token" && !value.is_empty()).then_some(value))
}

/// `uri` with the values of `token` and `access_token` replaced, for logs and traces.
///
/// ```
/// use dms_realtime::token::redact_token;
///
/// assert_eq!(redact_token("/ws/1?token=abc&x=1"), "/ws/1?token=REDACTED&x=1");
/// ```
pub fn redact_token(uri: &str) -> Cow<'_, str> {
    let Some((path, query)) = uri.split_once('?') else { return Cow::Borrowed(uri) };
    let secret = |pair: &str| {
        pair.split_once('=').is_some_and(|(name, _)| {
            ["token", "access_token"].iter().any(|secret| name.eq_ignore_ascii_case(secret))
        })
    };
    if !query.split('&').any(secret) {
        return Cow::Borrowed(uri);
    }
    let pairs: Vec<_> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if secret(pair) => Cow::Owned(format!("{name}=REDACTED")),
            _ => Cow::Borrowed(pair),
        })
        .collect();
    Cow::Owned(format!("{path}?{}", pairs.join("&")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token<'a>(
        authorization: Option<&'a str>,
        subprotocols: Option<&'a str>,
        query: Option<&'a str>,
    ) -> Option<&'a str> {
        present(authorization, subprotocols, query).map(|presented| presented.token)
    }

    #[test]
    fn the_scheme_is_compared_without_case() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c  "] {
            assert_eq!(token(Some(header), None, None), Some("a.b.c"), "{header}");
        }
    }

    #[test]
    fn other_schemes_and_empty_tokens_are_passed_over() {
        for header in ["Basic a.b.c", "Bearer", "Bearer ", "Bearera.b.c", ""] {
            assert_eq!(token(Some(header), None, Some("token=x")), Some("x"), "{header}");
        }
    }

    #[test]
    fn the_subprotocol_after_bearer_is_the_token() {
        assert_eq!(token(None, Some("bearer, a.b.c"), None), Some("a.b.c"));
        assert_eq!(token(None, Some("json,bearer,a.b.c,other"), None), Some("a.b.c"));
        for protocols in ["a.b.c", "bearer", "bearer,", "a.b.c, bearer", ""] {
            assert_eq!(token(None, Some(protocols), None), None, "{protocols}");
        }
    }

    #[test]
    fn the_query_is_searched_for_exactly_token() {
        assert_eq!(token(None, None, Some("a=1&token=x.y.z&b=2")), Some("x.y.z"));
        for query in ["", "token", "token=", "xtoken=1", "tokens=1", "a=token"] {
            assert_eq!(token(None, None, Some(query)), None, "{query}");
        }
    }

    #[test]
    fn the_header_wins_over_the_subprotocol_and_that_over_the_query() {
        let all = present(Some("Bearer 1"), Some("bearer, 2"), Some("token=3"));
        assert_eq!(all.map(|p| p.source), Some(TokenSource::Authorization));
        let two = present(None, Some("bearer, 2"), Some("token=3"));
        assert_eq!(two.map(|p| p.source), Some(TokenSource::Subprotocol));
    }

    #[test]
    fn a_presented_token_is_not_in_debug_output() {
        let found = present(Some("Bearer sesame"), None, None);
        assert!(!format!("{found:?}").contains("sesame"));
    }

    #[test]
    fn only_token_values_are_redacted() {
        assert_eq!(
            redact_token("/ws/1?a=b&TOKEN=x&token=y"),
            "/ws/1?a=b&TOKEN=REDACTED&token=REDACTED"
        );
        assert_eq!(redact_token("/auth?access_token=x"), "/auth?access_token=REDACTED");
        for same in ["/ws/1", "/ws/1?", "/token=x", "/ws/1?tokens=x", "/ws?a=token"] {
            assert_eq!(redact_token(same), same);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_found_in_a_query_survives_redaction(
            before in "[a-z&=]{0,12}", token in "SECRET[A-Z]{1,8}", after in "[a-z&=]{0,12}",
        ) {
            let query = format!("{before}&token={token}&{after}");
            let found = present(None, None, Some(&query));
            prop_assert!(found.is_some());
            let uri = format!("/ws/1?{query}");
            let redacted = redact_token(&uri);
            prop_assert!(!redacted.contains(&token), "{redacted}");
        }

        #[test]
        fn any_text_is_searched_and_redacted_without_a_panic(text in ".{0,200}") {
            present(Some(&text), Some(&text), Some(&text));
            redact_token(&text);
        }
    }
}
