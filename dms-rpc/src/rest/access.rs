//! Who calls: token, address and request id, as a [`Caller`].

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use dms_core::{Caller, RequestId};

use super::problem::Problem;
use crate::auth::Authentication;

/// How callers are told apart.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Whether callers must show a token.
    pub authentication: Authentication,
    /// How many proxies in front append to `X-Forwarded-For`. With 0 the header, which anybody can
    /// send, isn't looked at and the peer is the caller.
    pub trusted_proxies: u8,
}

/// Extracts the caller, refusing those without a valid token if tokens are asked for.
///
/// It comes first among a handler's arguments, so that nothing of a stranger's body is read. The
/// address is there if the server gives [`ConnectInfo`].
#[derive(Debug, Clone)]
pub struct Authenticated(pub Caller);

impl<S> FromRequestParts<S> for Authenticated
where
    Access: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let access = Access::from_ref(state);
        let authorization = parts.headers.get(header::AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok());
        let claims = access.authentication.authenticate(authorization).await?;
        Ok(Self(Caller {
            claims,
            address: client_address(parts, access.trusted_proxies),
            request_id: request_id(parts),
        }))
    }
}

/// Extracts the caller without asking for a token: for routes that check one some other way.
#[derive(Debug, Clone)]
pub struct Anonymous(pub Caller);

impl<S> FromRequestParts<S> for Anonymous
where
    Access: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self(Caller {
            claims: None,
            address: client_address(parts, Access::from_ref(state).trusted_proxies),
            request_id: request_id(parts),
        }))
    }
}

fn request_id(parts: &Parts) -> RequestId {
    parts.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::generate)
}

/// Where a request came from: what the outermost trusted proxy saw, else the peer.
pub fn client_address(parts: &Parts, trusted_proxies: u8) -> Option<IpAddr> {
    forwarded_for(&parts.headers, trusted_proxies).or_else(|| {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(peer.0.ip().to_canonical())
    })
}

/// Each proxy appends the peer it sees, so with `n` trusted ones the `n`th from the end is true;
/// everything before it is hearsay.
fn forwarded_for(headers: &HeaderMap, trusted_proxies: u8) -> Option<IpAddr> {
    let from_end = usize::from(trusted_proxies).checked_sub(1)?;
    let lines = headers.get_all("x-forwarded-for");
    let hops: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .collect();
    let hop = hops.into_iter().rev().nth(from_end)?.trim();
    let address = hop.parse::<IpAddr>().ok();
    address.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip())).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(lines: &[&str], trusted_proxies: u8) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        forwarded_for(&headers, trusted_proxies).map(|ip| ip.to_string())
    }

    #[test]
    fn the_header_is_not_trusted_unless_proxies_are() {
        assert_eq!(forwarded(&["1.1.1.1"], 0), None);
    }

    #[test]
    fn hops_are_counted_from_the_end() {
        let lines = ["6.6.6.6, 1.1.1.1", "2.2.2.2"];
        assert_eq!(forwarded(&lines, 1).as_deref(), Some("2.2.2.2"));
        assert_eq!(forwarded(&lines, 2).as_deref(), Some("1.1.1.1"));
        assert_eq!(forwarded(&lines, 4), None);
    }

    #[test]
    fn ports_and_mapped_addresses_are_understood() {
        assert_eq!(forwarded(&["1.1.1.1:80"], 1).as_deref(), Some("1.1.1.1"));
        assert_eq!(forwarded(&["[::1]:80"], 1).as_deref(), Some("::1"));
        assert_eq!(forwarded(&["::ffff:1.2.3.4"], 1).as_deref(), Some("1.2.3.4"));
        assert_eq!(forwarded(&["unknown"], 1), None);
    }
}
