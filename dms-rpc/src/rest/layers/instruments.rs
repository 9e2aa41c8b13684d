//! Metrics of requests, looked up once per route, method and status.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram, counter, describe_counter, describe_histogram, histogram};

/// Label of paths that no route matches.
pub(super) const UNMATCHED: &str = "unmatched";

/// The metrics of one route. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Instruments(Arc<RwLock<Vec<Entry>>>);

struct Entry {
    route: Arc<str>,
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    duration: Histogram,
}

impl Instruments {
    /// Counts a request. The routes, methods and statuses of a program are few, so the list is short.
    pub(super) fn record(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = method_label(method);
        let matches = |entry: &Entry| {
            entry.status == status && entry.method == method && *entry.route == *route
        };
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.iter().find(|entry| matches(entry)) {
            return entry.record(took);
        }
        drop(entries);
        let entry = Entry::new(Arc::from(route), method, status);
        entry.record(took);
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !entries.iter().any(matches) {
            entries.push(entry);
        }
    }
}

impl Entry {
    fn new(route: Arc<str>, method: &'static str, status: StatusCode) -> Self {
        describe_counter!("http_requests_total", "requests answered");
        describe_histogram!(
            "http_request_duration_seconds",
            metrics::Unit::Seconds,
            "time until an answer begins"
        );
        let requests = counter!("http_requests_total", "method" => method,
            "route" => Arc::clone(&route), "status" => status.as_str().to_owned());
        let duration = histogram!("http_request_duration_seconds", "method" => method,
            "route" => Arc::clone(&route));
        Self { route, method, status, requests, duration }
    }

    fn record(&self, took: Duration) {
        self.requests.increment(1);
        self.duration.record(took.as_secs_f64());
    }
}

/// The method, or `other`: a client must not be able to make labels up.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
