//! What every request goes through, in one layer: request id, span, deadline, load shedding, panics,
//! problems, security headers, metrics.

mod instruments;
mod receiving;
mod serving;

use std::time::Duration;

use axum::Router;

use super::problem::{method_not_allowed, route_not_found};
pub(super) use receiving::Stalled;
use serving::ServingLayer;

/// Bounds of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerOptions {
    /// How long an answer may take to begin, from the last byte of the request that came. A transfer
    /// that goes on is never cut; one that stalls for this long is.
    pub deadline: Duration,
    /// How many requests are worked on at once. Those beyond are refused with 503 at once. Bodies of
    /// answers, live connections and streams of events don't count.
    pub requests_max: usize,
    /// Paths that are served even then, as routes name them: health, metrics.
    pub never_refused: &'static [&'static str],
}

impl Default for LayerOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            requests_max: 1_024,
            never_refused: &["/healthz", "/readyz", "/metrics"],
        }
    }
}

/// Puts the finished routes of a service behind what every request goes through.
///
/// - Each answer has an `X-Request-Id`: the caller's if it sent a sane one. Handlers find it in the
///   request's extensions as [`RequestId`](dms_core::RequestId).
/// - Each error is a problem, those of unknown paths and methods too; those inside are logged once.
/// - A handler that panics or misses the deadline gives a problem.
/// - Answers carry `nosniff`, a `Content-Security-Policy` that allows nothing and `Cache-Control:
///   no-store`, unless the handler sets its own.
/// - Metrics: `http_requests_total{method,route,status}` and
///   `http_request_duration_seconds{method,route}`, up to the beginning of the answer.
/// - The span `request` has the request's id, method and route, never its query, which may hold a
///   token.
///
/// It comes last: routes added afterwards aren't behind it.
pub fn layers(router: Router, options: &LayerOptions) -> Router {
    router
        .fallback(route_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(ServingLayer::new(options))
}
