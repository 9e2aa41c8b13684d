//! What every request goes through.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};
use dms_core::ports::MockDocumentRepository;
use dms_core::{Error, RequestId};
use futures_util::StreamExt as _;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::Notify;
use tower::ServiceExt as _;
use tracing_subscriber::fmt::MakeWriter;

use super::bed::{Answer, Bed, Plan, request};
use crate::rest::{LayerOptions, Problem, layers};

async fn send(app: &Router, request: axum::extract::Request) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

async fn get_path(app: &Router, path: &str) -> Answer {
    send(app, request(Method::GET, path, &[], Body::empty())).await
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let bed = Bed::new();
    for path in ["/documents", "/nowhere", "/documents/x", "/openapi.json"] {
        let answer = bed.get_with(path, &[("x-request-id", "ab-1/2:3_4.5")]).await;
        assert_eq!(answer.header("x-request-id"), "ab-1/2:3_4.5", "{path}");
        let long = "x".repeat(129);
        for insane in ["", "a b", "<script>", long.as_str()] {
            let answer = bed.get_with(path, &[("x-request-id", insane)]).await;
            let id = answer.header("x-request-id");
            assert!(id != insane && RequestId::from_caller(id).is_some(), "{id}");
        }
        let (one, other) = (bed.get(path).await, bed.get(path).await);
        assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let bed = Bed::new();
    for path in ["/", "/nowhere", "/v1", "/v1/nowhere", "/v2/documents", "/documents/"] {
        bed.get(path).await.problem(404, "route_not_found");
    }
    for path in ["/documents", "/v1/documents"] {
        let answer = bed.delete(path, &[]).await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST,GET,HEAD");
    }
}

#[tokio::test]
async fn every_answer_is_safe_to_open() {
    let bed = Bed::new();
    for path in ["/documents", "/nowhere", "/documents/x"] {
        let answer = bed.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(
            answer.header("content-security-policy"),
            "default-src 'none'; frame-ancestors 'none'"
        );
        assert_eq!(answer.header("cache-control"), "no-store");
    }
}

fn options() -> LayerOptions {
    LayerOptions { deadline: Duration::from_secs(30), ..LayerOptions::default() }
}

#[tokio::test]
async fn a_handler_that_panics_is_an_error_inside() {
    async fn panics() -> &'static str {
        panic!("secret {}", 42)
    }
    let app = layers(Router::new().route("/panic", get(panics)), &options());
    let answer = get_path(&app, "/panic").await;
    let problem = answer.problem(500, "internal");
    assert!(!problem.to_string().contains("secret"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_misses_the_deadline_is_answered() {
    let app = Router::new().route("/stuck", get(std::future::pending::<()>));
    let answer = get_path(&layers(app, &options()), "/stuck").await;
    answer.problem(504, "timeout");
}

/// Bytes, one every ten seconds.
fn dripping(count: usize) -> Body {
    Body::from_stream(futures_util::stream::iter(0..count).then(|_| async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok::<_, io::Error>(Bytes::from_static(b"x"))
    }))
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_long_if_it_keeps_coming() {
    let app =
        Router::new().route("/upload", post(|body: Bytes| async move { body.len().to_string() }));
    let app = layers(app, &options());
    let answer = send(&app, request(Method::POST, "/upload", &[], dripping(20))).await;
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"20"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_the_clients_fault() {
    let app =
        Router::new().route("/upload", post(|body: Bytes| async move { body.len().to_string() }));
    let app = layers(app, &options());
    let stalled = dripping(2).into_data_stream().chain(futures_util::stream::pending());
    let answer =
        send(&app, request(Method::POST, "/upload", &[], Body::from_stream(stalled))).await;
    answer.problem(408, "request_timeout");
}

#[tokio::test(start_paused = true)]
async fn after_the_body_the_clock_starts_anew() {
    let slow = |_: Bytes| async { tokio::time::sleep(Duration::from_secs(25)).await };
    let stuck = |_: Bytes| std::future::pending::<()>();
    let app = Router::new().route("/slow", post(slow)).route("/stuck", post(stuck));
    let app = layers(app, &options());
    let answer = send(&app, request(Method::POST, "/slow", &[], dripping(2))).await;
    assert_eq!(answer.status, StatusCode::OK);
    let answer = send(&app, request(Method::POST, "/stuck", &[], dripping(2))).await;
    answer.problem(504, "timeout");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_at_once() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
        move || async move {
            entered.notify_one();
            leave.notified().await;
        }
    };
    let app = Router::new().route("/slow", get(handler)).route("/healthz", get(|| async {}));
    let app = layers(app, &LayerOptions { requests_max: 1, ..options() });
    let busy = tokio::spawn({
        let app = app.clone();
        async move { get_path(&app, "/slow").await }
    });
    entered.notified().await;
    for path in ["/slow", "/nowhere"] {
        let answer = get_path(&app, path).await;
        answer.problem(503, "overloaded");
        assert_eq!(answer.header("retry-after"), "1");
    }
    assert_eq!(get_path(&app, "/healthz").await.status, StatusCode::OK);
    leave.notify_one();
    assert_eq!(busy.await.unwrap().status, StatusCode::OK);
    leave.notify_one();
    assert_eq!(get_path(&app, "/slow").await.status, StatusCode::OK);
}

#[tokio::test]
async fn handlers_find_the_id_of_their_request() {
    let handler = |axum::Extension(id): axum::Extension<RequestId>| async move { id.to_string() };
    let app = layers(Router::new().route("/id", get(handler)), &options());
    let answer = send(&app, request(Method::GET, "/id", &[("x-request-id", "r-1")], Body::empty()));
    assert_eq!(answer.await.body, "r-1");
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Set for the test that runs in a process of its own.
const ALONE: &str = "DMS_TEST_ALONE";

#[tokio::test]
async fn an_error_inside_is_logged_once_in_full_and_told_to_nobody() {
    // What is enabled is remembered for the whole process, so other tests would disturb this one.
    if std::env::var_os(ALONE).is_none() {
        let name = "rest::tests::layers::an_error_inside_is_logged_once_in_full_and_told_to_nobody";
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && printed.contains("1 passed"), "{printed}");
        return;
    }
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false);
    let subscriber = subscriber.with_max_level(tracing::Level::TRACE).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut documents = MockDocumentRepository::new();
    documents.expect_list().returning(|_| {
        let cause = Error::internal("disk on fire").with_source("sector 7");
        Err(Error::internal("rows can't be read").with_source(cause))
    });
    let bed = Plan { documents: Some(Arc::new(documents)), ..Plan::default() }.build();
    let headers = [("x-request-id", "r-77"), ("authorization", "Bearer s3cret-a")];
    let answer = bed.get_with("/documents?token=s3cret-b", &headers).await;
    let problem = answer.problem(500, "internal").to_string();
    for inside in ["rows", "disk", "sector"] {
        assert!(!problem.contains(inside), "{problem}");
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let errors: Vec<_> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    for expected in ["r-77", "rows can't be read: disk on fire: sector 7", "/documents", "GET"] {
        assert!(errors[0].contains(expected), "{text}");
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn requests_are_measured_by_route_and_never_by_path() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let bed = Bed::new();
            for _ in 0..2 {
                bed.get("/documents/0198c0de-0000-7000-8000-000000000000").await;
            }
            bed.get("/v1/documents").await;
            bed.get("/made/up").await;
            let odd = Method::from_bytes(b"ODD").unwrap();
            bed.send(request(odd, "/documents", &[], Body::empty())).await;
        });
    });
    let text = handle.render();
    for line in [
        r#"http_requests_total{method="GET",route="/documents/{id}",status="404"} 2"#,
        r#"http_requests_total{method="GET",route="/v1/documents",status="200"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="404"} 1"#,
        r#"http_requests_total{method="other",route="/documents",status="405"} 1"#,
        r#"http_request_duration_seconds_count{method="GET",route="/documents/{id}"} 2"#,
    ] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
}

#[tokio::test]
async fn a_routers_own_problems_carry_what_their_kind_asks_for() {
    async fn busy() -> Problem {
        Error::unavailable("database", "no").with_retry_after(Duration::from_secs(7)).into()
    }
    let app = layers(Router::new().route("/busy", get(busy)), &options());
    let answer = get_path(&app, "/busy").await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), "7");
}
