//! Readiness: what fails it, what it costs, and what it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use dms_core::Error;
use dms_runtime::health::{CheckStatus, HealthRegistry, REPORT_LIFETIME, Status};
use dms_runtime::metrics_handle;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

async fn get(health: &HealthRegistry, path: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let answer = health.router(metrics_handle()).oneshot(request).await.expect("answered");
    assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    let kind = answer.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    let status = answer.status();
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, kind, String::from_utf8(body.to_vec()).expect("text"))
}

async fn ready(health: &HealthRegistry) -> (StatusCode, Value) {
    let (status, kind, body) = get(health, "/readyz").await;
    assert_eq!(kind, "application/json");
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test]
async fn it_is_alive_whatever_is_down() {
    let health = HealthRegistry::new();
    health.add("database", true, async || Err("gone".into()));
    let (status, _, _) = get(&health, "/healthz").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn it_is_ready_only_between_start_and_drain() {
    let health = HealthRegistry::new();
    let (status, body) = ready(&health).await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
    health.set_serving();
    let (status, body) = ready(&health).await;
    assert_eq!((status, body), (StatusCode::OK, json!({"status": "ready", "checks": {}})));
    health.set_draining();
    let (status, body) = ready(&health).await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("draining")));
}

#[tokio::test(start_paused = true)]
async fn what_is_needed_decides_and_the_rest_is_shown() {
    let health = HealthRegistry::new();
    health.add("database", true, async || Ok(()));
    health.add("search", false, async || {
        let cause = std::io::Error::other("password hunter2 refused");
        Err(Error::unavailable("search", "the index\ncannot be read").with_source(cause).into())
    });
    health.set_serving();
    let (status, body) = ready(&health).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        body,
        json!({"status": "degraded", "checks": {
            "database": {"status": "up", "needed": true, "latency_ms": 0.0},
            "search": {
                "status": "down",
                "needed": false,
                "message": "the index cannot be read",
                "latency_ms": 0.0
            },
        }})
    );
    health.add("database", true, async || Err("gone".into()));
    tokio::time::advance(REPORT_LIFETIME).await;
    let (status, body) = ready(&health).await;
    assert_eq!((status, &body["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("not_ready")));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_is_down() {
    let health = HealthRegistry::new();
    health.add("hangs", true, std::future::pending);
    health.add("hangs too", true, std::future::pending);
    health.add("panics", true, async || panic!("on purpose"));
    health.add("panics at once", true, || -> std::future::Ready<_> { panic!("on purpose") });
    health.set_serving();
    let started = tokio::time::Instant::now();
    let report = health.report().await;
    assert!(started.elapsed() < Duration::from_millis(1100), "they run side by side");
    assert_eq!(report.status, Status::NotReady);
    let message = |name: &str| report.checks[name].message.as_deref();
    assert_eq!(message("hangs"), Some("no answer within 1000 ms"));
    assert_eq!(report.checks["hangs"].latency_ms, None);
    assert_eq!(message("panics"), Some("the check panicked"));
    assert_eq!(message("panics at once"), Some("the check panicked"));
}

#[tokio::test(start_paused = true)]
async fn probing_often_runs_checks_once_in_a_while() {
    let runs = Arc::new(AtomicU32::new(0));
    let health = HealthRegistry::new();
    let counted = Arc::clone(&runs);
    health.add("database", true, move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
    });
    health.set_serving();
    let probes = (0..50).map(|_| health.report());
    for report in futures_util::future::join_all(probes).await {
        assert_eq!(report.status, Status::Ready);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    tokio::time::advance(REPORT_LIFETIME).await;
    health.report().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_gives_up_does_not_spoil_the_next() {
    let slow = Arc::new(AtomicBool::new(true));
    let health = HealthRegistry::new();
    let is_slow = Arc::clone(&slow);
    health.add("database", true, move || {
        let is_slow = is_slow.load(Ordering::SeqCst);
        async move {
            if is_slow {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    });
    health.set_serving();
    let impatient = tokio::time::timeout(Duration::from_millis(10), health.report()).await;
    assert!(impatient.is_err());
    slow.store(false, Ordering::SeqCst);
    assert_eq!(health.report().await.checks["database"].status, CheckStatus::Up);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let health = HealthRegistry::new();
    health.add("measured", true, async || Err("gone".into()));
    health.report().await;
    let (status, kind, body) = get(&health, "/metrics").await;
    assert_eq!(
        (status, kind.as_str()),
        (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8")
    );
    assert!(body.lines().any(|line| line == "dms_check_up{check=\"measured\"} 0"), "{body}");
}
