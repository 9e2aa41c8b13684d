//! `/healthz`, `/readyz` and `/metrics`.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use axum::{Router, middleware};

use super::HealthRegistry;
use crate::metrics::MetricsHandle;

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

impl HealthRegistry {
    /// `/healthz` (200 as long as the process answers), `/readyz` (each check as JSON; 503 unless
    /// requests are taken) and `/metrics` (Prometheus text). None of them asks for a token or may be
    /// cached.
    pub fn router(&self, metrics: MetricsHandle) -> Router {
        Router::new()
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(ready).with_state(self.clone()))
            .route("/metrics", get(render).with_state(metrics))
            .layer(middleware::map_response(async |mut response: Response| {
                let value = header::HeaderValue::from_static("no-store");
                response.headers_mut().insert(header::CACHE_CONTROL, value);
                response
            }))
    }
}

async fn ready(State(health): State<HealthRegistry>) -> Response {
    let report = health.report().await;
    let status = if report.status.takes_requests() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

async fn render(State(metrics): State<MetricsHandle>) -> Response {
    ([(header::CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.render()).into_response()
}
